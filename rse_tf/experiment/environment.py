"""The software that the numbers of a run depend on."""

from __future__ import annotations

import platform

import keras
import numpy as np
import tensorflow as tf

import rse_tf


def versions() -> dict[str, str]:
    """Versions of what the numbers of a run depend on."""
    return {
        "python": platform.python_version(),
        "rse_tf": rse_tf.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }

"""Robust image classifiers by random self-ensembles and ensembles of networks."""

import contextlib
import os

from rse_tf.utils.startup import is_of_use, is_own_program, without_notices

# TensorFlow's notices, not its warnings. It reads this when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

with without_notices() if is_own_program() else contextlib.nullcontext():
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "rse_tf needs Keras on the TensorFlow backend. "
        f"Received: backend {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )

tf.get_logger().addFilter(is_of_use)

from rse_tf import attacks, data, evaluation, layers, models  # noqa: E402
from rse_tf.evaluation import audit  # noqa: E402
from rse_tf.models import AveragedEnsemble, SelfEnsemble, export_classifier, robustify  # noqa: E402

__version__ = "0.3.0.dev1"
__all__ = [
    "AveragedEnsemble",
    "SelfEnsemble",
    "attacks",
    "audit",
    "data",
    "evaluation",
    "export_classifier",
    "layers",
    "models",
    "robustify",
]

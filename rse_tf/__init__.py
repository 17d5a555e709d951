"""Robust image classifiers by random self-ensembles and ensembles of networks."""

import os

# TensorFlow's start-up notices, not its warnings. It reads this when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

import keras  # noqa: E402

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "rse_tf needs Keras on the TensorFlow backend. "
        f"Received: backend {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )

from rse_tf import attacks, data, evaluation, layers, models  # noqa: E402
from rse_tf.evaluation import audit  # noqa: E402
from rse_tf.models import AveragedEnsemble, SelfEnsemble, export_classifier, robustify  # noqa: E402

__version__ = "0.3.0.dev0"
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

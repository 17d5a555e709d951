"""Robust image classifiers by random self-ensembles and ensembles of networks."""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "rse_tf needs Keras on the TensorFlow backend. "
        f"Received: backend {keras.backend.backend()!r}; set KERAS_BACKEND=tensorflow"
    )

from rse_tf import attacks, layers, models  # noqa: E402
from rse_tf.models import AveragedEnsemble, SelfEnsemble, robustify  # noqa: E402

__version__ = "0.1.0"
__all__ = ["AveragedEnsemble", "SelfEnsemble", "attacks", "layers", "models", "robustify"]

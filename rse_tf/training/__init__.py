"""The training loop and the store of trained models."""

from rse_tf.training.devices import STRATEGIES, enable_memory_growth, make_strategy
from rse_tf.training.hyperparameters import DTYPE_POLICIES, OPTIMIZERS, SCHEDULES, TrainingSettings
from rse_tf.training.loop import Loop, TrainingDivergedError, TrainingError
from rse_tf.training.objectives import CrossEntropy, Objective
from rse_tf.training.trainer import NotTrainedError, Trainer, weights_digest

__all__ = [
    "CrossEntropy",
    "DTYPE_POLICIES",
    "Loop",
    "NotTrainedError",
    "OPTIMIZERS",
    "Objective",
    "SCHEDULES",
    "STRATEGIES",
    "Trainer",
    "TrainingDivergedError",
    "TrainingError",
    "TrainingSettings",
    "make_strategy",
    "enable_memory_growth",
    "weights_digest",
]

"""The training loop and the store of trained models."""

from rse_tf.training.devices import STRATEGIES, make_strategy, use_gpus_politely
from rse_tf.training.loop import Loop, TrainingDivergedError, TrainingError
from rse_tf.training.objectives import CrossEntropy, Objective
from rse_tf.training.settings import DTYPE_POLICIES, OPTIMIZERS, SCHEDULES, TrainingSettings
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
    "use_gpus_politely",
    "weights_digest",
]

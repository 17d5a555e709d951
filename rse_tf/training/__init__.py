"""The training loop and the store of trained models."""

from rse_tf.training.devices import STRATEGIES, make_strategy, use_gpus_politely
from rse_tf.training.loop import Loop, TrainingDivergedError, TrainingError
from rse_tf.training.settings import DTYPE_POLICIES, SCHEDULES, TrainingSettings
from rse_tf.training.trainer import NotTrainedError, Trainer

__all__ = [
    "DTYPE_POLICIES",
    "Loop",
    "NotTrainedError",
    "SCHEDULES",
    "STRATEGIES",
    "Trainer",
    "TrainingDivergedError",
    "TrainingError",
    "TrainingSettings",
    "make_strategy",
    "use_gpus_politely",
]

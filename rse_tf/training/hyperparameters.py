"""How a network is trained."""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.data import AUGMENTATIONS
from rse_tf.utils.options import check_options, option
from rse_tf.utils.rules import AT_LEAST_1, NOT_NEGATIVE, POSITIVE

SCHEDULES = ("paper", "one_cycle", "constant")
OPTIMIZERS = ("sgd", "adam")
DTYPE_POLICIES = ("float32", "mixed_bfloat16")

# Liu et al. (2018): a tenth of the learning rate after 80, 140 and 180 of 200 epochs.
_PAPER_DROPS = (80 / 200, 140 / 200, 180 / 200)
# One cycle: linear from a 25th of the peak over the first 15 %, then a cosine to zero.
_WARM_UP, _START = 0.15, 1 / 25


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """Everything but the network and the data that a trained model follows from.

    Attributes:
        epochs: passes over the training images. 200 in Liu et al. (2018).
        batch_size: images per step, over all replicas. Default 128 (Liu et al.).
        optimizer: `"sgd"` with momentum (Liu et al.) or `"adam"`. Strauss et al. name none.
        learning_rate: peak learning rate. Default 0.1 (Liu et al.).
        schedule: `"paper"`: divided by 10 after 40 %, 70 % and 90 % of the epochs, as after 80,
            140 and 180 of 200. `"one_cycle"`: warm-up and cosine decay, for small budgets.
            `"constant"`: the same rate throughout.
        momentum: of SGD. Default 0.9 (Liu et al.).
        weight_decay: factor of the weights that is added to their gradient. Default 5e-4
            (Liu et al.).
        augmentation: `"crop_flip"` (Liu et al.) or `"none"`.
        dtype_policy: `"float32"` or `"mixed_bfloat16"`. The trained model is float32.
        seed: initial weights, order, crops and noise follow from it.

    Raises:
        ValueError: if a setting is not one of the above.
    """

    epochs: int = option(
        by_dataset="epochs", rule=AT_LEAST_1, help="passes over the training images"
    )
    batch_size: int = option(128, rule=AT_LEAST_1, help="images per step, over all devices")
    optimizer: str = option("sgd", choices=OPTIMIZERS, help="optimizer")
    learning_rate: float = option(
        0.1, by_dataset="learning_rate", rule=POSITIVE, help="peak learning rate"
    )
    schedule: str = option(
        "paper", by_dataset="schedule", choices=SCHEDULES, help="learning rate schedule"
    )
    momentum: float = 0.9
    weight_decay: float = option(
        5e-4, rule=NOT_NEGATIVE, help="factor of the weights in their gradient"
    )
    augmentation: str = option(
        "crop_flip", by_dataset="augmentation", choices=AUGMENTATIONS, help="of the training images"
    )
    dtype_policy: str = option("float32", choices=DTYPE_POLICIES, help="precision of the training")
    seed: int = 0

    def __post_init__(self) -> None:
        check_options(self)

    def make_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns the optimizer with its schedule."""
        rate = self.learning_rate_schedule(steps_per_epoch)
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, self.momentum)
        return keras.optimizers.Adam(rate)

    def learning_rate_schedule(
        self, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule | float:
        """Returns the learning rate as a function of the step."""
        steps = self.epochs * steps_per_epoch
        if self.schedule == "paper":
            # The last step at the old rate; steps count from 0.
            drops = [round(share * steps) - 1 for share in _PAPER_DROPS]
            rates = [self.learning_rate / 10**i for i in range(4)]
            return keras.optimizers.schedules.PiecewiseConstantDecay(drops, rates)
        if self.schedule == "one_cycle":
            warm_up = max(round(_WARM_UP * steps), 1)
            return keras.optimizers.schedules.CosineDecay(
                self.learning_rate * _START,
                max(steps - warm_up, 1),
                warmup_target=self.learning_rate,
                warmup_steps=warm_up,
            )
        return self.learning_rate

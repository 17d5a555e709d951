"""How a network is trained."""

from __future__ import annotations

import dataclasses

import keras

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
    """

    epochs: int
    batch_size: int = 128
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    schedule: str = "paper"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    augmentation: str = "crop_flip"
    dtype_policy: str = "float32"
    seed: int = 0

    def make_optimizer(self, steps_per_epoch: int) -> keras.optimizers.Optimizer:
        """Returns the optimizer with its schedule.

        Raises:
            ValueError: if `optimizer` or `schedule` is not one of those above.
        """
        rate = self.learning_rate_schedule(steps_per_epoch)
        if self.optimizer == "sgd":
            return keras.optimizers.SGD(rate, self.momentum)
        if self.optimizer == "adam":
            return keras.optimizers.Adam(rate)
        raise ValueError(
            f"TrainingSettings: optimizer must be one of {OPTIMIZERS}. "
            f"Received: optimizer={self.optimizer!r}"
        )

    def learning_rate_schedule(
        self, steps_per_epoch: int
    ) -> keras.optimizers.schedules.LearningRateSchedule | float:
        """Returns the learning rate as a function of the step.

        Raises:
            ValueError: if `schedule` is not one of `SCHEDULES`.
        """
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
        if self.schedule == "constant":
            return self.learning_rate
        raise ValueError(
            f"TrainingSettings: schedule must be one of {SCHEDULES}. "
            f"Received: schedule={self.schedule!r}"
        )

"""The basic iterative method."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from rse_tf.attacks.gradient_sign import GradientSign
from rse_tf.utils.options import option


@dataclasses.dataclass(frozen=True)
class BIM(GradientSign):
    """Repeated small FGSM steps, each clipped to the L-infinity ball and the bounds.

    Args:
        model: callable from images to logits.
        epsilon: largest L-infinity distance, in pixel units. Strauss et al. (2017) use 0.2 on
            MNIST and 0.02 on CIFAR-10.
        step_size: length of a step. Default epsilon / 8: 0.025 and 0.0025 there.
        steps: number of steps; 8 there.

    Raises:
        ValueError: if `epsilon` or `step_size` is negative or not finite, or `steps` is not a
            positive integer.

    Reference:
        Kurakin, Goodfellow and Bengio (2016), arXiv:1607.02533.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    step_size: float | None = option(None, is_length=True, help="length of a step")
    steps: int = option(8, flag="attack_steps", help="number of steps")
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "step_size", "steps")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_step()

    def _defaults(self) -> dict[str, Any]:
        return {"step_size": self.epsilon * (1 / 8)}

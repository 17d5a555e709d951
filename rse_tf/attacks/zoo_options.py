"""Options of ZOO that C&W does not have."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np

from rse_tf.attacks.carlini_wagner import CarliniWagnerL2
from rse_tf.utils.options import option

SOLVERS = ("adam", "newton")
NOISE = ("fresh", "common")
_DEFAULT_H = {"adam": 1e-4, "newton": 1e-2}


@dataclasses.dataclass(frozen=True)
class ZOOOptions(CarliniWagnerL2):
    """Base of `ZOO`, which says what each option is.

    Raises:
        ValueError: if an argument is out of its range.
    """

    steps: int = option(1000, flag="attack_steps", help="number of steps")
    learning_rate: float | None = option(None, flag="attack_learning_rate", help="rate of Adam")
    coordinates: int = option(128, quiet=True, help="coordinates per step")
    solver: str = option("adam", choices=SOLVERS, quiet=True, help="solver")
    h: float | None = None
    importance_sampling: bool = option(
        False, help="prefer coordinates near which the image has changed"
    )
    resize: tuple[int, ...] = option(
        (), quiet=True, help="sizes that the perturbation grows through, such as 32,64"
    )
    tanh_space: bool = False
    noise: str = option(
        "fresh",
        flag="query_noise",
        choices=NOISE,
        quiet=True,
        help="whether the sides of a difference see the same noise",
    )
    seed: int = 0
    max_rows: int = 1024
    scalars: ClassVar[tuple[str, ...]] = (*CarliniWagnerL2.scalars, "h", "seed")
    # It differentiates nothing.
    gradients: ClassVar[tuple[str, ...]] = ("mean_probability",)
    cache_version: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, smallest in (("coordinates", 1), ("seed", 0), ("max_rows", 1)):
            self._check_integer(name, smallest)
        self._check_choice("solver")
        self._check_choice("noise")
        for name in ("importance_sampling", "tanh_space"):
            if not isinstance(getattr(self, name), bool):
                raise self._error(name, "True or False", getattr(self, name))
        if self.h is not None:
            check = self._check_number if self.tanh_space else self._check_length
            check("h", positive=True)
        sides = np.asarray(self.resize)
        if sides.size and (
            sides.dtype.kind != "i" or sides.ndim != 1 or sides[0] < 1 or (np.diff(sides) < 1).any()
        ):
            raise self._error("resize", "rising positive integers", self.resize)
        object.__setattr__(self, "resize", tuple(int(side) for side in sides))
        if self.noise == "common" and not callable(getattr(self.model, "redraw", None)):
            expected = (
                "a model with a method redraw() when noise='common'; wrap it, for example in "
                "rse_tf.layers.CommonNoise"
            )
            raise self._error("model", expected, self.model)

    def _defaults(self) -> dict[str, Any]:
        unit = self._unit
        own = {
            "iterate": "best",
            "initial_const": 1e-2 * self._range**2,
            "learning_rate": 1e-2 * (unit if self.solver == "adam" else 1.0),
        }
        own = {name: own.get(name, value) for name, value in super()._defaults().items()}
        return own | {"h": _DEFAULT_H[self.solver] * unit}

    @classmethod
    def for_model(cls, point: dict[str, Any], is_random: bool) -> dict[str, Any]:
        """See `Attack`; the queries of a model without noise have nothing in common."""
        if "noise" in point and not is_random:
            return {**point, "noise": "fresh"}
        return super().for_model(point, is_random)

    @property
    def _unit(self) -> float:
        """The unit of the modifier: pixels have a range, tanh space has none."""
        return 1.0 if self.tanh_space else self._range

    def _check_images(self, images: Any) -> np.ndarray:
        images = super()._check_images(images)
        if (self.resize or self.importance_sampling) and images.ndim != 4:
            raise self._error("images", "[batch, height, width, channels]", images.shape)
        if self.resize and self.resize[-1] >= min(images.shape[1:3]):
            raise self._error("resize", f"smaller than the images {images.shape}", self.resize)
        return images

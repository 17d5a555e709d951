"""Options of the attacks on the logit margin: a fixed c, or a search for it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rse_tf.attacks.base import Attack
from rse_tf.attacks.facts import GRADIENTS_OF_ONE
from rse_tf.attacks.margin import warn_of_a_const_for_unit_pixels
from rse_tf.utils.checks import argument_error
from rse_tf.utils.options import Option, option


@dataclasses.dataclass(frozen=True)
class MarginAttack(Attack):
    """Base of the attacks on the margin; `CarliniWagnerL2` says what each option is.

    Raises:
        ValueError: if an argument is out of its range, or if `const` is given beside one of the
            search, or `iterate` without it.
    """

    const: float | None = option(None, sweep=True, by_dataset="const", help="one row for each c")
    iterate: str | None = option(
        None, choices=("last", "best"), help="keep the last or the best iterate"
    )
    steps: int = option(300, flag="attack_steps", help="number of steps")
    learning_rate: float | None = option(
        None, flag="attack_learning_rate", by_dataset="attack_learning_rate", help="rate of Adam"
    )
    confidence: float = option(0.0, help="margin to win by, in logits")
    binary_search_steps: int | None = option(None, help="steps of the search for c")
    initial_const: float | None = option(None, help="where the search for c starts")
    abort_early: bool | None = None
    scalars: ClassVar[tuple[str, ...]] = (
        "const",
        "steps",
        "learning_rate",
        "confidence",
        "binary_search_steps",
        "initial_const",
    )
    gradients: ClassVar[tuple[str, ...]] = GRADIENTS_OF_ONE
    cache_version: ClassVar[int] = 1
    switches: ClassVar[Mapping[str, Option]] = {
        "binary_search": Option("search c for each image instead")
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.iterate is not None:
            self._check_choice("iterate")
        self._check_integer("steps", 1)
        self._check_number("confidence")
        if self.binary_search_steps is not None:
            self._check_integer("binary_search_steps", 1)
        for name in ("learning_rate", "initial_const"):
            if getattr(self, name) is not None:
                self._check_number(name, positive=True)
        if self.const is not None:
            self._check_number("const")
        self._check_either_const_or_search()
        warn_of_a_const_for_unit_pixels(type(self).__name__, self.const, self.bounds)

    def _check_either_const_or_search(self) -> None:
        if self.const is None and self.iterate is not None:
            expected = "None without const: the binary search returns the closest image"
            raise self._error("iterate", expected, self.iterate)
        for name in ("binary_search_steps", "initial_const"):
            if self.const is not None and getattr(self, name) is not None:
                expected = f"None beside const={self.const}, which is not searched for"
                raise self._error(name, expected, getattr(self, name))

    @property
    def _range(self) -> float:
        return self.bounds[1] - self.bounds[0]

    @classmethod
    def run_defaults(
        cls, of_dataset: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See `Attack`. A fixed c follows Liu et al.; the search the reference, but for its steps.

        It makes 1,000 steps per descent instead of 10,000.
        """
        searches = given.get("binary_search", False)
        for name in ("const", "iterate") if searches else ("binary_search_steps", "initial_const"):
            if name in given:
                expected = f"left out {'with' if searches else 'without'} binary_search"
                raise argument_error(cls.__name__, name, expected, given[name])
        defaults = super().run_defaults(of_dataset, given)
        if searches:
            defaults |= {"const": (None,), "steps": 1000, "learning_rate": 1e-2}
        return defaults

    @classmethod
    def for_model(cls, point: dict[str, Any], is_random: bool) -> dict[str, Any]:
        """See `Attack`; by single draws, the end of a descent would be a matter of luck."""
        searches = "const" not in point
        return {**point, "abort_early": False} if searches and is_random else point

    def _defaults(self) -> dict[str, Any]:
        if self.const is not None:
            return {"learning_rate": 1e-3, "iterate": "last"}
        search = {"binary_search_steps": 9, "initial_const": 1e-3 * self._range**2}
        return {"learning_rate": 1e-3, **search}

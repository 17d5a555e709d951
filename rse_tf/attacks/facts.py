"""The facts of an attack that a run needs, stated by the attack's own class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from rse_tf.utils.checks import argument_error
from rse_tf.utils.options import Option, options_of

# The loss of an ensemble that the attacker differentiates; the first two are Grad. 1 and Grad. 2 of
# Strauss et al. (2017), section 3.
GRADIENTS = ("member", "mean_loss", "mean_probability", "mean_logits", "reweighted")
# Those of an attack on one set of logits, which knows no loss of the members of an ensemble.
GRADIENTS_OF_ONE = tuple(name for name in GRADIENTS if name != "mean_loss")


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """The facts of an attack that the command line, the rows and the cache follow.

    A field made by `rse_tf.utils.options.option` is a flag of the command line too. Besides, the
    class says:

    - `has_targets`: whether it can aim at a class. Default yes.
    - `gradients`: what of an ensemble it can differentiate. Default all of `GRADIENTS`.
    - `on_random_member`: whether it attacks an ensemble of which one member at random answers, so
      that its images are scored by each member too. Default no.
    - `cache_version`: part of the name under which its images are kept. Raise it when the same
      settings no longer give the same images, and the package's version with it.
    - `switches`: flags that are no fields; `run_defaults` sees them.
    """

    has_targets: ClassVar[bool] = True
    gradients: ClassVar[tuple[str, ...]] = GRADIENTS
    on_random_member: ClassVar[bool] = False
    cache_version: ClassVar[int] = 0
    switches: ClassVar[Mapping[str, Option]] = {}

    @classmethod
    def run_defaults(
        cls, of_dataset: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The options of a run where no flag sets them, but for the quiet ones.

        Args:
            of_dataset: the defaults of the data set, of which an option names its own.
            given: the options and switches that are set. A swept one has several values.

        Raises:
            ValueError: if what is given does not go together.
        """
        found = {}
        for name, own in options_of(cls).items():
            value = cls.__dataclass_fields__[name].default
            if own.by_dataset is not None:
                value = of_dataset[own.by_dataset]
                if own.is_length and given.get("norm") == "l2" and name not in given:
                    expected = "given beside norm=l2: the defaults are L-infinity distances"
                    raise argument_error(cls.__name__, name, expected, None)
            if own.quiet or value is dataclasses.MISSING:
                continue
            found[name] = (value,) if own.sweep and not isinstance(value, tuple) else value
        return found

    @classmethod
    def for_model(cls, point: dict[str, Any], is_random: bool) -> dict[str, Any]:
        """The settings of a run as they are for a model that is randomised, or is not."""
        randomised_only = {name for name, own in options_of(cls).items() if own.randomised_only}
        return {k: v for k, v in point.items() if is_random or k not in randomised_only}

    def hyperparameters(self) -> dict[str, Any]:
        """The options, each by its value; those at `None` by what they are then, if anything."""
        values = {name: getattr(self, name) for name in options_of(type(self))}
        values = self._defaults() | {name: v for name, v in values.items() if v is not None}
        return {name: values[name] for name in options_of(type(self)) if name in values}

    def _defaults(self) -> dict[str, Any]:
        """The hyperparameters that may be `None`, by what they are then."""
        return {}

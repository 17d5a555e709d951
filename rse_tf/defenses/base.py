"""The common base of all defenses."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import keras

from rse_tf.models import NetworkSpec
from rse_tf.training import Objective, Trainer
from rse_tf.utils.options import check_options, default_values, option, options_of
from rse_tf.utils.rules import NOT_NEGATIVE


@dataclasses.dataclass(frozen=True)
class Defense(abc.ABC):
    """Trains a network so that it withstands attacks.

    A subclass is a frozen dataclass of its settings. Those made by
    `rse_tf.utils.options.option` are flags of the command line, and rows tell them.
    `changes_network` says whether it needs other layers or other initial weights, which a model of
    a file does not have.

    Raises:
        ValueError: if an option breaks its rule.
    """

    changes_network: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_options(self)

    @abc.abstractmethod
    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        """Trains the defense, or looks it up; returns its classifier in float32.

        Args:
            spec: the network, with the noise of RSE.
            trainer: trains and keeps networks.
        """

    def settings(self) -> dict[str, Any]:
        """The options by the names of their flags, as rows tell them."""
        own = options_of(type(self))
        return {option.flag or field: getattr(self, field) for field, option in own.items()}

    @classmethod
    def run_defaults(cls, of_dataset: Mapping[str, Any], epochs: int) -> dict[str, Any]:
        """The flags that have no fixed default, by what they are where no flag sets them.

        Args:
            of_dataset: the defaults of the data set.
            epochs: of the run's trainings.
        """
        return default_values(cls, of_dataset)


@dataclasses.dataclass(frozen=True)
class ObjectiveDefense(Defense):
    """A defense that is a loss: it trains any network by that, also the noisy one of RSE.

    Attributes:
        with_noise: whether the network has the noise of RSE, as `rse+fast_training` asks for. An
            attack inside the loss then meets fresh noise at each of its steps. Default False.
    """

    with_noise: bool = dataclasses.field(default=False, kw_only=True)

    @abc.abstractmethod
    def objective(self) -> Objective:
        """What the network is trained to minimise."""

    def train(self, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        return trainer.fit(spec if self.with_noise else spec.without_noise(), self.objective())


def training_epsilon_option() -> Any:
    """Returns the field of `--training_epsilon`, which all trainings on attacked images share."""
    return option(
        0.03,
        by_dataset="training_epsilon",
        rule=NOT_NEGATIVE,
        is_length=True,
        help="L-infinity distance of the images to train on",
    )

"""Ensembles of networks, and how their members differ from each other.

Reference: Strauss et al. (2017), arXiv:1709.03423, section 3.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar

import keras
import numpy as np

from rse_tf.data import Split
from rse_tf.defenses.base import Defense
from rse_tf.defenses.none import NoDefense
from rse_tf.models import AveragedEnsemble, NetworkSpec
from rse_tf.training import Trainer
from rse_tf.utils import seeds
from rse_tf.utils.options import option
from rse_tf.utils.rules import AT_LEAST_1, NOT_NEGATIVE

Member = tuple[NetworkSpec, Trainer]


@dataclasses.dataclass(frozen=True)
class Ensemble(Defense):
    """Several networks whose probabilities are averaged.

    Members are trained one after the other and kept one by one. So a training that was killed
    goes on with the member it was at, and other ensembles find them.

    Attributes:
        members: number of networks. Default 10 (Strauss et al.).
        defense: how each of them is trained. Default: without defense.
        label: what the progress lines call it.
    """

    members: int = option(10, rule=AT_LEAST_1, help="networks in an ensemble")
    defense: Defense = NoDefense()
    label: str = "ensemble"
    changes_network: ClassVar[bool] = True

    @abc.abstractmethod
    def member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> Member:
        """Returns the network and the trainer of one member, made from those of all.

        Args:
            number: which member, from 0.
            spec, trainer: as for `train`.
        """

    def train(self, spec: NetworkSpec, trainer: Trainer) -> AveragedEnsemble:
        numbers = range(self.members)
        return AveragedEnsemble([self.train_member(n, spec, trainer) for n in numbers])

    def train_member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> keras.Model:
        """Trains one member, or looks it up; returns its classifier.

        Args:
            number: which member, from 0 to `members` - 1.
            spec, trainer: as for `train`.
        """
        spec, trainer = self.member(number, spec, trainer)
        label = f"{self.label}, member {number + 1}/{self.members}"
        return self.defense.train(spec, dataclasses.replace(trainer, label=label))

    def settings(self) -> dict[str, Any]:
        """As for any defense; of the number of members, rows have a column of its own."""
        own = super().settings()
        del own["members"]
        return own | self.defense.settings()


@dataclasses.dataclass(frozen=True)
class RandomInit(Ensemble):
    """(i) The same network and images; other initial weights, order of images and dropout."""

    def member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> Member:
        if number > 0:  # the first one is the network without defense
            entropy = np.random.SeedSequence([trainer.settings.seed, number])
            own = dataclasses.replace(trainer.settings, seed=int(entropy.generate_state(1)[0]))
            trainer = dataclasses.replace(trainer, settings=own)
        return spec, trainer


@dataclasses.dataclass(frozen=True)
class Mixed(RandomInit):
    """(ii) "Extra filters in one classifier or an extra convolution layer in another".

    Which ones is not published. Here the first member is the network itself; then, in turn, the
    first convolution has 8, 16, ... filters more, or a convolution of 8, 16, ... filters goes in
    front.
    """

    def member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> Member:
        extra = 8 * ((number + 1) // 2)
        if number % 2:
            spec = dataclasses.replace(spec, extra_filters=extra)
        else:
            spec = dataclasses.replace(spec, extra_convolution=extra)
        return super().member(number, spec, trainer)


@dataclasses.dataclass(frozen=True)
class Bagging(RandomInit):
    """(iii) A bootstrap replicate of the training images: about 63.2 % of them, some repeated."""

    def member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> Member:
        train = trainer.dataset.train
        rng = np.random.default_rng([seeds.BAGGING, trainer.settings.seed, number])
        replicate = train[rng.integers(len(train), size=len(train))]
        return super().member(number, spec, _on(trainer, replicate))


@dataclasses.dataclass(frozen=True)
class GaussNoise(RandomInit):
    """(iv) Gaussian noise, added once to the training images and clipped to [0, 1].

    Attributes:
        member_noise: standard deviation of the noise, in pixel units. Strauss et al. say "small".
            Default 0.1.
    """

    member_noise: float = option(
        0.1,
        by_dataset="member_noise",
        rule=NOT_NEGATIVE,
        help="noise added once to the images of each member",
    )

    def member(self, number: int, spec: NetworkSpec, trainer: Trainer) -> Member:
        train = trainer.dataset.train
        rng = np.random.default_rng([seeds.GAUSS_NOISE, trainer.settings.seed, number])
        noise = rng.standard_normal(train.images.shape, np.float32)
        noisy = np.clip(train.images + np.float32(self.member_noise) * noise, 0, 1)
        return super().member(number, spec, _on(trainer, Split(noisy, train.labels)))


def _on(trainer: Trainer, train: Split) -> Trainer:
    return dataclasses.replace(trainer, dataset=dataclasses.replace(trainer.dataset, train=train))

"""How the members of an ensemble differ from each other.

Reference: Strauss et al. (2017), arXiv:1709.03423, section 3. Every way is a function from a
member's number, the network and its trainer to the network and the trainer of that member, so
that it goes with any training of a member.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from rse_tf.data import Split
from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import NetworkSpec
from rse_tf.training import Trainer
from rse_tf.utils import seeds

Member = tuple[NetworkSpec, Trainer]


def random_init(
    number: int, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings
) -> Member:
    """(i) The same network and images; other initial weights, order of images and dropout."""
    if number > 0:  # the first one is the network without defense
        seed = int(np.random.SeedSequence([trainer.settings.seed, number]).generate_state(1)[0])
        own = dataclasses.replace(trainer.settings, seed=seed)
        trainer = dataclasses.replace(trainer, settings=own)
    return spec, trainer


def mixed(number: int, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> Member:
    """(ii) "Extra filters in one classifier or an extra convolution layer in another".

    Which ones is not published. Here the first member is the network itself; then, in turn, the
    first convolution has 8, 16, ... filters more, or a convolution of 8, 16, ... filters goes in
    front.
    """
    extra = 8 * ((number + 1) // 2)
    if number % 2:
        spec = dataclasses.replace(spec, extra_filters=extra)
    else:
        spec = dataclasses.replace(spec, extra_convolution=extra)
    return random_init(number, spec, trainer, settings)


def bagging(number: int, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings) -> Member:
    """(iii) A bootstrap replicate of the training images: about 63.2 % of them, some repeated."""
    train = trainer.dataset.train
    rng = np.random.default_rng([seeds.BAGGING, trainer.settings.seed, number])
    replicate = train[rng.integers(len(train), size=len(train))]
    return random_init(number, spec, _on(trainer, replicate), settings)


def gauss_noise(
    number: int, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings
) -> Member:
    """(iv) Gaussian noise, added once to the training images and clipped to [0, 1]."""
    train = trainer.dataset.train
    rng = np.random.default_rng([seeds.GAUSS_NOISE, trainer.settings.seed, number])
    noise = rng.standard_normal(train.images.shape, np.float32)
    noisy = np.clip(train.images + np.float32(settings.member_noise) * noise, 0, 1)
    return random_init(number, spec, _on(trainer, Split(noisy, train.labels)), settings)


def _on(trainer: Trainer, train: Split) -> Trainer:
    return dataclasses.replace(trainer, dataset=dataclasses.replace(trainer.dataset, train=train))

"""Defenses by name. Each trains networks, or looks them up, and returns a classifier.

A classifier is a `keras.Model` from images `[batch, height, width, channels]` in [0, 1] to
logits `[batch, classes]`. Averaging over noise is the business of the scoring.

A defense is a way to train one network, an ensemble of networks trained without defense, or a
combination of both: `ensemble_bagging+adversarial_training`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras

from rse_tf.defenses import (
    adversarial_retraining,
    adversarial_training,
    distillation,
    ensembles,
    none,
    robust_opt_brelu,
    rse,
)
from rse_tf.defenses.settings import DefenseSettings
from rse_tf.models import AveragedEnsemble, NetworkSpec
from rse_tf.training import Trainer

DEFENSES: dict[str, Callable[[NetworkSpec, Trainer, DefenseSettings], keras.Model]] = {
    "adversarial_retraining": adversarial_retraining.train,
    "adversarial_training": adversarial_training.train,
    "distillation": distillation.train,
    "none": none.train,
    "robust_opt_brelu": robust_opt_brelu.train,
    "rse": rse.train,
    "rse_test_noise_only": rse.test_noise_only,
    "rse_train_noise_only": rse.train_noise_only,
}
ENSEMBLES: dict[
    str, Callable[[int, NetworkSpec, Trainer, DefenseSettings], ensembles.Member]
] = {
    "ensemble_bagging": ensembles.bagging,
    "ensemble_gauss_noise": ensembles.gauss_noise,
    "ensemble_mixed": ensembles.mixed,
    "ensemble_random_init": ensembles.random_init,
}


def is_defense(name: str) -> bool:
    """Whether `name` is a defense, an ensemble, or an ensemble + a defense."""
    first, plus, second = name.partition("+")
    return second in DEFENSES and first in ENSEMBLES if plus else first in DEFENSES | ENSEMBLES


def is_ensemble(name: str) -> bool:
    """Whether `name` is an ensemble, or an ensemble + a defense."""
    return is_defense(name) and name.partition("+")[0] in ENSEMBLES


def train(
    name: str, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings
) -> keras.Model:
    """Trains a defense, or looks it up.

    Members of an ensemble are trained one after the other and kept one by one, so a training
    that was killed goes on with the member it was at, and other ensembles find them.

    Args:
        name: `"rse"`, `"ensemble_bagging"`, `"ensemble_bagging+rse"` and the like.
        spec: the network, with the noise of RSE.
        trainer: trains and keeps networks.
        settings: of the defenses.

    Returns:
        The network, or an `AveragedEnsemble` of networks.

    Raises:
        KeyError: if `name` is not a defense.
    """
    if not is_defense(name):
        raise KeyError(name)
    if not is_ensemble(name):
        return DEFENSES[name](spec, trainer, settings)
    numbers = range(settings.members)
    return AveragedEnsemble([train_member(name, n, spec, trainer, settings) for n in numbers])


def train_member(
    name: str, number: int, spec: NetworkSpec, trainer: Trainer, settings: DefenseSettings
) -> keras.Model:
    """Trains one member of an ensemble, or looks it up.

    Args:
        name: an ensemble, or an ensemble + a defense.
        number: which member, from 0 to `settings.members` - 1.
        spec, trainer, settings: as for `train`.

    Raises:
        KeyError: if `name` is not an ensemble.
    """
    first, _, second = name.partition("+")
    own_spec, own_trainer = ENSEMBLES[first](number, spec, trainer, settings)
    label = f"{name}, member {number + 1}/{settings.members}"
    own_trainer = dataclasses.replace(own_trainer, label=label)
    return DEFENSES[second or "none"](own_spec, own_trainer, settings)


__all__ = [
    "DEFENSES",
    "DefenseSettings",
    "ENSEMBLES",
    "is_defense",
    "is_ensemble",
    "train",
    "train_member",
]

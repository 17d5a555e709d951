"""Defenses by name. Each trains networks, or looks them up, and returns a classifier.

A classifier is a `keras.Model` from images `[batch, height, width, channels]` in [0, 1] to
logits `[batch, classes]`. Averaging over noise is the business of the scoring.

A defense is a way to train one network, an ensemble of networks trained without defense, or a
combination of both: `ensemble_bagging+adversarial_training`. A way to train one network may be
RSE with the loss of another defense, if that is an `ObjectiveDefense`: `rse+fast_training` trains
the noisy network by it, and `ensemble_bagging+rse+fast_training` several of them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rse_tf.defenses.adversarial_retraining import FGSMRetraining
from rse_tf.defenses.adversarial_training import FGSMTraining
from rse_tf.defenses.base import Defense, ObjectiveDefense
from rse_tf.defenses.consistency import ConsistentRSE
from rse_tf.defenses.distillation import DefensiveDistillation
from rse_tf.defenses.ensembles import Bagging, Ensemble, GaussNoise, Mixed, RandomInit
from rse_tf.defenses.fast_training import FastTraining
from rse_tf.defenses.none import NoDefense
from rse_tf.defenses.pgd_training import PGDTraining
from rse_tf.defenses.robust_opt_brelu import RobustOptimisation
from rse_tf.defenses.rse import RSE, RSETestNoiseOnly, RSETrainNoiseOnly
from rse_tf.utils.options import Flag, from_flags, settings_flags, union_of_flags

ENSEMBLES: dict[str, type[Ensemble]] = {
    "ensemble_random_init": RandomInit,
    "ensemble_mixed": Mixed,
    "ensemble_bagging": Bagging,
    "ensemble_gauss_noise": GaussNoise,
}
DEFENSES: dict[str, type[Defense]] = {
    "none": NoDefense,
    "rse": RSE,
    "rse_train_noise_only": RSETrainNoiseOnly,
    "rse_test_noise_only": RSETestNoiseOnly,
    "distillation": DefensiveDistillation,
    "adversarial_training": FGSMTraining,
    "adversarial_retraining": FGSMRetraining,
    "robust_opt_brelu": RobustOptimisation,
    "pgd_training": PGDTraining,
    "fast_training": FastTraining,
    "consistency": ConsistentRSE,
}


def is_defense(name: str) -> bool:
    """Whether `name` is a way to train one network, an ensemble, or an ensemble + such a way."""
    first, plus, second = name.partition("+")
    if first in ENSEMBLES:
        return not plus or _trains_one_network(second)
    return _trains_one_network(name)


def _trains_one_network(name: str) -> bool:
    """Whether `name` is a defense, or RSE + one that is a loss."""
    first, plus, second = name.partition("+")
    if not plus:
        return name in DEFENSES
    return first == "rse" and issubclass(DEFENSES.get(second, Defense), ObjectiveDefense)


def make(name: str, flags: Mapping[str, Any] | None = None) -> Defense:
    """Returns a defense of the settings that flags give it.

    Args:
        name: `"rse"`, `"rse+fast_training"`, `"ensemble_bagging+rse"` and the like.
        flags: values of flags of defenses by name. Those of other defenses lie idle.

    Raises:
        KeyError: if `name` is not a defense.
        TypeError: if a flag is of no defense.
        ArgumentError: if a setting cannot be. Its name is that of the flag.
    """
    if not is_defense(name):
        raise KeyError(name)
    given = dict(flags or {})
    unknown = sorted(set(given) - set(defense_flags()))
    if unknown:
        raise TypeError(f"no defense has a flag of this name. Received: {', '.join(unknown)}")
    first, _, second = name.partition("+")
    if first in ENSEMBLES:
        own = make(second or "none", given)
        return from_flags(ENSEMBLES[first], given, defense=own, label=name)
    if second:
        return from_flags(DEFENSES[second], given, with_noise=True)
    return from_flags(DEFENSES[first], given)


def defense_flags() -> dict[str, Flag]:
    """Returns the flags of all registered defenses by name.

    Raises:
        TypeError: if defenses disagree on the type or the default of a flag.
    """
    return _flags(tuple((ENSEMBLES | DEFENSES).items()))


@functools.lru_cache
def _flags(defenses: tuple[tuple[str, type[Defense]], ...]) -> dict[str, Flag]:
    return union_of_flags((name, settings_flags(cls)) for name, cls in defenses)


def run_defaults(of_dataset: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Returns the flags of defenses that have no fixed default, by what they are in a run.

    Args:
        of_dataset: the defaults of the data set.
        epochs: of the run's trainings.

    Raises:
        TypeError: if defenses disagree on one.
    """
    found: dict[str, Any] = {}
    for cls in (ENSEMBLES | DEFENSES).values():
        for name, value in cls.run_defaults(of_dataset, epochs).items():
            if found.setdefault(name, value) != value:
                raise TypeError(f"--{name} must have one default. Received: {found[name]}, {value}")
    return found


__all__ = [
    "DEFENSES",
    "Defense",
    "ENSEMBLES",
    "Ensemble",
    "ObjectiveDefense",
    "defense_flags",
    "is_defense",
    "make",
    "run_defaults",
]

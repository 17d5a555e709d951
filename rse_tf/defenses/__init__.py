"""Defenses by name. Each trains networks, or looks them up, and returns a classifier.

A classifier is a `keras.Model` from images `[batch, height, width, channels]` in [0, 1] to
logits `[batch, classes]`. Averaging over noise is the business of the scoring.

A defense is a way to train one network, an ensemble of networks trained without defense, or a
combination of both: `ensemble_bagging+adversarial_training`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from rse_tf.defenses.adversarial_retraining import FGSMRetraining
from rse_tf.defenses.adversarial_training import FGSMTraining
from rse_tf.defenses.base import Defense
from rse_tf.defenses.distillation import DefensiveDistillation
from rse_tf.defenses.ensembles import Bagging, Ensemble, GaussNoise, Mixed, RandomInit
from rse_tf.defenses.none import NoDefense
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
}


def is_defense(name: str) -> bool:
    """Whether `name` is a defense, an ensemble, or an ensemble + a defense."""
    first, plus, second = name.partition("+")
    return second in DEFENSES and first in ENSEMBLES if plus else first in DEFENSES | ENSEMBLES


def make(name: str, flags: Mapping[str, Any] | None = None) -> Defense:
    """Returns a defense of the settings that flags give it.

    Args:
        name: `"rse"`, `"ensemble_bagging"`, `"ensemble_bagging+rse"` and the like.
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
    if first in DEFENSES:
        return from_flags(DEFENSES[first], given)
    own = make(second or "none", given)
    return from_flags(ENSEMBLES[first], given, defense=own, label=name)


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
    "defense_flags",
    "is_defense",
    "make",
    "run_defaults",
]

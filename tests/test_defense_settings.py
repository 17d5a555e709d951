"""What a defense was set to, as the rows tell it."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from typing import Any

import pytest
from trainings import SETTINGS, TINY, TINY_SPEC, Recorder

from rse_tf import defenses
from rse_tf.defenses import DEFENSES, ENSEMBLES, defense_flags
from rse_tf.defenses.adversarial_retraining import FGSMRetraining
from rse_tf.defenses.adversarial_training import FGSMTraining
from rse_tf.defenses.distillation import DefensiveDistillation
from rse_tf.defenses.ensembles import GaussNoise

# Other values than the defaults.
OTHERS: dict[str, Any] = {
    "temperature": 7.0,
    "training_epsilon": 0.07,
    "rho": 0.7,
    "image_noise": 0.07,
    "retraining_epsilon": (0.0, 0.7),
    "retraining_epochs": 7,
    "member_noise": 0.7,
    "training_steps": 7,
    "training_step_size": 0.7,
    "consistency_weight": 7.0,
    "entropy_weight": 0.7,
}


@pytest.mark.parametrize("defense", sorted(DEFENSES | ENSEMBLES))
def test_a_defense_is_said_to_read_what_changes_its_training(
    defense: str, tmp_path: pathlib.Path
) -> None:
    def trained(**settings: Any) -> list[Any]:
        trainer = Recorder(TINY, SETTINGS, tmp_path)
        defenses.make(defense, {"members": 1, **settings}).train(TINY_SPEC, trainer)
        asked = [(one.dataset.train.images.tobytes(), one.settings) for one in trainer.trainers]
        # Networks are compared by what they were asked to be, not by their random weights.
        fits = [
            (spec, repr({**vars(objective), "teacher": None}), start is None, epochs)
            for spec, objective, start, epochs in trainer.fits
        ]
        return [asked, fits]

    assert set(defense_flags()) == {*OTHERS, "members"}
    plain = trained()
    changing = {name for name, value in OTHERS.items() if trained(**{name: value}) != plain}
    assert changing == set(defenses.make(defense).settings())


def test_a_combination_tells_what_its_parts_tell() -> None:
    made = defenses.make(
        "ensemble_gauss_noise+distillation",
        {"temperature": 3.0, "member_noise": 0.2, "members": 4, "rho": 0.1},
    )
    assert made == GaussNoise(
        members=4,
        member_noise=0.2,
        defense=DefensiveDistillation(temperature=3.0),
        label="ensemble_gauss_noise+distillation",
    )
    assert made.settings() == {"temperature": 3.0, "member_noise": 0.2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: DefensiveDistillation(temperature=0.0),
            "DefensiveDistillation: temperature must be greater than 0. Received: temperature=0.0",
        ),
        (lambda: FGSMTraining(rho=1.5), "rho must be from 0 to 1. Received: rho=1.5"),
        (lambda: FGSMTraining(training_epsilon=8.0), "8 of 255 levels is 8/255. Received: train"),
        (lambda: FGSMRetraining(retraining_epsilon=(0.3, 0.1)), "the smaller one first. Received"),
        (lambda: FGSMRetraining(retraining_epochs=0), "retraining_epochs must be at least 1. Rec"),
        (lambda: GaussNoise(member_noise=-1.0), "member_noise must be 0 or greater. Received: me"),
        (lambda: defenses.make("ensemble_mixed", {"members": 0}), "members must be at least 1. R"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_setting_of_no_defense_is_refused() -> None:
    with pytest.raises(TypeError, match="no defense has a flag.* Received: temprature"):
        defenses.make("distillation", {"temprature": 3.0})


def test_retraining_takes_half_as_many_epochs_again(tmp_path: pathlib.Path) -> None:
    trainer = Recorder(TINY, dataclasses.replace(SETTINGS, epochs=5), tmp_path)
    FGSMRetraining().train(TINY_SPEC, trainer)
    assert [epochs for *_, epochs in trainer.fits] == [5, 8]  # 7.5 rounded up
    assert defenses.run_defaults({}, 5)["retraining_epochs"] == 8

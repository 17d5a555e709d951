"""What a defense was set to, as the rows tell it."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest
from trainings import SETTINGS, TINY, TINY_SPEC, Recorder

from rse_tf import defenses
from rse_tf.defenses import DEFENSES, ENSEMBLES, DefenseSettings

# Other values than the defaults.
OTHERS: dict[str, Any] = {
    "temperature": 7.0,
    "training_epsilon": 0.07,
    "rho": 0.7,
    "image_noise": 0.07,
    "retraining_epsilon": (0.0, 0.7),
    "retraining_epochs": 7,
    "member_noise": 0.7,
}


@pytest.mark.parametrize("defense", sorted(DEFENSES | ENSEMBLES))
def test_a_defense_is_said_to_read_what_changes_its_training(
    defense: str, tmp_path: pathlib.Path
) -> None:
    def trained(**settings: Any) -> list[Any]:
        trainer = Recorder(TINY, SETTINGS, tmp_path)
        defenses.train(defense, TINY_SPEC, trainer, DefenseSettings(members=1, **settings))
        asked = [(one.dataset.train.images.tobytes(), one.settings) for one in trainer.trainers]
        # Networks are compared by what they were asked to be, not by their random weights.
        fits = [
            (spec, repr({**vars(objective), "teacher": None}), start is None, epochs)
            for spec, objective, start, epochs in trainer.fits
        ]
        return [asked, fits]

    assert {field.name for field in dataclasses.fields(DefenseSettings)} == {*OTHERS, "members"}
    plain = trained()
    changing = {name for name, value in OTHERS.items() if trained(**{name: value}) != plain}
    assert changing == set(DefenseSettings().of(defense))


def test_a_combination_reads_what_its_parts_read() -> None:
    settings = DefenseSettings(temperature=3.0, member_noise=0.2)
    found = settings.of("ensemble_gauss_noise+distillation")
    assert found == {"temperature": 3.0, "member_noise": 0.2}

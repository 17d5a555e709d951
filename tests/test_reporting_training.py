"""What a defense was set to: in the rows, and when it is not what the paper set it to."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import pytest
from trainings import SETTINGS, TINY, TINY_SPEC, Recorder

from rse_tf import config, defenses, reproduction
from rse_tf.defenses import DEFENSES, ENSEMBLES, DefenseSettings
from rse_tf.reporting import PAPER, Row, format_table, published
from rse_tf.reporting.grid import Grid, Line
from rse_tf.reporting.reference_training import training_differences

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


def row(dataset: str, model: str, defense: str, **training: Any) -> Row:
    """A clean row of one of the papers."""
    return Row(
        dataset=dataset, model=model, defense=defense, attack="none", parameters={}, noise={},
        accuracy=0.5, accuracy_std=0.0, rms_l2=0.0, mean_l2=None, median_l2=None, mean_linf=None,
        max_linf=0.0, success_rate=None, misclassified_clean=0.5, num_images=100, num_draws=1,
        eval_seeds=1, seconds=1.0, training=training,
    )  # fmt: skip


@pytest.mark.parametrize(
    "own, other",
    [
        (row("stl10", "model_a", "distillation", temperature=40.0), {"temperature": 10.0}),
        (row("mnist", "mnist_cnn", "distillation", temperature=10.0), {"temperature": 40.0}),
        (row("cifar10", "cifar_cnn", "adversarial_training", rho=0.5, training_epsilon=0.03),
         {"rho": 0.5, "training_epsilon": 0.3}),
        (row("cifar10", "vgg16", "robust_opt_brelu", image_noise=0.05), {"image_noise": 0.1}),
        (row("cifar10", "vgg16", "adversarial_retraining", retraining_epsilon=[0.1, 0.3],
             retraining_epochs=15), {"retraining_epsilon": [0.1, 0.2]}),
    ],
)  # fmt: skip
def test_a_published_number_stands_beside_the_papers_settings_only(
    own: Row, other: dict[str, Any]
) -> None:
    assert training_differences(own) == [] and published(own) is not None
    assert published(dataclasses.replace(own, training={})) is not None  # an older result
    different = dataclasses.replace(own, training=other)
    (difference,) = training_differences(different)
    name = next(name for name in other if f"{name}=" in difference)
    assert difference.startswith(f"{name}={other[name]} instead of ")
    assert published(different) is None
    # In a table of the paper, the row nearest to it is taken, and one that differs is marked.
    wants = {"dataset": own.dataset, "model": own.model, "defense": own.defense, "attack": "none"}
    grid = Grid("table", "line", (Line("line"),), (Line("column"),), wants)
    assert grid.cells([own, different])[0][0].row is own
    cell = grid.cells([different])[0][0]
    assert cell.differences == (difference,) and "†" in str(cell) and cell.paper is not None


def test_a_table_of_several_settings_tells_them_apart() -> None:
    rows = [row("mnist", "mnist_cnn", "distillation", temperature=t) for t in (10.0, 40.0)]
    lines = format_table(rows).splitlines()[2:4]
    assert "temperature=10" in lines[0] and "temperature=40" in lines[1]


def test_the_rows_of_the_papers_have_the_papers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(pathlib.Path(config.__file__).parents[1])
    for file in sorted({file for exhibit in PAPER for file in reproduction.row_files(exhibit)}):
        run = config.parse(["program", f"--flagfile={file}"], "")
        training = run.defense_settings().of(run.defense[0])
        assert training_differences(
            row(run.dataset, str(run.model), run.defense[0], **training)
        ) == []  # fmt: skip

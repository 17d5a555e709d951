"""The flag files: what each is for, that it can be run, and that every scale fits on top."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest

import rse_tf
from rse_tf import flags as flags_module
from rse_tf.config import Config
from rse_tf.papers import TABLES
from rse_tf.papers.reproduce import SCALES, row_files, scale_file
from rse_tf.utils.flag_files import FOLDER, short_name

ROOT = pathlib.Path(rse_tf.__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in FOLDER.rglob("*.flags"))
# What rows share, and what goes on top of them.
SHARED = [name for name in FILES if name.endswith("/base.flags")]
SHARED += ["flags/ensembles/cifar10.flags", "flags/ensembles/mnist.flags"]
SCALED = [name for name in FILES if pathlib.Path(name).stem in SCALES]
ROWS = [name for name in FILES if name not in SHARED + SCALED]

DEFENSES = ("none", "rse", "adversarial_retraining", "distillation", "robust_opt_brelu")
COMPARED = (
    "ensemble_bagging",
    "adversarial_training",
    "distillation",
    "ensemble_bagging+adversarial_training",
    "ensemble_bagging+distillation",
)
# The rows of each table, below its folder.
EXPECTED = {
    "rse/table2": {*DEFENSES, "rse_authors_code"},
    "rse/table3": set(DEFENSES),
    "rse/figure2": {"none", "rse", "rse_train_noise_only", "rse_test_noise_only"},
    "rse/figure3": {
        "none",
        *(
            f"init_{init}_inner_{inner}"
            for init in ("0", "0.2", "0.4")
            for inner in ("0", "0.1", "0.2")
        ),
    }
    - {"init_0_inner_0"},
    "rse/figure4": {"1_ensemble", "50_ensemble"},
    "rse/figure5": {f"init_{init}_inner_0.1" for init in ("0.1", "0.2", "0.4")},
    "rse/figure6": {
        f"{pair}/{defense}"
        for defense in DEFENSES
        for pair in ("cifar10_vgg16", "cifar10_resnext29", "stl10_model_a")
    },
    "rse/figure7": set(DEFENSES),
    "rse/zoo": {"none", "rse_fresh_noise", "rse_common_noise"},
    "ensembles/table2": {
        f"{data}_{kind}"
        for data in ("mnist", "cifar10")
        for kind in ("random_init", "mixed", "bagging", "gauss_noise")
    },
    "ensembles/table4": {
        f"{data}_{name.removeprefix('ensemble_')}"
        for name in COMPARED
        for data in ("mnist", "cifar10")
    },
    "ensembles/figure1": {"mnist", "cifar10"},
}
EXPECTED["ensembles/figure2"] = EXPECTED["ensembles/table2"]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Files name each other from there.
    monkeypatch.chdir(ROOT)


def parse(*files: str | pathlib.Path, **flags: Any) -> Config:
    rest = [f"--{name}={value}" for name, value in flags.items()]
    arguments = [*(f"--flagfile={file}" for file in files), *rest]
    return flags_module.parse(["program", *arguments], "A program.")


def head(name: str) -> str:
    """The comment that a file starts with."""
    lines = (ROOT / name).read_text().splitlines()
    end = next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[:end])


def own_flags(name: str) -> list[str]:
    """The names of the flags in a file itself."""
    lines = (ROOT / name).read_text().splitlines()
    return [line[2:].partition("=")[0] for line in lines if line.startswith("--")]


def test_every_table_and_figure_has_its_row_files() -> None:
    assert EXPECTED.keys() == TABLES.keys()
    found = set()
    for table, expected in EXPECTED.items():
        files = row_files(table)
        folder = FOLDER.joinpath(*files[0].relative_to(FOLDER).parts[:2])
        names = [path.relative_to(folder).with_suffix("").as_posix() for path in files]
        assert sorted(names) == sorted(expected)
        found |= {short_name(path) for path in files}
    assert found == set(ROWS)  # and no row belongs to none


@pytest.mark.parametrize("name", FILES)
def test_every_file_parses(name: str) -> None:
    parse(name)


@pytest.mark.parametrize("name", FILES)
def test_every_file_begins_with_what_it_is_for_and_fits_the_screen(name: str) -> None:
    assert head(name)
    assert max(map(len, (ROOT / name).read_text().splitlines())) <= 100


@pytest.mark.parametrize("name", ROWS)
def test_a_row_tells_its_paper_and_its_own_command(name: str) -> None:
    text = head(name).replace(" \\\n#     ", " ")  # a long one goes on in a second line
    paper = {"rse": "1712.00673", "ensembles": "1709.03423"}[name.split("/")[1]]
    assert re.match(rf"# .* arXiv:{paper}\.\n", text)
    commands = re.findall(r"^#   (python .*)$", text, re.MULTILINE)
    assert commands == [f"python -m rse_tf.main --flagfile={name}"]


@pytest.mark.parametrize("name", ROWS)
def test_a_row_tells_what_it_costs_and_which_scales_are_its_own(name: str) -> None:
    cost = head(name)[head(name).index("# Cost, estimated: ") :].replace("\n# ", " ")
    assert re.search(r"two CPU cores .+ with .+; one GPU .+ as published, at .+not measured", cost)
    named = re.findall(r"--flagfile=(\S+\.flags)[;.]", cost)
    expected = [short_name(scale_file(ROOT / name, scale)) for scale in ("cpu", "smoke")]
    assert named == expected
    base = pathlib.Path(name).with_name("base.flags").as_posix()
    costs = [line for line in head(base).splitlines() if line.startswith("# Cost: ")]
    assert "estimated" in costs[0] and "two CPU cores" in costs[0] and "one GPU" in costs[0]
    assert "Not to be run by itself" in re.sub(r"\s*\n# ", " ", head(base))


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_its_own_workdir_and_the_common_networks(name: str) -> None:
    row = parse(name)
    assert row.workdir == "runs" + name.removeprefix("flags").removesuffix(".flags")
    assert row.models_dir == "runs/models"
    assert len(row.defense) == 1


@pytest.mark.parametrize("name", FILES)
def test_no_file_says_the_same_thing_twice(name: str) -> None:
    flags = [flag for flag in own_flags(name) if flag != "flagfile"]
    assert len(flags) == len(set(flags))


# Scales.


def test_the_nearest_scale_above_a_row_is_its_own() -> None:
    for row, scale, expected in (
        ("rse/table2/rse", "cpu", "scale/cpu"),
        ("rse/table3/rse", "cpu", "rse/table3/cpu"),
        ("rse/table3/rse", "paper", "scale/paper"),
        ("rse/figure6/stl10_model_a/rse", "cpu", "rse/figure6/stl10_model_a/cpu"),
        ("rse/figure6/stl10_model_a/rse", "smoke", "scale/smoke"),
        ("rse/figure6/cifar10_vgg16/rse", "cpu", "scale/cpu"),
        ("ensembles/table4/mnist_bagging", "smoke", "ensembles/smoke"),
    ):
        assert scale_file(FOLDER / f"{row}.flags", scale) == FOLDER / f"{expected}.flags"


@pytest.mark.parametrize("name", ROWS)
def test_the_published_scale_changes_nothing(name: str) -> None:
    assert scale_file(ROOT / name, "paper") == FOLDER / "scale" / "paper.flags"
    assert parse(name, "flags/scale/paper.flags") == parse(name)


@pytest.mark.parametrize("name", ROWS)
def test_the_scale_for_two_cores_keeps_the_row_what_it_is(name: str) -> None:
    row, scaled = parse(name), parse(name, scale_file(pathlib.Path(name), "cpu"))
    kept = (
        "dataset",
        "model",
        "defense",
        "init_noise",
        "inner_noise",
        "init_noise_at",
        "attack",
        "attack_steps",
        "attack_learning_rate",
        "epsilon",
        "step_size",
        "gradient",
        "num_draws",
        "temperature",
        "training_epsilon",
        "retraining_epsilon",
        "target_class",
        "optimizer",
        "workdir",
        "models_dir",
        "learning_rate",
        "weight_decay",
        "batch_size",
    )
    for flag in kept:
        assert getattr(scaled, flag) == getattr(row, flag), flag
    assert set(scaled.const or ()) <= set(row.const or ())
    cheaper = ("epochs", "retraining_epochs", "members", "num_images")
    assert all(getattr(scaled, flag) <= getattr(row, flag) for flag in cheaper)
    if row.dataset != "mnist_5k":
        assert any(getattr(scaled, flag) < getattr(row, flag) for flag in cheaper)


@pytest.mark.parametrize("name", ROWS)
def test_the_smallest_scale_runs_the_row_on_embedded_digits(name: str) -> None:
    row, scaled = parse(name), parse(name, scale_file(pathlib.Path(name), "smoke"))
    for flag in (
        "defense",
        "attack",
        "init_noise",
        "inner_noise",
        "init_noise_at",
        "gradient",
        "epsilon",
        "step_size",
        "query_noise",
    ):
        assert getattr(scaled, flag) == getattr(row, flag), flag
    assert (scaled.dataset, scaled.model, scaled.epochs) == ("mnist_5k", "mnist_cnn", 1)
    assert scaled.num_images is not None and scaled.num_images <= 20
    for attack in scaled.attacks:
        assert all(point.get("steps", 0) <= 8 for point in scaled.attack_points(attack))
    assert scaled.members == 2 or not scaled.defense[0].startswith("ensemble_")
    # Nothing of a real run is overwritten.
    assert "smoke" in str(scaled.workdir) and "smoke" in str(scaled.models_dir)


def test_what_stands_behind_a_file_wins() -> None:
    row = parse("flags/rse/table2/rse.flags", "flags/scale/cpu.flags", epochs=3, workdir="here")
    assert (row.epochs, row.workdir, row.num_images) == (3, "here", 200)

from __future__ import annotations

import pathlib
import re
import types
from typing import Any

import pytest

from rse_tf import config
from rse_tf.config import Config
from rse_tf.reporting import Published
from rse_tf.reporting.reference import SWEEP, TABLE_2, published_by_source

ROOT = pathlib.Path(config.__file__).parents[1]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "flags").rglob("*.flags"))
BASES = [name for name in FILES if name.endswith("/base.flags")]
SCALES = [name for name in FILES if name.startswith("flags/scale/")]
ROWS = [name for name in FILES if name not in BASES + SCALES]

TABLE_2_CONSTS = (0.01, 0.03, 0.06, 0.1, 0.2)
SWEEP_CONSTS = (0.0, 0.01, 0.03, 0.06, 0.1, 0.2, 0.4, 0.8, 1, 2, 3, 4, 7, 10, 30, 70, 100)


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    # Files name each other from there.
    monkeypatch.chdir(ROOT)


def parse(*files: str, **flags: Any) -> Config:
    rest = [f"--{name}={value}" for name, value in flags.items()]
    return config.parse(["program", *(f"--flagfile={file}" for file in files), *rest], "A program.")


def head(name: str) -> str:
    """The comment that a file starts with."""
    lines = (ROOT / name).read_text().splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(lines[:end])


def test_there_are_files_for_the_rows_and_curves_that_can_be_run() -> None:
    assert {name.removeprefix("flags/").removesuffix(".flags") for name in ROWS + SCALES} >= {
        "rse/table2/none", "rse/table2/rse", "rse/table2/rse_authors_code",
        "rse/figure2/none", "rse/figure2/rse", "rse/figure2/rse_train_noise_only",
        "rse/figure2/rse_test_noise_only",
        *(f"rse/figure6/{pair}/{defense}" for defense in ("none", "rse")
          for pair in ("cifar10_vgg16", "cifar10_resnext29", "stl10_model_a")),
        "scale/smoke", "scale/cpu", "scale/paper",
    }  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_file_parses(name: str) -> None:
    parse(name)


@pytest.mark.parametrize("name", FILES)
def test_every_file_begins_with_what_it_is_for_and_fits_the_screen(name: str) -> None:
    assert head(name)
    assert max(map(len, (ROOT / name).read_text().splitlines())) <= 100


@pytest.mark.parametrize("name", ROWS)
def test_a_row_tells_its_paper_and_its_own_command(name: str) -> None:
    assert re.search(r"^# .* arXiv:\d{4}\.\d{5}\.$", head(name), re.MULTILINE)
    assert f"\n#   python -m rse_tf.main --flagfile={name}\n" in head(name)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_has_its_own_workdir_and_the_common_networks(name: str) -> None:
    row = parse(name)
    assert row.workdir == "runs" + name.removeprefix("flags").removesuffix(".flags")
    assert row.models_dir == "runs/models"
    assert len(row.defense) == 1


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("flags/rse/")])
def test_a_row_of_the_rse_paper_is_its_protocol(name: str) -> None:
    row = parse(name)
    noise = {"vgg16": (0.4, 0.1), "resnext29": (0.1, 0.1), "model_a": (0.4, 0.1)}
    assert (row.init_noise, row.inner_noise) == noise[str(row.model)]
    assert row.dataset == ("stl10" if row.model == "model_a" else "cifar10")
    assert row.init_noise_at == ("second_conv" if "authors_code" in name else "first_conv")
    assert row.const == (TABLE_2_CONSTS if "table2" in name else SWEEP_CONSTS)
    assert (row.attack, row.attack_steps, row.attack_learning_rate, row.iterate) == (
        "carlini_wagner", 300, 1e-3, "last")  # fmt: skip
    assert (row.attack_draws, row.num_draws, row.num_images, row.targeted) == (1, 50, 1600, False)
    assert (row.epochs, row.schedule, row.batch_size, row.learning_rate) == (200, "paper", 128, 0.1)
    assert (row.weight_decay, row.augmentation, row.dtype_policy) == (5e-4, "crop_flip", "float32")


def published_numbers(run: Config, const: float) -> dict[str, Published]:
    """What the report sets beside a row, by source."""
    (point,) = [p for p in run.attack_points() if p["const"] == const]
    noise = {"init_noise": run.init_noise, "inner_noise": run.inner_noise,
             "distribution": run.noise_distribution}  # fmt: skip
    row = types.SimpleNamespace(
        dataset=run.dataset, model=run.model, defense=run.defense[0], attack=run.attack,
        noise=noise, parameters={**point, "targeted": run.targeted}, num_draws=run.num_draws,
    )  # fmt: skip
    return published_by_source(row)


SWEPT = [name for name in ROWS if "RMS L2" in head(name)]


def columns(text: str) -> list[list[float]]:
    """The numbers in the lines of c, accuracy and distortion."""
    return [
        [float(x) for line in re.findall(rf"^#   {label} +(.*)$", text, re.MULTILINE)
         for x in line.split()]
        for label in ("c", "accuracy", "RMS L2")
    ]  # fmt: skip


@pytest.mark.parametrize("name", SWEPT)
def test_the_numbers_at_the_head_are_the_published_ones(name: str) -> None:
    run = parse(name)
    printed, _, logs = head(name).partition("The authors' published logs")
    consts, accuracies, distortions = columns(logs)
    assert tuple(consts) == run.const
    for const, accuracy, distortion in zip(consts, accuracies, distortions, strict=True):
        expected = published_numbers(run, const)[SWEEP]
        assert accuracy / 100 == pytest.approx(expected.accuracy, abs=0.5001e-4)
        assert distortion == pytest.approx(expected.rms_l2, abs=0.5001e-3)
    consts, accuracies, _ = columns(printed)
    assert tuple(consts) == (TABLE_2_CONSTS if "table2" in name else ())
    for const, accuracy in zip(consts, accuracies, strict=True):
        assert accuracy / 100 == pytest.approx(published_numbers(run, const)[TABLE_2].accuracy)


def test_all_rows_of_the_authors_sweep_quote_it() -> None:
    without = [name for name in ROWS if name not in SWEPT]
    assert [pathlib.Path(name).stem for name in without] == [
        "rse_test_noise_only", "rse_train_noise_only"]  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ROWS)
def test_a_scale_goes_on_top_of_every_row(name: str, scale: str) -> None:
    row, scaled = parse(name), parse(name, scale)
    assert (scaled.defense, scaled.const, scaled.init_noise, scaled.init_noise_at) == (
        row.defense, row.const, row.init_noise, row.init_noise_at)  # fmt: skip
    if scale.endswith("paper.flags"):
        assert scaled == row
    elif scale.endswith("cpu.flags"):
        assert (scaled.dataset, scaled.model, scaled.attack_steps) == (
            row.dataset, row.model, row.attack_steps)  # fmt: skip
        assert (scaled.epochs, scaled.num_images) == (40, 200)
        assert (scaled.schedule, scaled.dtype_policy) == ("one_cycle", "mixed_bfloat16")
    elif scale.endswith("smoke.flags"):
        assert scaled.dataset == "mnist_5k" and scaled.epochs == 1
        assert scaled.num_images is not None and scaled.num_images <= 20
        assert scaled.attack_steps is not None and scaled.attack_steps <= 5
        # Nothing of a real run is overwritten.
        assert "smoke" in str(scaled.workdir) and "smoke" in str(scaled.models_dir)


def test_what_stands_behind_a_file_wins() -> None:
    row = parse("flags/rse/table2/rse.flags", "flags/scale/cpu.flags", epochs=3, workdir="here")
    assert (row.epochs, row.workdir, row.num_images) == (3, "here", 200)

"""Whole tables and figures of the papers: run, gone on with, laid out, listed, refused."""

from __future__ import annotations

import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest
from rows import change
from test_report import ROW
from trainings import wait_for

from rse_tf import experiment, report, reproduce
from rse_tf.config import Config, ConfigError
from rse_tf.evaluation import Row
from rse_tf.papers import TABLES
from rse_tf.papers import reproduce as papers
from rse_tf.reporting import read_json, write_json
from rse_tf.training import TrainingDivergedError, TrainingError
from rse_tf.utils.flag_files import FOLDER

ROOT = pathlib.Path(__file__).parents[1]
# Which row of each is run for real, so that every defense is among them; networks are shared where
# they are the same.
ROWS = {
    "rse/table2": "rse",
    "rse/table3": "distillation",
    "rse/figure2": "rse_test_noise_only",
    "rse/figure3": "init_0.4_inner_0",
    "rse/figure4": "1_ensemble",
    "rse/figure5": "init_0.4*",
    "rse/figure6": "stl10_model_a/robust_opt_brelu",
    "rse/figure7": "adversarial_retraining",
    "rse/zoo": "rse_common_noise",
    "ensembles/table2": "mnist_bagging",
    "ensembles/table4": "mnist_adversarial_training",
    "ensembles/figure1": "mnist",
    "ensembles/figure2": "mnist_bagging",
}
NO_FIGURE = {"rse/table2", "rse/table3", "ensembles/table2", "ensembles/table4"}
# The targets of the smoke test are not theirs: their rows stand nowhere in them.
NO_ROWS = {"rse/table3", "rse/figure7"}


@pytest.fixture(autouse=True)
def in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:  # where flags/ is
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """One folder for all tables, which share networks and attacks."""
    return tmp_path_factory.mktemp("tables")


def smoke(table: str, output: pathlib.Path, *extra: str) -> list[pathlib.Path]:
    return papers.reproduce(table, "smoke", str(output), ROWS[table], extra)


def figure_5(output: pathlib.Path, pattern: str = "*", *extra: str, scale: str = "smoke") -> str:
    """Reproduces a figure of three rows; returns its Markdown."""
    paths = papers.reproduce("rse/figure5", scale, str(output), pattern, extra)
    return paths[0].read_text()


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Runs that take no time: what was run, with one made-up row each."""
    found: list[Config] = []

    def run(config: Config) -> list[Row]:
        found.append(config)
        rows = [change(ROW, num_images=int(config.num_images or 1))]
        facts = {"flags": config.values(), "versions": experiment.versions()}
        write_json(rows, pathlib.Path(str(config.workdir)) / "result.json", **facts)
        return rows

    monkeypatch.setattr(experiment, "run", run)
    return found


def table_lines(markdown: str) -> list[str]:
    return [line for line in markdown.splitlines() if line.startswith("|")]


# For real.


# One of each paper; the others have the same road, and made-up rows elsewhere.
_USUAL = ("rse/table2", "ensembles/table2")


MOSTLY_LONG = [
    pytest.param(name, marks=[] if name in _USUAL else pytest.mark.long) for name in TABLES
]


@pytest.mark.parametrize("table", MOSTLY_LONG)
def test_a_table_is_reproduced_once(
    table: str, output: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = smoke(table, output)
    start = output / "smoke" / table.replace("/", "_")
    endings = ["md", "csv", "json"] + ([] if table in NO_FIGURE else ["png"])
    assert paths == [start.with_name(f"{start.name}.{ending}") for ending in endings]
    assert all(path.stat().st_size > 200 for path in paths if path.suffix != ".csv")
    assert (paths[1].stat().st_size > 200) == (table not in NO_ROWS)
    text, rows = paths[0].read_text(), read_json(paths[2]).rows
    assert table in NO_ROWS or {row.dataset for row in rows} == {"mnist_5k"}
    flags = [f"--table={table}", "--scale=smoke", f"--rows={ROWS[table]}", f"--output={output}"]
    (made,) = re.findall("^Made by `python -m rse_tf.reproduce (.*)`$", text, re.MULTILINE)
    assert shlex.split(made) == flags
    assert (table not in NO_FIGURE) == (f"]({start.name}.png)" in text)
    # All is there now: nothing is run again, and the same comes out.
    stamps = {file: file.stat().st_mtime_ns for file in output.rglob("result.json")}
    numbers = [paths[1].read_bytes(), text]

    monkeypatch.setattr(experiment, "run", None)
    assert smoke(table, output) == paths
    assert [paths[1].read_bytes(), paths[0].read_text()] == numbers
    assert {file: file.stat().st_mtime_ns for file in output.rglob("result.json")} == stamps


@pytest.mark.parametrize(
    ("table", "line", "others"),
    [
        ("rse/table2", "RSE", "dataset=mnist_5k instead of cifar10;num_draws=3 instead of 50"),
        ("ensembles/table2", "Bagging", "=mnist_5k instead of mnist;members=2 instead of 10"),
    ],
)
def test_ours_stands_beside_the_papers_number(
    table: str, line: str, others: str, output: pathlib.Path
) -> None:
    text = smoke(table, output)[0].read_text()
    rows = read_json(output / "smoke" / f"{table.replace('/', '_')}.json").rows
    own = "".join(each for each in table_lines(text) if f"| {line} " in each)
    ours = re.findall(r" (\d+\.\d\d)(?: ± \d+\.\d\d)?† \(\d+\.\d\d§?\) \|", own)
    assert ours and set(ours) <= {f"{100 * row.score.accuracy:.2f}" for row in rows}
    assert re.search(r" – \(\d+\.\d\d§?\) \|", text)  # a row that was not run
    (note,) = [note for note in text.splitlines() if note.startswith("- † is not the paper's")]
    assert all(other in note for other in others.split(";"))


def test_the_report_lays_out_what_is_finished(
    output: pathlib.Path, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = smoke("rse/table2", output)[0].read_text()
    runs = str(output / "smoke" / "rse" / "table2")
    report.main(["report", runs, f"--output={tmp_path / 'as'}", "--table=rse/table2"])
    text = (tmp_path / "as" / "rse_table2.md").read_text()
    assert table_lines(text) == table_lines(made) and "rse_tf.report" in text
    assert text in capsys.readouterr().out
    report.main(["report", runs, f"--output={tmp_path / 'plain'}"])
    rows = read_json(output / "smoke" / "rse" / "table2" / "rse" / "result.json").rows
    assert read_json(tmp_path / "plain" / "result.json").rows == rows
    names = {path.name for path in (tmp_path / "plain").iterdir()}
    assert {"result.csv", "accuracy_vs_c.png", "gallery_rse.png"} <= names
    assert "carlini_wagner" in capsys.readouterr().out


def program(output: pathlib.Path, *flags: str) -> list[str]:
    """Figure 5 attacks nothing, so that a row takes seconds."""
    own = ["--table=rse/figure5", "--scale=smoke", f"--output={output}", "--num_draws=1,2"]
    return [sys.executable, "-m", "rse_tf.reproduce", *own, *flags]


@pytest.mark.long
def test_a_killed_reproduction_goes_on_behind_its_finished_rows(tmp_path: pathlib.Path) -> None:
    process = subprocess.Popen(program(tmp_path))
    wait_for(tmp_path, "result.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("result.json")}
    assert 0 < len(finished) < 3
    again = subprocess.run(program(tmp_path), capture_output=True, text=True, check=True)
    assert again.stdout.count("finished before") == len(finished)
    assert len(list(tmp_path.rglob("result.json"))) == 3
    assert {file: file.stat().st_mtime_ns for file in finished} == finished
    rows = read_json(tmp_path / "smoke" / "rse_figure5.json").rows
    assert {row.noise["init_noise"] for row in rows} == {0.1, 0.2, 0.4}


# With runs that take no time.


@pytest.mark.parametrize("table", MOSTLY_LONG)
def test_every_row_is_run_in_a_folder_of_its_own(
    table: str, ran: list[Config], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(papers, "write_table", lambda *args, **kwargs: [])
    # A folder is of no use to the embedded digits.
    command = f"reproduce --table={table} --scale=smoke --output={tmp_path} --batch_size=64"
    reproduce.main([*command.split(), "--data_dir", str(tmp_path)])
    assert len(ran) == len(papers.row_files(table)) == len({run.workdir for run in ran})
    for run, file in zip(ran, papers.row_files(table), strict=True):
        folder = file.relative_to(FOLDER).with_suffix("")
        assert run.workdir == str(tmp_path / "smoke" / folder)
        assert run.models_dir == str(tmp_path / "models")
        assert run.attacks_dir == str(tmp_path / "attacks")
        # The scale is on top of the row, and the further flags are on top of all.
        assert (run.dataset, run.model, run.epochs) == ("mnist_5k", "mnist_cnn", 1)
        assert run.batch_size == 64 and int(run.num_images or 0) <= 20


def test_only_what_is_missing_or_has_other_flags_is_run(
    ran: list[Config], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(*extra: str) -> list[str]:
        ran.clear()
        figure_5(tmp_path, "*", *extra)
        return [pathlib.Path(str(config.workdir)).name[5:8] for config in ran]

    every = ["0.1", "0.2", "0.4"]
    assert names() == every and names() == []
    next(tmp_path.rglob("init_0.2*/result.json")).unlink()
    assert names() == ["0.2"]
    next(tmp_path.rglob("init_0.4*/result.json")).write_text('{"rows": [{}]}')  # an older Row
    assert names() == ["0.4"]
    assert names("--num_images=7") == every and names("--num_images=7") == []
    # What another TensorFlow has computed may be another number.
    monkeypatch.setattr(experiment, "versions", lambda: {"tensorflow": "0.0"})
    assert names("--num_images=7") == every and names("--num_images=7") == []


def test_the_table_has_all_finished_rows_after_every_row(
    ran: list[Config], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, file = experiment.run, tmp_path / "smoke" / "rse_figure5.md"

    def interrupted(config: Config) -> list[Row]:
        if len(ran) == 2:
            raise KeyboardInterrupt
        return run(config)

    assert "1 of 3 runs are finished" in figure_5(tmp_path, "init_0.4*")
    monkeypatch.setattr(experiment, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        figure_5(tmp_path)
    assert "2 of 3 runs are finished" in file.read_text()
    monkeypatch.setattr(experiment, "run", run)
    assert "runs are finished" not in figure_5(tmp_path) and len(ran) == 3
    ran.clear()
    for folder in ("/home/me", "/home/./me"):  # which is nobody else's business
        paths = papers.reproduce(
            "rse/figure5", "paper", str(tmp_path), "*", ["--epochs=3"], data_dir=folder
        )
        text = paths[0].read_text()
        assert "--epochs=3" in text and "/home" not in text and "1 of 3" not in text
    assert [config.data_dir for config in ran] == ["/home/me"] * 3


def test_a_row_that_cannot_be_trained_does_not_stop_the_others(
    ran: list[Config], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = experiment.run

    def diverging(config: Config) -> list[Row]:
        if "init_0.2" in str(config.workdir):
            raise TrainingDivergedError("the loss is nan")
        return run(config)

    monkeypatch.setattr(experiment, "run", diverging)
    with pytest.raises(TrainingError, match="init_0.2_inner_0.1.flags"):
        figure_5(tmp_path)
    assert len(ran) == 2
    assert "2 of 3 runs are finished" in (tmp_path / "smoke" / "rse_figure5.md").read_text()


# What can be had, and what cannot.


def test_list_names_every_table_with_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    reproduce.main(["reproduce", "--list"])
    # A name at the start of a line, and below it lines that are indented.
    parts = re.split(r"^(?=\S)", capsys.readouterr().out, flags=re.MULTILINE)[1:]
    assert [part.split()[0] for part in parts] == list(TABLES)
    same = {"rse/figure7": "rse/table3", "ensembles/figure2": "ensembles/table2"}
    for name, part in zip(TABLES, parts, strict=True):
        first, *costs = part.splitlines()
        assert TABLES[name].title in first
        assert f"({len(papers.row_files(name))} runs)" in first
        if name in same:
            assert [cost.strip() for cost in costs] == [f"the runs of {same[name]}"]
        else:
            assert costs and re.search(r"two CPU cores .*\d+ (h|min|days);", costs[0])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--table=rse/table9"], "ensembles/table4"),
        (["--table=rse/table2", "--scale=huge"], "smoke, cpu, paper"),
        (["--table=rse/table2", "--rows=nothing*"], "rse_authors_code"),
        (["--table=rse/figure6", "--rows=nothing*"], "stl10_model_a/rse"),
        (["--table=rse/table2", "--nonsense=1"], "nonsense"),
        (["--table=rse/table2", "--epochs=0"], "epochs"),
        (["--table=rse/table2", "--strategy", "multi_worker"], "--shard"),
        ([], "--list"),
    ],
)
def test_mistakes_are_refused_before_anything_runs(
    flags: list[str], named: str, ran: list[Config], tmp_path: pathlib.Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        reproduce.main(["reproduce", f"--output={tmp_path / 'new'}", *flags])
    assert not ran and not (tmp_path / "new").exists()


def test_a_mistake_ends_the_process_in_one_line(tmp_path: pathlib.Path) -> None:
    process = subprocess.run(program(tmp_path, "--table=x"), capture_output=True, text=True)
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert len(re.findall("^error: .*rse/table2.*'x'", process.stderr, re.MULTILINE)) == 1


def test_a_report_of_nothing_or_of_an_unknown_table_is_refused(tmp_path: pathlib.Path) -> None:
    for flags in ([str(tmp_path)], [], [str(tmp_path), "--table=rse/table2"]):
        with pytest.raises(ConfigError, match="no finished run"):
            report.main(["report", *flags])
    with pytest.raises(ConfigError, match="rse/table2"):
        report.main(["report", str(tmp_path), "--table=rse/table9"])

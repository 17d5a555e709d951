"""The page of a run: what it says, that it needs no other file, and that nothing breaks it."""

from __future__ import annotations

import base64
import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rows import attacked, change, make_row

from rse_tf import report
from rse_tf.evaluation import Gallery, Row
from rse_tf.reporting import Result, save_gallery, write_html, write_json
from rse_tf.utils.files import FileError

ENDS = {"accuracy_low": 0.6, "accuracy_high": 0.8}
ROWS = [
    make_row("none", accuracy=0.9),
    make_row("rse", accuracy=0.85),
    attacked("rse", 0.1, 0.75),
    attacked("rse", 1.0, 0.7, worst_of_10=0.5, **ENDS),
    make_row("rse", "adaptive", 0.4, parameters={"epsilon": 0.03, "norm": "linf"}),
    make_row("rse", "adaptive", 0.3, parameters={"epsilon": 0.5, "norm": "l2"}),
    # One of the attacks that the worst case is of is none of the run's own.
    make_row("rse", "pgd", 0.35, parameters={"epsilon": 0.5, "norm": "l2", "suite_scale": "small"}),
]
VOID = {"meta", "img", "br"}


class Page(html.parser.HTMLParser):
    """The text of each element by its tag, the attributes of all, and whether all are closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.attributes: list[tuple[str, str, str | None]] = []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open:
            words = " ".join(data.split())  # no-break spaces as well
            self.texts.setdefault(self.open[-1], []).append(words)

    @property
    def text(self) -> str:
        return " ".join(
            word for tag, words in self.texts.items() if tag != "style" for word in words
        )


def page_of(folder: Path, rows: list[Row] = ROWS, galleries: Any = (), **files: Any) -> Page:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    result = Result(rows, {"epochs": 8, "const": [0.1, 1.0], "data_dir": None}, {"keras": "3.1"})
    return Page(write_html(folder, result, galleries))


def audit_row(id_: str, verdict: str, **changes: Any) -> dict[str, Any]:
    return {
        "id": id_,
        "question": "a < b?",
        "figure": 0.125,
        "rule": "r",
        "verdict": verdict,
        **changes,
    }


def test_the_headline_has_the_numbers_that_count(tmp_path: Path) -> None:
    lines = [{"radius": radius, "votes": 0.2, "mean_probability": 0.25} for radius in (0.0, 0.5)]
    certificate = {"defense": "rse", "certified_accuracy": lines}
    page = page_of(tmp_path, certificate=certificate)
    assert page.texts["h1"] == ["CIFAR-10, vgg16"] and "1,600 images" in page.text
    assert page.texts["h3"] == ["no defense", "RSE"]
    # Clean of both; of RSE the lowest row of its attack, that ten times, the lowest adaptive one.
    assert page.texts["b"] == ["90.0 %", "85.0 %", "70.0 %", "50.0 %", "30.0 %", "25.0 %"]
    assert "Carlini-Wagner L2, c = 1, 95 % interval 60.0 to 80.0 %" in page.texts["span"]
    assert "L2, epsilon = 0.5, 1,600 images" in page.texts["span"]
    assert "within L2 radius 0.5, by mean probability" in page.texts["span"]


def test_an_ensemble_is_not_taken_for_its_members(tmp_path: Path) -> None:
    facts = {"members": 10, "model": "cifar_cnn"}
    rows = [
        make_row("ensemble_bagging", attack, accuracy, scored=scored, **facts)
        for attack, scored, accuracy in (
            ("none", "single", 0.5),
            ("none", "ensemble", 0.9),
            ("zoo", "single", 0.1),
            ("zoo", "ensemble", 0.4),
        )
    ]
    assert page_of(tmp_path, rows).texts["b"] == ["90.0 %", "40.0 %"]


@pytest.mark.parametrize("as_mapping", [False, True])
def test_the_gravest_row_is_the_verdict(as_mapping: bool, tmp_path: Path) -> None:
    rows = [
        audit_row("A1", "PASS"),
        audit_row("B1", "WARN", reason="<b>"),
        audit_row("C1", "NOT_RUN", figure=None),
    ]
    audit = {"rows": rows} if as_mapping else rows
    page = page_of(tmp_path / "a", audit=audit)
    assert page.texts["span"][-2:] == ["WARN", "(0 FAIL, 1 WARN, 1 PASS, 1 NOT_RUN)"]
    cells = page.texts["td"]
    assert ["A1", "PASS", "a < b?", "0.125", "r"] == cells[:5] and "<b>" in cells
    assert "C1" not in cells and "NOT_RUN C1: " in page.text
    assert "upper bound" not in page.text
    page = page_of(tmp_path / "b", audit=[*rows, audit_row("D1", "FAIL")])
    assert "A check failed: every accuracy under attack is an upper bound." in page.text


def test_the_verdict_of_each_defense_stands_beside_its_numbers(tmp_path: Path) -> None:
    verdicts = [
        {"defense": "none", "headline": 0.25, "rows": [audit_row("A1", "PASS")]},
        {
            "defense": "rse",
            "headline": 0.65,
            "rows": [audit_row("A1", "WARN"), audit_row("D4", "FAIL")],
        },
    ]
    page = page_of(tmp_path, audit={"norm": "l2", "epsilon": 0.5, "verdicts": verdicts})
    spans = page.texts["span"]
    assert "FAIL: upper bound only" in spans and "PASS" in spans
    assert {"25.0 %", "65.0 %"} <= set(page.texts["b"])
    assert "L2, epsilon = 0.5" in spans and "L2, epsilon = 0.5, upper bound only" in spans
    assert page.texts["h3"] == ["no defense", "RSE"] * 2  # above their numbers and their rows
    assert page.text.count("A check failed") == 1
    # Of a verdict that names no defense, all are judged.
    page = page_of(tmp_path, audit=[audit_row("D4", "FAIL")])
    assert page.texts["span"].count("FAIL: upper bound only") == 2


def test_without_a_check_the_page_says_what_that_means(tmp_path: Path) -> None:
    text = page_of(tmp_path).text
    assert "No sanity check" in text and "upper bound" in text and "certified" not in text


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("audit", [audit_row("A1", "GOOD")], "verdict must be one of .*'GOOD'"),
        ("audit", [{"id": "A1"}], "a row must have question, figure, rule, verdict"),
        ("certificate", {"radii": []}, "certified_accuracy"),
    ],
)
def test_a_damaged_file_is_named(name: str, content: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"{name}.json is damaged.*{words}"):
        page_of(tmp_path, **{name: content})
    assert not (tmp_path / "report.html").exists()


def test_the_page_needs_no_other_file(tmp_path: Path) -> None:
    images = np.full((1, 4, 4, 1), 0.5)
    page = page_of(tmp_path, galleries=[Gallery("rse", images, images, attack="fgsm")])
    sources = [str(value) for _, name, value in page.attributes if name in ("src", "href")]
    start = "data:image/png;base64,"
    assert len(sources) == 3 and all(source.startswith(start) for source in sources)
    for source in sources:
        assert base64.b64decode(source.removeprefix(start)).startswith(b"\x89PNG")
    text = (tmp_path / "report.html").read_text()
    assert "http" not in text and "url(" not in text and "@import" not in text
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    assert "--const=0.1,1.0" in page.text and "data_dir" not in page.text
    assert "keras 3.1" in page.text
    assert all(value for tag, name, value in page.attributes if (tag, name) == ("img", "alt"))


def test_a_trial_run_says_so_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, [change(row, training={"epochs": 1}) for row in ROWS])
    assert page.text.count("Trial run (1 epoch)") == 1


def test_the_command_line_writes_a_page_for_each_run(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    for name in ("a/b", "a_b"):
        write_json(ROWS[:3], runs / name / "result.json", flags={"name": name}, versions={})
        images = np.full((1, 4, 4, 1), 0.5)
        save_gallery(Gallery("none", images, images), runs / name / "gallery_none.npz")
    output = tmp_path / "report"
    report.main(["report", str(runs), f"--output={output}", "--html"])
    assert {p.name for p in output.glob("*.html")} == {"report_a_b.html", "report_a_b_2.html"}
    assert "--name=a/b" in Page(output / "report_a_b.html").text
    report.main(["report", str(runs / "a_b"), f"--output={output}", "--html"])
    assert "--name=a_b" in Page(output / "report.html").text

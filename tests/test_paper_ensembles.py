"""Tests of the second paper's tables: which row and which number stand in which cell."""

from __future__ import annotations

import dataclasses

import numpy as np
from rows import ensembles_row
from test_paper import tables

from rse_tf.evaluation import Gallery, Row
from rse_tf.papers import TABLES

METHODS = ("random_init", "mixed", "bagging", "gauss_noise")


def ensemble_rows() -> list[Row]:
    """All rows of the second paper's Table 2, each with an accuracy of its own."""
    kinds = [("single", "member")]
    kinds += [("ensemble", gradient) for gradient in ("member", "mean_loss", "mean_probability")]
    settings = [("none", "single", ""), ("none", "ensemble", "")]
    settings += [(attack, *kind) for attack in ("fgsm", "bim") for kind in kinds]
    places = [
        (dataset, f"ensemble_{method}", *setting)
        for dataset in ("mnist", "cifar10")
        for method in METHODS
        for setting in settings
    ]
    # Exact in percent, to two decimals or three.
    return [ensembles_row(*p, accuracy=(n + 1) / 128) for n, p in enumerate(places)]


def test_ensembles_table_2_has_all_rows_in_the_papers_places() -> None:
    rows = ensemble_rows()
    found = tables(TABLES["ensembles/table2"].format(rows[::-1], ""))
    number = 0
    for table, paper in zip(found, (("99.12", "90.76"), ("79.84", "67.68")), strict=True):
        assert [line[:2] for line in table[1:]] == [
            [attack if method == "Rand. Ini." else "", method]
            for attack in ("FGSM", "BIM")
            for method in ("Rand. Ini.", "Mix. Mod.", "Bagging", "Gauss Noise")
        ]
        for line in range(4):
            # As `ensemble_rows` makes them: 2 clean, then 4 of FGSM, then 4 of BIM.
            own = [f"{100 * (number + k + 1) / 128:.2f}" for k in range(10)]
            number += 10
            fgsm, bim = ([cell.split()[0] for cell in table[line + k][2:]] for k in (1, 5))
            assert fgsm == own[:2] + own[2:6] and bim == own[:2] + own[6:]
        assert table[1][2].endswith(f"({paper[0]})") and table[6][6].endswith(f"({paper[1]})")
        assert all("(" not in line[7] for line in table[1:])  # not in the paper


def test_ensembles_table_4_sets_single_networks_beside_ensembles() -> None:
    def row(defense: str, attack: str, accuracy: float, *kind: str) -> Row:
        return ensembles_row("cifar10", defense, attack, *kind, accuracy=accuracy)

    both = "ensemble_bagging+distillation"
    rows = [
        row("distillation", "bim", 0.125),
        row("adversarial_training", "none", 0.25),
        row(both, "bim", 0.5, "ensemble", "mean_loss"),
        row(both, "bim", 0.375, "ensemble", "mean_probability"),
        row("ensemble_bagging", "none", 0.625, "ensemble"),
    ]
    main, ours = tables(TABLES["ensembles/table4"].format(rows, ""))
    assert [line[0] for line in main[1:]] == [
        "Bagging",
        "Adv. Train.",
        "Def. Dist.",
        "Bagging + Adv. Train.",
        "Bagging + Def. Dist.",
    ]
    assert main[1][1:] == [
        "– (99.27)",
        "– (57.16)",
        "– (92.33)",
        "62.50 (84.15)",
        "– (35.71)",
        "– (71.66)",
    ]
    assert main[2][4] == "25.00 (77.12)" and main[3][6] == "12.50 (36.35)"
    assert main[5][6] == "50.00 (45.69)"
    assert ours[0][1:] == ["MNIST: FGSM", "MNIST: BIM", "CIFAR-10: FGSM", "CIFAR-10: BIM"]
    assert ours[3] == ["Bagging + Def. Dist.", "–", "–", "–", "37.50"]


def test_the_small_mnist_stands_in_for_the_whole_and_is_marked() -> None:
    row = next(row for row in ensemble_rows() if row.gradient == "member")
    small = dataclasses.replace(row, dataset="mnist_5k")
    text = TABLES["ensembles/table2"].format([small], "")
    assert tables(text)[0][1][4] == f"{100 * row.score.accuracy:.2f}† (37.91)"
    assert "dataset=mnist_5k instead of mnist" in text


def test_figure_1_lists_predictions() -> None:
    images = np.zeros((2, 4, 4, 1))
    gallery = Gallery("none", images, images, dataset="mnist", labels="01", predicted="68")
    text = TABLES["ensembles/figure1"].format([], "", [gallery])
    assert "Ours, MNIST, class → prediction: 0 → 6, 1 → 8." in text
    assert "The paper's ten MNIST images are predicted: 6, 8, 1, 5, 9, 3, 0, 2, 2, 4." in text

"""Tests of the second paper's tables: which row and which number stand in which cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from rse_tf.reporting import Gallery, Row, format_exhibit
from test_paper import make_row, tables

STRENGTHS: dict[tuple[str, str], dict[str, Any]] = {
    ("mnist", "fgsm"): {"epsilon": 0.3},
    ("mnist", "bim"): {"epsilon": 0.2, "step_size": 0.025, "steps": 8},
    ("cifar10", "fgsm"): {"epsilon": 0.03},
    ("cifar10", "bim"): {"epsilon": 0.02, "step_size": 0.0025, "steps": 8},
}
METHODS = ("random_init", "mixed", "bagging", "gauss_noise")


def ensemble_rows() -> list[Row]:
    """All rows of the second paper's Table 2, each with an accuracy of its own."""
    rows = []
    for dataset, model in (("mnist", "mnist_cnn"), ("cifar10", "cifar_cnn")):
        for method in METHODS:
            settings: list[tuple[str, dict[str, Any]]] = [
                ("none", {"scored": "single"}),
                ("none", {"scored": "ensemble"}),
            ]
            for attack in ("fgsm", "bim"):
                common = {**STRENGTHS[dataset, attack], "targeted": False, "attack_draws": 1}
                settings.append((attack, {**common, "scored": "single", "gradient": "member"}))
                for gradient in ("member", "mean_loss", "mean_probability"):
                    own = {**common, "scored": "ensemble", "gradient": gradient}
                    settings.append((attack, own))
            for attack, parameters in settings:
                place = {"dataset": dataset, "model": model}
                given = {"parameters": {"members": 10, **parameters}, **place}
                accuracy = (len(rows) + 1) / 128  # exact in percent, to two decimals or three
                rows.append(make_row(f"ensemble_{method}", attack, accuracy, **given))
    return rows


def test_ensembles_table_2_has_all_rows_in_the_papers_places() -> None:
    rows = ensemble_rows()
    found = tables(format_exhibit("ensembles/table2", rows[::-1], ""))
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
    place = {"dataset": "cifar10", "model": "cifar_cnn"}
    strength = STRENGTHS["cifar10", "bim"]
    ensemble = {"members": 10, "scored": "ensemble"}
    rows = [
        make_row("distillation", "bim", 0.125, parameters=strength, **place),
        make_row("adversarial_training", "none", 0.25, **place),
        *(
            make_row(
                "ensemble_bagging+distillation",
                "bim",
                accuracy,
                parameters={**strength, **ensemble, "gradient": gradient},
                **place,
            )
            for gradient, accuracy in (("mean_loss", 0.5), ("mean_probability", 0.375))
        ),
        make_row("ensemble_bagging", "none", 0.625, parameters=ensemble, **place),
    ]
    main, ours = tables(format_exhibit("ensembles/table4", rows, ""))
    assert [line[0] for line in main[1:]] == [
        "Bagging", "Adv. Train.", "Def. Dist.", "Bagging + Adv. Train.", "Bagging + Def. Dist.",
    ]  # fmt: skip
    assert main[1][1:] == [
        "– (99.27)", "– (57.16)", "– (92.33)", "62.50 (84.15)", "– (35.71)", "– (71.66)",
    ]  # fmt: skip
    assert main[2][4] == "25.00 (77.12)" and main[3][6] == "12.50 (36.35)"
    assert main[5][6] == "50.00 (45.69)"
    assert ours[0][1:] == ["MNIST: FGSM", "MNIST: BIM", "CIFAR-10: FGSM", "CIFAR-10: BIM"]
    assert ours[3] == ["Bagging + Def. Dist.", "–", "–", "–", "37.50"]


def test_the_small_mnist_stands_in_for_the_whole_and_is_marked() -> None:
    row = next(row for row in ensemble_rows() if row.parameters.get("gradient") == "member")
    small = Row(**{**row.to_json(), "dataset": "mnist_5k"})
    text = format_exhibit("ensembles/table2", [small], "")
    assert tables(text)[0][1][4] == f"{100 * row.accuracy:.2f}† (37.91)"
    assert "dataset=mnist_5k instead of mnist" in text


def test_figure_1_lists_predictions() -> None:
    images = np.zeros((2, 4, 4, 1))
    gallery = Gallery(
        "none", images, images, ["", ""], dataset="mnist", labels="01", predicted="68"
    )
    text = format_exhibit("ensembles/figure1", [], "", [gallery])
    assert "Ours, MNIST, class → prediction: 0 → 6, 1 → 8." in text
    assert "The paper's ten MNIST images are predicted: 6, 8, 1, 5, 9, 3, 0, 2, 2, 4." in text

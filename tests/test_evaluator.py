"""The rows of a defense under attack: whose gradient made the images, and who is scored on them."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import keras
import numpy as np
import pytest

from rse_tf import data, models
from rse_tf.attacks import ARC, FGSM
from rse_tf.config import Config
from rse_tf.evaluation import Row
from rse_tf.evaluation.evaluator import Evaluator
from rse_tf.models import AveragedEnsemble

NUMBER, CLASSES, SHAPE = 60, 3, (4, 4, 1)
RNG = np.random.default_rng(0)
KERNELS = RNG.normal(0, 2, (3, 16, CLASSES))
IMAGES = RNG.uniform(size=(NUMBER, *SHAPE)).astype(np.float32)
# What the first member predicts, but for a fifth of the images.
LABELS = np.where(
    RNG.uniform(size=NUMBER) < 0.2,
    RNG.integers(0, CLASSES, NUMBER),
    np.argmax(IMAGES.reshape(NUMBER, -1) @ KERNELS[0], axis=1),
)
TEST = data.Split(IMAGES, LABELS)
DATASET = data.Dataset("tiny", TEST, TEST[:0], TEST, ("ant", "bee", "cow"))
EPSILON, STEP, STEPS = 0.1, 0.04, 3


def linear(kernel: np.ndarray) -> keras.Model:
    dense = keras.layers.Dense(CLASSES, use_bias=False)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), dense])
    dense.set_weights([kernel])
    return model


def noisy(**settings: Any) -> keras.Model:
    return models.build("mnist_cnn", input_shape=(6, 6, 1), num_classes=CLASSES, **settings)


def settings(folder: pathlib.Path, **flags: Any) -> Config:
    common = {"num_images": NUMBER, "attack_batch_size": 25, "eval_seeds": 2, "num_draws": (4,)}
    return Config(workdir=str(folder), **{**common, **flags})


def rows_of(model: keras.Model, run: Config, dataset: data.Dataset = DATASET, **kw: Any) -> list:
    return Evaluator(run.evaluation_settings(), "mine", model, dataset, **kw).rows()


# By hand, in float64.


def probabilities(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    logits = x.reshape(len(x), -1).astype(np.float64) @ kernel
    exp = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def gradient(x: np.ndarray, kernels: Any, kind: str) -> np.ndarray:
    """Of the members' mean loss, or of the loss of their mean probability."""
    truth = np.eye(CLASSES)[LABELS]
    each = [probabilities(x, kernel) for kernel in kernels]
    # The loss of one is -log p_y with the gradient W (p - y).
    gradients = [(p - truth) @ kernel.T for p, kernel in zip(each, kernels)]
    weights = np.ones((len(kernels), len(x)))
    if kind == "mean_probability":  # -log mean p_y: weighted by each member's share of it
        weights = np.array([np.sum(p * truth, axis=1) for p in each])
    weights = weights / weights.sum(axis=0)
    return np.sum(weights[..., None] * gradients, axis=0).reshape(x.shape)


def attacked(attack: str, kernels: Any, kind: str = "mean_loss") -> np.ndarray:
    x = IMAGES.astype(np.float64)
    if attack == "fgsm":
        return np.clip(x + EPSILON * np.sign(gradient(x, kernels, kind)), 0, 1)
    for _ in range(STEPS):
        x = x + STEP * np.sign(gradient(x, kernels, kind))
        x = np.clip(np.clip(x, IMAGES - EPSILON, IMAGES + EPSILON), 0, 1)
    return x


def accuracy(x: np.ndarray, kernels: Any) -> float:
    mean = np.mean([probabilities(x, kernel) for kernel in kernels], axis=0)
    return float(np.mean(np.argmax(mean, axis=1) == LABELS))


def rms(parts: list[np.ndarray]) -> float:
    squares = [np.sum((x - IMAGES) ** 2, axis=(1, 2, 3)) for x in parts]
    return float(np.sqrt(np.mean(squares)))


@pytest.fixture(scope="module", params=["fgsm", "bim"])
def attack(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def ensemble_rows(attack: str, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    step = {"step_size": STEP, "attack_steps": STEPS} if attack == "bim" else {}
    run = settings(
        tmp_path_factory.mktemp(attack),
        attack=(attack,),
        epsilon=(EPSILON,),
        gradient=("member", "mean_loss", "mean_probability"),
        **step,
    )
    return rows_of(AveragedEnsemble([linear(kernel) for kernel in KERNELS]), run)


def test_an_ensemble_has_a_row_for_each_gradient_and_for_its_single_members(
    ensemble_rows: list[Row], attack: str
) -> None:
    found = [(r.attack, r.scored, r.gradient) for r in ensemble_rows]
    assert found == [
        ("none", "single", None),
        ("none", "ensemble", None),
        (attack, "single", "member"),
        (attack, "ensemble", "member"),
        (attack, "ensemble", "mean_loss"),
        (attack, "ensemble", "mean_probability"),
    ]
    assert {row.members for row in ensemble_rows} == {3}
    assert {(row.num_images, row.num_draws, row.eval_seeds) for row in ensemble_rows} == {
        (NUMBER, 1, 1)
    }  # nothing is random
    assert all(row.noise == {} for row in ensemble_rows)


def test_clean_rows_are_the_members_mean_accuracy_and_the_ensembles(
    ensemble_rows: list[Row],
) -> None:
    single, ensemble, *_ = ensemble_rows
    each = [accuracy(IMAGES, [kernel]) for kernel in KERNELS]
    assert single.score.accuracy == pytest.approx(np.mean(each))
    # Nothing is random: the members differ, the evaluation seeds do not.
    assert single.score.accuracy_std_members == pytest.approx(np.std(each, ddof=1))
    assert single.score.accuracy_std == 0
    assert ensemble.score.accuracy_std_members is None
    assert single.seconds is ensemble.seconds is None
    assert ensemble.score.accuracy == pytest.approx(accuracy(IMAGES, KERNELS))
    # Else it proves little.
    assert min(each) != max(each) and single.score.accuracy != ensemble.score.accuracy


def test_grad_1_is_the_mean_over_images_made_from_one_member_each(
    ensemble_rows: list[Row], attack: str
) -> None:
    single, ensemble = ensemble_rows[2:4]
    made = [attacked(attack, [kernel]) for kernel in KERNELS]
    own = [accuracy(x, [kernel]) for x, kernel in zip(made, KERNELS)]
    transferred = [accuracy(x, KERNELS) for x in made]
    assert single.score.accuracy == pytest.approx(np.mean(own))
    assert ensemble.score.accuracy == pytest.approx(np.mean(transferred))
    assert ensemble.score.accuracy_std_members == pytest.approx(np.std(transferred, ddof=1))
    assert ensemble.score.accuracy_std == 0
    assert ensemble.seconds == single.seconds > 0
    assert single.score.rms_l2 == pytest.approx(rms(made), rel=1e-5) == ensemble.score.rms_l2
    assert single.score.misclassified_clean == pytest.approx(1 - ensemble_rows[0].score.accuracy)
    assert ensemble.score.misclassified_clean == pytest.approx(1 - ensemble_rows[1].score.accuracy)


def test_grad_2_and_the_gradient_of_the_mean_probability(
    ensemble_rows: list[Row], attack: str
) -> None:
    for row in ensemble_rows[4:]:
        x = attacked(attack, KERNELS, row.gradient)
        assert row.score.accuracy == pytest.approx(accuracy(x, KERNELS))
        assert row.score.rms_l2 == pytest.approx(rms([x]), rel=1e-5)
    first, second = (attacked(attack, KERNELS, kind) for kind in ("mean_loss", "mean_probability"))
    assert np.any(np.abs(first - second) > EPSILON / 2)  # two attacks, not one


# One network.


def test_a_single_network_has_one_row_for_each_setting_in_order(tmp_path: pathlib.Path) -> None:
    run = settings(
        tmp_path,
        attack=("bim", "fgsm"),
        epsilon=(0.0, EPSILON),
        step_size=STEP,
        attack_steps=STEPS,
        gradient=("member", "mean_loss"),
    )
    rows = rows_of(linear(KERNELS[0]), run)
    assert [(row.attack, row.parameters.get("epsilon")) for row in rows] == [
        ("none", None),
        ("bim", 0.0),
        ("bim", EPSILON),
        ("fgsm", 0.0),
        ("fgsm", EPSILON),
    ]
    assert all(row.gradient is row.scored is row.members is None for row in rows)
    expected = [accuracy(attacked(row.attack, KERNELS[:1]), KERNELS[:1]) for row in rows[2::2]]
    assert [row.score.accuracy for row in rows[2::2]] == pytest.approx(expected)
    # An epsilon of 0 changes nothing.
    assert rows[0].score.accuracy == rows[1].score.accuracy == rows[3].score.accuracy


def test_without_an_attack_there_are_clean_rows_only(tmp_path: pathlib.Path) -> None:
    (row,) = rows_of(linear(KERNELS[0]), settings(tmp_path, attack=("none",)))
    assert (row.attack, row.parameters, row.mean_queries) == ("none", {}, None)
    assert row.score.rms_l2 == 0
    assert row.score.accuracy == pytest.approx(accuracy(IMAGES, KERNELS[:1]))


def test_a_substitute_makes_the_images_and_the_defense_is_scored(tmp_path: pathlib.Path) -> None:
    run = settings(tmp_path, attack=("fgsm",), epsilon=(EPSILON,), substitute="none")
    clean, row = rows_of(linear(KERNELS[0]), run, substitute=linear(KERNELS[1]))
    assert clean.score.accuracy == pytest.approx(accuracy(IMAGES, KERNELS[:1]))
    x = attacked("fgsm", KERNELS[1:2])
    assert row.score.accuracy == pytest.approx(accuracy(x, KERNELS[:1]))
    assert row.score.accuracy > accuracy(attacked("fgsm", KERNELS[:1]), KERNELS[:1])
    assert row.parameters["substitute"] == "none"


def test_several_classes_are_aimed_at_from_images_of_one(tmp_path: pathlib.Path) -> None:
    run = settings(
        tmp_path,
        attack=("fgsm",),
        epsilon=(EPSILON,),
        image_class="bee",
        target_class=("cow", "ant"),
        num_images=8,
    )
    evaluator = Evaluator(run.evaluation_settings(), "mine", linear(KERNELS[0]), DATASET)
    _, *rows = evaluator.rows()
    assert [(r.parameters["target"], r.parameters["targeted"]) for r in rows] == [
        ("cow", True),
        ("ant", True),
    ]
    bees = IMAGES[LABELS == 1][:8].astype(np.float64)
    for row, target in zip(rows, (2, 0)):
        goal = np.eye(CLASSES)[np.full(len(bees), target)]
        down = ((probabilities(bees, KERNELS[0]) - goal) @ KERNELS[0].T).reshape(bees.shape)
        x = np.clip(bees - EPSILON * np.sign(down), 0, 1)
        right = np.argmax(probabilities(x, KERNELS[0]), axis=1) == 1
        assert (row.num_images, row.score.accuracy) == (len(bees), pytest.approx(right.mean()))
    (gallery,) = evaluator.galleries()
    assert list(gallery.targets) == ["cow", "ant"] and list(gallery.labels) == ["bee"] * 2
    np.testing.assert_array_equal(gallery.clean, [bees[0].astype(np.float32)] * 2)


def test_each_attack_has_a_gallery_of_its_last_setting(tmp_path: pathlib.Path) -> None:
    run = settings(
        tmp_path,
        attack=("fgsm", "bim"),
        epsilon=(0.05, EPSILON),
        step_size=STEP,
        attack_steps=STEPS,
    )
    evaluator = Evaluator(run.evaluation_settings(), "mine", linear(KERNELS[0]), DATASET)
    evaluator.rows()
    correct = np.argmax(probabilities(IMAGES, KERNELS[0]), axis=1) == LABELS
    first = sorted(np.flatnonzero(correct & (LABELS == c))[0] for c in range(CLASSES))
    galleries = evaluator.galleries()
    assert [(one.attack, one.strength) for one in galleries] == [
        ("fgsm", f"epsilon={EPSILON}"),
        ("bim", f"epsilon={EPSILON}"),
    ]
    for gallery in galleries:
        np.testing.assert_array_equal(gallery.clean, IMAGES[first])
        expected = attacked(gallery.attack, KERNELS[:1])[first]
        np.testing.assert_allclose(gallery.adversarial, expected, atol=1e-6)
        guesses = np.argmax(probabilities(gallery.adversarial, KERNELS[0]), axis=1)
        assert list(gallery.predicted) == [DATASET.class_names[guess] for guess in guesses]


# Noise.

NOISY = data.Split(RNG.uniform(size=(20, 6, 6, 1)).astype(np.float32), np.arange(20) % CLASSES)
NOISY_DATA = data.Dataset("tiny", NOISY, NOISY[:0], NOISY, ("ant", "bee", "cow"))


def test_several_numbers_of_draws_share_one_attack(tmp_path: pathlib.Path) -> None:
    model = noisy(init_noise=0.5, inner_noise=0.2, distribution="uniform")
    run = settings(tmp_path, attack=("fgsm",), epsilon=(0.1,), num_draws=(1, 7), num_images=20)
    rows = rows_of(model, run, NOISY_DATA)
    assert [(r.attack, r.num_draws) for r in rows] == [
        ("none", 1),
        ("none", 7),
        ("fgsm", 1),
        ("fgsm", 7),
    ]
    assert {row.eval_seeds for row in rows} == {2}
    assert len(list(tmp_path.rglob("batch_*.npz"))) == 1
    assert rows[0].noise == {
        "init_noise": 0.5,
        "inner_noise": 0.2,
        "distribution": "uniform",
        "init_noise_at": "first_conv",
    }


def test_draws_of_one_network_give_gradients_but_no_members(tmp_path: pathlib.Path) -> None:
    run = settings(
        tmp_path,
        attack=("fgsm",),
        epsilon=(0.1,),
        attack_draws=3,
        num_images=20,
        gradient=("member", "mean_loss", "mean_probability"),
    )
    _, *rows = rows_of(noisy(init_noise=0.5), run, NOISY_DATA)
    assert [row.gradient for row in rows] == ["mean_loss", "mean_probability"]
    assert {row.parameters["attack_draws"] for row in rows} == {3}
    # A network without noise has no draws to average.
    _, row = rows_of(noisy(), run, NOISY_DATA)
    assert row.parameters["attack_draws"] == 1 and row.gradient is None


@pytest.mark.parametrize("kind", ["mean_logits", "reweighted"])
def test_sources_of_gradients_by_name(kind: str, tmp_path: pathlib.Path) -> None:
    model = AveragedEnsemble([linear(kernel) for kernel in KERNELS])
    run = settings(tmp_path, attack=("fgsm",), epsilon=(EPSILON,), gradient=(kind,))
    *_, row = rows_of(model, run)
    if kind == "mean_logits":
        # The loss of the mean probability p by the mean logits Z: dlogits/dx is the mean kernel.
        mean = np.mean([probabilities(IMAGES, kernel) for kernel in KERNELS], axis=0)
        up = (mean - np.eye(CLASSES)[LABELS]) @ KERNELS.mean(axis=0).T
        x = np.clip(IMAGES + EPSILON * np.sign(up).reshape(IMAGES.shape), 0, 1)
    else:
        x = FGSM(models.ReweightedMembers(model.stacked_logits), epsilon=EPSILON)(
            IMAGES, LABELS
        ).adversarial
    assert (row.gradient, row.scored) == (kind, "ensemble")
    assert row.score.accuracy == pytest.approx(accuracy(x, KERNELS))
    # Else it proves little.
    assert np.abs(x - attacked("fgsm", KERNELS, "mean_probability")).max() > EPSILON / 2


def test_sources_of_gradients_are_there_for_draws_and_for_random_members(
    tmp_path: pathlib.Path,
) -> None:
    names = ("mean_logits", "reweighted")
    common = {"epsilon": (0.1,), "attack_draws": 3, "num_images": 6, "gradient": names}
    network = noisy(init_noise=0.5)
    ensemble = AveragedEnsemble([network, noisy(init_noise=0.3)])
    cases: list[tuple[keras.Model, tuple[str, ...], dict[str, Any]]] = [
        (network, ("fgsm", "ddn"), {"attack_steps": 3}),
        (ensemble, ("fgsm",), {}),
    ]
    for model, attacks, more in cases:
        run = settings(tmp_path, attack=attacks, **common, **more)
        rows = [row for row in rows_of(model, run, NOISY_DATA) if row.attack != "none"]
        assert [(row.attack, row.gradient) for row in rows] == [
            (attack, gradient) for attack in attacks for gradient in names
        ]
    assert len(list(tmp_path.rglob("batch_*.npz"))) == 6  # none is found under another's name


def test_an_attack_on_stacked_logits_gets_them_where_there_are_any(tmp_path: pathlib.Path) -> None:
    run = settings(tmp_path, attack=("arc",), epsilon=(EPSILON,), attack_steps=2, num_images=9)
    ensemble = AveragedEnsemble([linear(kernel) for kernel in KERNELS])
    assert rows_of(ensemble, run)[-1].gradient == "mean_loss"
    assert rows_of(linear(KERNELS[0]), run)[-1].gradient is None


def test_an_attack_on_a_random_member_is_scored_by_each_of_them(tmp_path: pathlib.Path) -> None:
    run = settings(tmp_path, attack=("arc",), epsilon=(EPSILON,), gradient=("mean_loss",))
    model = AveragedEnsemble([linear(kernel) for kernel in KERNELS])
    *_, single, ensemble = rows_of(model, run)
    assert (single.attack, single.scored, ensemble.scored) == ("arc", "single", "ensemble")
    moved = ARC(model.stacked_logits, epsilon=EPSILON)(IMAGES, LABELS).adversarial
    each = [accuracy(moved, [kernel]) for kernel in KERNELS]
    assert single.score.accuracy == pytest.approx(np.mean(each)) and min(each) != max(each)
    assert ensemble.score.accuracy == pytest.approx(accuracy(moved, KERNELS))
    assert single.score.rms_l2 == pytest.approx(rms([moved]))


def test_attacks_without_a_loss_of_members_are_not_run_under_its_name(
    tmp_path: pathlib.Path,
) -> None:
    model = AveragedEnsemble([linear(kernel) for kernel in KERNELS])
    run = settings(
        tmp_path,
        attack=("carlini_wagner", "deepfool"),
        const=(1.0,),
        attack_steps=2,
        gradient=("member", "mean_loss", "mean_probability"),
    )
    rows = [row for row in rows_of(model, run) if row.attack != "none"]
    found = {(row.attack, row.gradient) for row in rows}
    assert found == {
        (attack, gradient) for attack in run.attack for gradient in ("member", "mean_probability")
    }
    _, _, row = rows_of(
        model, dataclasses.replace(run, gradient=("mean_loss",), attack=("deepfool",), const=None)
    )
    assert row.gradient == "mean_probability"


def test_a_search_against_noise_never_ends_early(tmp_path: pathlib.Path) -> None:
    run = settings(
        tmp_path,
        attack=("carlini_wagner",),
        binary_search=True,
        num_images=4,
        binary_search_steps=2,
        attack_steps=20,
    )
    for model, early in ((noisy(), True), (noisy(init_noise=0.3), False)):
        row = rows_of(model, run, NOISY_DATA)[-1]
        assert row.parameters.get("abort_early", True) is early
        # The clean image, the descents with their last iterates, and the one that is returned.
        assert early or row.mean_queries == 2 * (20 + 1) + 1


def test_a_row_tells_the_networks_own_noise(tmp_path: pathlib.Path) -> None:
    # As in robust_opt_brelu: noise on the images, whatever RSE would have in the same run.
    run = settings(tmp_path, attack=("none",), init_noise=0.4, inner_noise=0.1)
    model = noisy(init_noise=0.05, active="training")
    for classifier in (model, AveragedEnsemble([model, noisy(init_noise=0.05)])):
        row, *_ = rows_of(classifier, run, NOISY_DATA)
        assert (row.noise["init_noise"], row.noise["inner_noise"]) == (0.05, 0.0)
    assert rows_of(noisy(), run, NOISY_DATA)[0].noise == {}


def test_stopping_early_is_in_the_rows_and_measured_on_the_clean_ones(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split = data.Split(np.zeros((8, 6, 6, 1), np.float32), np.arange(8) % CLASSES)
    dataset = data.Dataset("tiny", split, split[:0], split, DATASET.class_names)
    run = settings(tmp_path, attack=("fgsm",), epsilon=(0.1,), stop_error=0.2, num_draws=(50,))
    clean, fgsm = rows_of(noisy(init_noise=0.1), run, dataset)
    assert clean.stop_error == fgsm.stop_error == 0.2
    assert 1 <= clean.mean_draws <= 50 and 0 <= clean.disagreement <= 0.2
    assert fgsm.mean_draws is None
    assert f"{clean.mean_draws:.1f} of 50 draws on average" in capsys.readouterr().out
    # A plain network has no draws to save.
    (plain,) = rows_of(noisy(), settings(tmp_path, attack=("none",), stop_error=0.2), dataset)
    assert plain.mean_draws is None


def test_a_revised_attack_is_made_anew(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = settings(tmp_path, attack=("fgsm",), epsilon=(EPSILON,))
    for revision, folders in ((1, 1), (1, 1), (7, 2)):
        monkeypatch.setattr(FGSM, "cache_version", revision)
        rows_of(linear(KERNELS[0]), run)
        assert len(list(pathlib.Path(str(run.attacks_dir)).iterdir())) == folders

"""Everything public under XLA: the same law or value, and one compilation for each shape."""

from __future__ import annotations

import dataclasses
import math
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

# XLA reads this when it compiles for the first time, which is after all test files were imported.
DUMP = pathlib.Path(tempfile.mkdtemp(prefix="xla-"))
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_dump_to={DUMP}"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import tensorflow as tf  # noqa: E402

import rse_tf  # noqa: E402
from rse_tf import attacks  # noqa: E402
from rse_tf.layers import (  # noqa: E402
    BReLU,
    CommonNoise,
    Dropout,
    FrozenNoise,
    FusedBatchNormalization,
    NoiseLayer,
)
from rse_tf.training import TrainingSettings, loop  # noqa: E402
from rse_tf.training.objectives import CrossEntropy  # noqa: E402

SHAPE, CLASSES, CALLS = (8, 8, 1), 4, 10
IMAGES = np.random.default_rng(0).random((6, *SHAPE), np.float32)
LABELS = np.arange(6) % CLASSES


def compilations() -> int:
    return len(list(DUMP.glob("*before_optimizations.txt")))


@pytest.fixture(autouse=True)
def counted() -> Iterator[Callable[[], int]]:
    """How often XLA has compiled since the test began."""
    for file in DUMP.glob("*"):
        file.unlink()
    yield compilations


def small_network(*layers: keras.layers.Layer, seed: int = 0) -> keras.Model:
    keras.utils.set_random_seed(seed)
    convolution = keras.layers.Conv2D(4, 3, activation="relu")
    head = [keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input(SHAPE), *layers, convolution, *head])


def noisy_network(stddev: float = 0.3) -> keras.Model:
    return rse_tf.robustify(small_network(), stddev, stddev)


def compiled(function: Callable, any_batch: bool = False) -> Any:
    signature = [tf.TensorSpec([None, *SHAPE], tf.float32)] if any_batch else None
    return tf.function(function, signature, jit_compile=True, autograph=False)


BATCHES = pytest.mark.parametrize("any_batch", [False, True], ids=["fixed", "any"])


@pytest.mark.parametrize("sampler", ["pool", "exact"])
def test_noise_keeps_its_law_and_compiles_once(counted: Callable, sampler: str) -> None:
    draw = compiled(NoiseLayer(0.5, sampler=sampler))
    zeros = tf.zeros((2000, *SHAPE))
    calls = np.stack([draw(zeros) for _ in range(CALLS)])
    assert counted() == 1
    size = calls.size
    assert abs(calls.mean()) <= 5 * 0.5 / math.sqrt(size)
    assert abs(calls.var() / 0.25 - 1) <= 5 * math.sqrt(2 / size)
    assert len({call.tobytes() for call in calls}) == CALLS


@BATCHES
@pytest.mark.parametrize(
    "make",
    [
        lambda: small_network(BReLU()),
        lambda: small_network(FusedBatchNormalization()),
        lambda: small_network(Dropout(0.5)),
        lambda: rse_tf.SelfEnsemble(noisy_network(0.0), 4, max_rows=12),
        lambda: rse_tf.SelfEnsemble(noisy_network(0.0), 4, max_rows=4),
        lambda: rse_tf.AveragedEnsemble([small_network(seed=seed) for seed in range(3)]),
    ],
    ids=["brelu", "batch_norm", "dropout", "self", "self_in_parts", "averaged"],
)
@pytest.mark.filterwarnings("ignore:SelfEnsemble")
def test_models_without_noise_have_the_same_values(
    counted: Callable, make: Callable[[], keras.Model], any_batch: bool
) -> None:
    model = make()
    call = compiled(model, any_batch)
    for _ in range(CALLS):
        np.testing.assert_allclose(call(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-5)
    assert counted() == 1


@BATCHES
@pytest.mark.parametrize("max_rows", [512, 4])
def test_a_self_ensemble_has_the_same_law(
    counted: Callable, max_rows: int, any_batch: bool
) -> None:
    network = noisy_network()
    one_draw = rse_tf.SelfEnsemble(network, 1, max_rows=2000)
    draws = np.exp(one_draw(np.tile(IMAGES, (200, 1, 1, 1)))).reshape(200, 6, CLASSES)
    call = compiled(rse_tf.SelfEnsemble(network, 20, max_rows), any_batch)
    means = np.exp([call(IMAGES) for _ in range(CALLS)])
    assert counted() == 1
    # 200 draws either way: the difference of two means of a probability.
    tolerance = 5 * draws.std(axis=0, ddof=1) * math.sqrt(2 / 200)
    assert (np.abs(means.mean(axis=0) - draws.mean(axis=0)) <= tolerance).all()
    # The spread between calls is that of 20 draws: a chi-square of so many degrees of freedom.
    freedom = (CALLS - 1) * len(IMAGES)
    ratio = (means.var(axis=0, ddof=1) / draws.var(axis=0, ddof=1) * 20).mean()
    assert abs(ratio - 1) <= 5 * math.sqrt(2 / freedom)


def test_frozen_and_common_noise_hold_their_draw(counted: Callable) -> None:
    network = noisy_network()
    frozen, common = FrozenNoise(network, 3), CommonNoise(network)
    call = compiled(frozen)
    first = call(IMAGES).numpy()
    for _ in range(CALLS):
        np.testing.assert_array_equal(call(IMAGES), first)
    assert counted() == 1
    call = compiled(common)
    before = call(IMAGES).numpy()
    np.testing.assert_array_equal(call(IMAGES), before)
    common.redraw()
    assert np.any(call(IMAGES) != before)
    assert counted() == 2


@pytest.mark.parametrize("name", ["mnist_cnn", "cifar_cnn"])
def test_a_network_compiles_once(counted: Callable, name: str) -> None:
    # The others are made of the same layers, and take XLA many times as long on a CPU.
    side = max(rse_tf.models.MODELS[name].smallest, 8)
    plain = rse_tf.models.build(name, input_shape=(side, side, 1), num_classes=CLASSES)
    images = np.random.default_rng(0).random((3, side, side, 1), np.float32)
    call = compiled(plain)
    for _ in range(CALLS):
        np.testing.assert_allclose(call(images), plain(images), rtol=1e-3, atol=1e-5)
    assert counted() == 1


def test_keras_predicts_and_fits_as_it_chooses_on_a_gpu(counted: Callable) -> None:
    network = noisy_network()
    ensemble = rse_tf.SelfEnsemble(network, 4)
    stopping = rse_tf.SelfEnsemble(network, 4, stop_error=0.5)
    assert ensemble.supports_jit and not stopping.supports_jit
    assert not rse_tf.AveragedEnsemble([stopping]).supports_jit
    for model in (ensemble, stopping):
        model.compile(jit_compile=model.supports_jit)
        for _ in range(CALLS):
            assert model.predict(IMAGES, verbose=0).shape == (6, CLASSES)
    assert counted() == 1
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("sgd", loss, jit_compile=True)
    network.fit(IMAGES, LABELS, batch_size=6, epochs=CALLS, verbose=0)
    assert counted() == 2


def test_the_training_step_is_the_same_and_compiles_once(
    counted: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    rng = np.random.default_rng(0)
    arrays = rng.random((64, *SHAPE), np.float32), rng.integers(0, 4, 64).astype(np.int32)
    split = rse_tf.data.Split(*arrays)
    names = tuple("abcd")
    dataset = rse_tf.data.Dataset("random", split, split[:0], split[:8], names)

    def train(xla: bool, noise: float) -> list[float]:
        monkeypatch.setattr(loop, "use_xla", lambda strategy: xla)
        layers = FusedBatchNormalization(), NoiseLayer(noise)
        settings = TrainingSettings(5, 16, schedule="constant", augmentation="none")
        where = tmp_path / f"{xla}{noise}"
        strategy = tf.distribute.get_strategy()
        run = loop.Loop(
            lambda dtype: small_network(*layers),
            dataset,
            settings,
            CrossEntropy(),
            strategy,
            where,
            label="test",
        )
        return [float(record["loss"] or 0) for record in run.run()]

    np.testing.assert_allclose(train(True, 0.0), train(False, 0.0), rtol=1e-3)
    assert counted() == 1
    assert np.isfinite(train(True, 0.1)).all()
    assert counted() == 2


def linear(images: tf.Tensor) -> tf.Tensor:
    kernel = np.random.default_rng(1).normal(size=(64, CLASSES)).astype(np.float32)
    return tf.reshape(images, [-1, 64]) @ kernel


EPSILON = {"epsilon": 0.1}
STEPS = {**EPSILON, "step_size": 0.02}
CAN = [
    attacks.APGD(linear, **EPSILON, steps=20),
    attacks.FGSM(linear, **EPSILON),
    attacks.RandFGSM(linear, **EPSILON),
    attacks.BIM(linear, **STEPS),
    attacks.MIM(linear, **STEPS),
    attacks.PGD(linear, **STEPS),
    attacks.PGD(linear, **STEPS, norm="l2"),
    attacks.CarliniWagnerL2(linear, const=1.0, steps=20, learning_rate=0.05),
    attacks.CarliniWagnerL2(linear, steps=20, learning_rate=0.05, abort_early=False),
    attacks.DDN(linear, steps=20),
    attacks.ARC(linear, epsilon=0.1, steps=3),
    attacks.FMN(linear, steps=20),
]
CANNOT = [
    attacks.APGD(linear, **EPSILON, restarts=2),
    attacks.APGD(linear, **EPSILON, loss="dlr_targeted"),
    attacks.PGD(linear, **STEPS, restarts=2),
    attacks.CarliniWagnerL2(linear, steps=20),
    attacks.DeepFool(linear),
    attacks.Square(linear, **EPSILON),
    attacks.ZOO(linear, const=1.0),
    attacks.CleverHansFGM(linear, **EPSILON),
    attacks.CleverHansPGD(linear, **STEPS),
    attacks.CleverHansMIM(linear, **STEPS),
]


def name_of(attack: Any) -> str:
    return type(attack).__name__


def test_every_attack_is_tried_or_says_that_it_cannot() -> None:
    assert {type(one) for one in (*CAN, *CANNOT)} == set(attacks.ATTACKS.values())


@pytest.mark.parametrize("attack", CAN, ids=name_of)
def test_an_attack_finds_the_same_and_compiles_once(counted: Callable, attack: Any) -> None:
    expected = attack(IMAGES, LABELS)
    compiled_attack = dataclasses.replace(attack, jit_compile=True)
    for _ in range(CALLS):
        found = compiled_attack(IMAGES, LABELS)
    assert counted() == 1
    if isinstance(attack, attacks.RandFGSM):  # XLA makes other numbers of the same seed
        np.testing.assert_allclose(np.abs(found.adversarial - IMAGES).max(), 0.1, rtol=1e-5)
    else:
        np.testing.assert_allclose(found.adversarial, expected.adversarial, atol=1e-3)
    np.testing.assert_array_equal(found.success, expected.success)
    np.testing.assert_array_equal(found.iterations, expected.iterations)
    if hasattr(attack, "epsilon"):  # another strength is no other program
        dataclasses.replace(compiled_attack, epsilon=0.05)(IMAGES, LABELS)
        assert counted() == 1


def test_an_attack_on_a_noisy_network_compiles_once(counted: Callable) -> None:
    attack = attacks.PGD(noisy_network(), **STEPS, jit_compile=True)
    found = [attack(IMAGES, LABELS).adversarial for _ in range(CALLS)]
    assert counted() == 1
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("max_rows", [512, 4])
def test_an_attack_through_a_self_ensemble_compiles_once(counted: Callable, max_rows: int) -> None:
    ensemble = rse_tf.SelfEnsemble(noisy_network(), 4, max_rows)
    attack = attacks.PGD(ensemble, **STEPS, jit_compile=True)
    for _ in range(CALLS):
        found = attack(IMAGES, LABELS)
    assert counted() == 1
    assert 0 < np.abs(found.adversarial - IMAGES).max() <= 0.1 + 1e-6


@pytest.mark.parametrize("attack", CANNOT, ids=name_of)
def test_an_attack_that_cannot_be_compiled_says_so(attack: Any) -> None:
    assert not attack.supports_jit
    with pytest.raises(ValueError, match="jit_compile must be False"):
        dataclasses.replace(attack, jit_compile=True)


def test_what_is_served_runs_in_a_process_that_clusters_by_itself(tmp_path: pathlib.Path) -> None:
    ensemble = rse_tf.SelfEnsemble(noisy_network(), 4)
    ensemble(IMAGES)
    ensemble.export(tmp_path / "served", verbose=False)
    program = (
        "import sys, numpy as np, tensorflow as tf\n"
        "served = tf.saved_model.load(sys.argv[1])\n"
        "x = tf.constant(np.load(sys.argv[2]))\n"
        "first, second = (served.serve(x).numpy() for _ in range(2))\n"
        "assert first.shape == (6, 4) and (first != second).any()\n"
    )
    np.save(tmp_path / "images.npy", IMAGES)
    flags = {"TF_XLA_FLAGS": "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", program, tmp_path / "served", tmp_path / "images.npy"]
    subprocess.run(command, check=True, env={**os.environ, **flags})

"""Pieces of work on several devices: each done once, and with the same result as on one."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import pathlib
import shutil
import threading
import time
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from rse_tf import models
from rse_tf.attacks import BIM, PGD, ZOO, AttackResult, CarliniWagnerL2
from rse_tf.evaluation import Scorer, attack_in_batches
from rse_tf.layers import noise_state
from rse_tf.training import make_strategy
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.files import exclusive_lock

SHAPE = (6, 6, 1)
IMAGES = np.random.default_rng(0).uniform(size=(23, *SHAPE)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, 3, 23)


def noisy() -> keras.Model:
    return models.build("mnist_cnn", input_shape=SHAPE, num_classes=3, init_noise=0.3)


def two_devices() -> DevicePool:
    return DevicePool(make_strategy("mirrored"))


def test_every_piece_is_done_once_and_by_its_device() -> None:
    done: list[tuple[int, int]] = []
    two_devices().map(lambda device, piece: done.append((device, piece)), range(7), "pieces")
    assert sorted(done, key=lambda one: one[1]) == [(number % 2, number) for number in range(7)]
    assert DevicePool().is_chief and two_devices().is_chief


def test_both_devices_work_at_the_same_time() -> None:
    both = threading.Barrier(2)  # which nobody passes alone
    two_devices().map(lambda device, piece: both.wait(60) and None, range(4), "pieces")


def test_a_failure_ends_the_work_and_shows() -> None:
    done: list[int] = []

    def fail(device: int, piece: int) -> None:
        if piece == 0:
            raise KeyError("this one")
        done.append(piece)
        time.sleep(0.01)

    with pytest.raises(KeyError, match="this one"):
        two_devices().map(fail, range(1000), "pieces")
    assert len(done) < 100  # of the 500 of the other device


def test_copies_are_equal_models_on_their_own_devices() -> None:
    pool, model = two_devices(), models.AveragedEnsemble([noisy(), noisy()])
    first, second = pool.replicas(model, SHAPE)
    assert first is model and pool.replicas(model, SHAPE)[1] is second
    for ours, theirs in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    before = noise_state(first)
    second(IMAGES)
    np.testing.assert_array_equal(noise_state(first), before)  # a stream of its own
    assert {v.value.device[-5:] for v in second.trainable_variables} == {"CPU:1"}
    assert pool.replicas(noisy(), SHAPE)[1].name.startswith("mnist_cnn")
    assert DevicePool().replicas(model, SHAPE) == [model]


def attack(pool: DevicePool, model: keras.Model, kind: str, folder: pathlib.Path) -> AttackResult:
    copies = pool.replicas(model, SHAPE)
    attacks = [ATTACKS[kind](copy, batch_size=4) for copy in copies]
    return attack_in_batches(
        attacks,
        copies,
        pool=pool,
        images=IMAGES,
        labels=LABELS,
        targets=None,
        directory=folder,
        seed=5,
        description="test",
    )[0]


ATTACKS: dict[str, Any] = {
    "bim": functools.partial(BIM, epsilon=0.2, step_size=0.05, steps=3),
    "pgd": functools.partial(PGD, epsilon=0.2, step_size=0.05, steps=3, restarts=2),
    "carlini_wagner": functools.partial(
        CarliniWagnerL2, steps=10, learning_rate=0.05, binary_search_steps=3, initial_const=1.0
    ),
    "zoo": functools.partial(ZOO, const=1.0, steps=3, coordinates=5, iterate="last"),
}


@pytest.mark.parametrize("members, kind", [*((1, kind) for kind in ATTACKS), (2, "bim")])
def test_an_attack_on_two_devices_is_that_on_one(
    members: int, kind: str, tmp_path: pathlib.Path
) -> None:
    networks = [noisy() for _ in range(members)]
    model = networks[0] if members == 1 else models.AveragedEnsemble(networks)
    one, two = (
        attack(pool, model, kind, tmp_path / str(i))
        for i, pool in enumerate((DevicePool(), two_devices()))
    )
    assert (one.distortion > 0).any()
    for ours, theirs in zip(one, two):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert len(list((tmp_path / "1").glob("batch_*"))) == 6


def test_a_score_on_two_devices_is_that_on_one() -> None:
    model = noisy()
    one, two = (
        Scorer(model, 5, 2, batch_size=4, pool=pool).answers(IMAGES, LABELS, 1)
        for pool in (DevicePool(), two_devices())
    )
    for ours, theirs in zip(dataclasses.astuple(one), dataclasses.astuple(two)):
        np.testing.assert_array_equal(ours, theirs)


def test_who_attacks_the_same_as_another_process_waits_for_it(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = noisy(), tmp_path / "shared"
    attack(DevicePool(), model, "bim", tmp_path / "done")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        with exclusive_lock(folder):
            waiting = pool.submit(attack, DevicePool(), model, "bim", folder)
            with pytest.raises(concurrent.futures.TimeoutError):
                waiting.result(timeout=2)
            assert list(folder.iterdir()) == [folder / "lock"]
            shutil.copytree(tmp_path / "done", folder, dirs_exist_ok=True)
            before = {file: file.stat().st_mtime_ns for file in folder.glob("batch_*")}
        waiting.result(timeout=120)
    assert f"waiting for the process that writes {folder}\n" in capsys.readouterr().out
    assert {file: file.stat().st_mtime_ns for file in folder.glob("batch_*")} == before


def test_a_sum_over_one_process_is_its_own(tmp_path: pathlib.Path) -> None:
    array = np.arange(3)
    np.testing.assert_array_equal(two_devices().all_reduce_sum(array), array)
    assert isinstance(make_strategy("mirrored"), tf.distribute.MirroredStrategy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json", "TF_CONFIG must be like .* Received: 'not json'"),
        ("[]", "TF_CONFIG must be like .* Received: '\\[\\]'"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be like .*'task'"),
        ('{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker"}}', "must be like .*'index'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "evaluator", "index": 0}}',
            "all processes of a run are workers, .* Received: evaluator$",
        ),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "Received: ps$",
        ),
        (
            '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
            "an index below the number of addresses. Received: worker 2 of 2$",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": -1}}',
            "Received: worker -1 of 1$",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}}',
            "Received: chief 0 of 0$",
        ),
    ],
)
def test_a_process_without_a_place_is_told(
    text: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message) as raised:
        make_strategy("multi_worker")
    assert "\n" not in str(raised.value)


def test_a_crew_has_no_evaluators() -> None:
    cluster = tf.train.ClusterSpec({"worker": ["a:1", "b:1"], "evaluator": ["c:1"]})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver

    class Strategy:
        cluster_resolver = resolver(cluster, task_type="evaluator", task_id=0)

    class WorkerStrategy:
        cluster_resolver = resolver(cluster, task_type="worker", task_id=1)

    with pytest.raises(ValueError, match="chief or a worker .* Received: task type 'evaluator'"):
        DevicePool(Strategy())
    assert not DevicePool(WorkerStrategy()).is_chief

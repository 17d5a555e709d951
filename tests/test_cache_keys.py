"""The folders of trained networks keep their names: what was trained before is found."""

from __future__ import annotations

import dataclasses
import pathlib

import keras
import numpy as np
import pytest

from rse_tf import data, defenses
from rse_tf.defenses import DEFENSES, ENSEMBLES
from rse_tf.models import NetworkSpec, NoiseSettings
from rse_tf.training import CrossEntropy, Objective, Trainer, TrainingSettings

PIXELS = np.linspace(0, 1, 20 * 8 * 8, dtype=np.float32).reshape(20, 8, 8, 1)
SPLIT = data.Split(PIXELS, np.arange(20) % 4)
RAMP = data.Dataset("ramp", SPLIT, SPLIT[:5], SPLIT[:7], tuple("abcd"))
SETTINGS = TrainingSettings(epochs=4, batch_size=10, augmentation="none")


@dataclasses.dataclass(frozen=True)
class Keys(Trainer):
    """Notes the folders of the networks it is asked for, and trains nothing."""

    keys: list[str] = dataclasses.field(default_factory=list)

    def fit(
        self,
        spec: NetworkSpec,
        objective: Objective = CrossEntropy(),
        start: keras.Model | None = None,
    ) -> keras.Model:
        self.keys.append(self.directory(spec, objective, start).name)
        model = spec.build("float32")
        model.set_weights([np.full_like(weights, 0.5) for weights in model.get_weights()])
        return model


SPEC = NetworkSpec("mnist_cnn", RAMP.image_shape, 4, NoiseSettings(0.2, 0.1))
# No setting is at its default.
OTHER = NetworkSpec(
    "cifar_cnn",
    RAMP.image_shape,
    4,
    NoiseSettings(0.2, 0.1, "laplace", "exact", "second_conv"),
    activation="elu",
)

PLAIN, NOISY = "ramp-mnist_cnn-plain-a6ee362331", "ramp-mnist_cnn-noisy-429c11d3a2"
# As version 0.3 names them.
KEYS: dict[str, list[str]] = {
    "none": [PLAIN],
    "rse": [NOISY],
    "rse_train_noise_only": [NOISY],
    "rse_test_noise_only": [PLAIN],
    "distillation": ["ramp-mnist_cnn-plain-5fce9ea827", "ramp-mnist_cnn-plain-84b0501b7d"],
    "adversarial_training": ["ramp-mnist_cnn-plain-9791f5eca5"],
    "adversarial_retraining": [PLAIN, "ramp-mnist_cnn-plain-f0526c61cb"],
    "robust_opt_brelu": ["ramp-mnist_cnn-noisy-8bd7be4458"],
    "pgd_training": ["ramp-mnist_cnn-plain-95b56b012e"],
    "fast_training": ["ramp-mnist_cnn-plain-e7b3fd6ad5"],
    "consistency": ["ramp-mnist_cnn-noisy-3dea83a8ff"],
    "rse+adversarial_training": ["ramp-mnist_cnn-noisy-3be4115092"],
    "rse+pgd_training": ["ramp-mnist_cnn-noisy-47288f6ad7"],
    "rse+fast_training": ["ramp-mnist_cnn-noisy-c3ec8b8a4a"],
    "ensemble_bagging+rse+fast_training": [
        "ramp-mnist_cnn-noisy-3ba6b947a3",
        "ramp-mnist_cnn-noisy-d3e49fbd3f",
        "ramp-mnist_cnn-noisy-c7bf90efc7",
    ],
    "ensemble_random_init": [
        PLAIN,
        "ramp-mnist_cnn-plain-68a47fa6ec",
        "ramp-mnist_cnn-plain-4b8002c9c4",
    ],
    "ensemble_mixed": [PLAIN, "ramp-mnist_cnn-plain-c713ba7a5c", "ramp-mnist_cnn-plain-c3cf9ab48b"],
    "ensemble_bagging": [
        "ramp-mnist_cnn-plain-bc6f0dc2e0",
        "ramp-mnist_cnn-plain-fa11b0f8c1",
        "ramp-mnist_cnn-plain-9af1eade33",
    ],
    "ensemble_gauss_noise": [
        "ramp-mnist_cnn-plain-a868478f37",
        "ramp-mnist_cnn-plain-702307404c",
        "ramp-mnist_cnn-plain-fdeb56053b",
    ],
    "ensemble_bagging+adversarial_training": [
        "ramp-mnist_cnn-plain-2564efca85",
        "ramp-mnist_cnn-plain-1f80d6ab94",
        "ramp-mnist_cnn-plain-78473e0ab7",
    ],
}


def keys(name: str, spec: NetworkSpec) -> list[str]:
    trainer = Keys(RAMP, SETTINGS, pathlib.Path("models"))
    own = {"members": 3, "retraining_epochs": 6, "training_epsilon": 0.03}
    defenses.make(name, own).train(spec, trainer)
    return trainer.keys


@pytest.mark.parametrize("name", KEYS)
def test_the_networks_of_a_defense_are_found(name: str) -> None:
    assert keys(name, SPEC) == KEYS[name]


def test_every_defense_has_its_keys() -> None:
    assert set(KEYS) >= DEFENSES.keys() | ENSEMBLES.keys()


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("rse", "ramp-cifar_cnn-noisy-048f020e4f"),
        ("none", "ramp-cifar_cnn-plain-dcd69f81ba"),
        ("robust_opt_brelu", "ramp-cifar_cnn-noisy-a7ee801a49"),
    ],
)
def test_a_network_of_other_settings_is_found(name: str, key: str) -> None:
    assert keys(name, OTHER) == [key]

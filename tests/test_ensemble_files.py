"""Files of ensembles: they hold the members, and not how those were trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_ensemble import CLASSES, FEATURES, batch, noisy_model

import rse_tf


def mean_logit(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(logits)


def trained(inside: bool) -> keras.Model:
    model = noisy_model(stddev=0.0)
    model.compile("sgd", mean_logit)
    model.fit(batch(), np.zeros((4, CLASSES)), verbose=0)
    return keras.Sequential([keras.Input((FEATURES,)), model]) if inside else model


@pytest.mark.parametrize(
    "build",
    [
        lambda: rse_tf.AveragedEnsemble([trained(inside=False), trained(inside=True)]),
        lambda: rse_tf.SelfEnsemble(trained(inside=False), 3),
        lambda: rse_tf.AveragedEnsemble([rse_tf.SelfEnsemble(trained(inside=True), 2)]),
    ],
)
def test_ensemble_loads_however_its_members_were_trained(build: Any, tmp_path: Path) -> None:
    ensemble = build()
    outputs = ensemble(batch())
    ensemble.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    np.testing.assert_allclose(loaded(batch()), outputs, atol=1e-6)
    # So do configurations of earlier versions, which have the members' training.
    config = {**ensemble.get_config(), "name": "old"}
    for key in {"model", "members"} & set(config):
        parts = ensemble.members if key == "members" else [ensemble.model]
        parts = [keras.saving.serialize_keras_object(part) for part in parts]
        config[key] = parts if key == "members" else parts[0]
    type(ensemble).from_config(config)


class Unregistered(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dense = keras.layers.Dense(CLASSES)

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.dense(inputs)


def test_member_of_an_unknown_class_is_named_when_the_file_is_loaded(tmp_path: Path) -> None:
    ensemble = rse_tf.AveragedEnsemble([Unregistered()])
    ensemble(batch())
    ensemble.save(tmp_path / "ensemble.keras")
    with pytest.raises(ValueError, match="Register classes .*Received: .*'Unregistered'"):
        keras.saving.load_model(tmp_path / "ensemble.keras")
    objects = {"Unregistered": Unregistered}
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras", custom_objects=objects)
    for ours, theirs in zip(loaded.get_weights(), ensemble.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)

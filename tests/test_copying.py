"""A copy of a model is the model: same outputs, same state, or a refusal in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from copied_models import (
    CASES,
    IMAGES,
    SHAPE,
    Forgetful,
    Inner,
    Scale,
    Triple,
    TripleSequential,
    around,
    compiled,
    functional,
)
from digits import some_digits
from keras import layers

import rse_tf
from rse_tf.layers import NoiseLayer, noise_state, set_noise_state
from rse_tf.training import make_strategy
from rse_tf.training.device_pool import DevicePool


def robustified(model: keras.Model) -> keras.Model:
    return rse_tf.robustify(model, 0.0, 0.0)


def on_another_device(model: keras.Model) -> keras.Model:
    return DevicePool(make_strategy("mirrored")).replicas(model, SHAPE)[1]


DOORS = pytest.mark.parametrize("copy_of", [robustified, on_another_device])


@DOORS
@pytest.mark.parametrize("name", CASES)
def test_a_copy_is_the_model(name: str, copy_of: Callable) -> None:
    model = CASES[name]()
    model(IMAGES)
    for weight in model.weights:
        if weight.trainable:  # no initial value can stand in for a copied one
            weight.assign(weight + 0.1)
    # Keras' augmentation takes a call that says nothing for training.
    expected = model(IMAGES, training=False).numpy()
    state = [variable.numpy() for variable in model.variables]
    copy = copy_of(model)
    np.testing.assert_allclose(copy(IMAGES, training=False), expected, rtol=1e-5, atol=1e-5)
    assert type(copy) is type(model) and not copy.compiled
    flags = {layer.name: layer.trainable for layer in copy._flatten_layers()}
    assert all(
        flags[one.name] == one.trainable for one in model._flatten_layers() if one.name in flags
    )
    assert len(copy.trainable_variables) == len(model.trainable_variables)
    for before, after in zip(state, model.variables, strict=True):
        np.testing.assert_array_equal(before, after.numpy())


@DOORS
def test_real_digits_in_0_255_look_the_same_to_a_copy(copy_of: Callable) -> None:
    digits = np.repeat(some_digits(20)[0][:, 10:18, 10:18].astype(np.float32), 3, axis=-1)
    layer = layers.Normalization()
    layer.adapt(digits)
    model = around(layer)
    np.testing.assert_allclose(copy_of(model)(digits), model(digits), rtol=1e-5, atol=1e-5)


@DOORS
def test_state_that_nothing_declares_is_refused_by_name(copy_of: Callable) -> None:
    with pytest.raises(ValueError, match="Received: .*whose copy differs by .*Forgetful"):
        copy_of(around(Forgetful(3.0)))
    replaced = around()
    replaced.layers[0].call = lambda inputs: 3.0 * layers.Conv2D.call(replaced.layers[0], inputs)
    with pytest.raises(ValueError, match="Received: .*whose copy differs by .*method replaced"):
        copy_of(replaced)


@DOORS
def test_layer_that_cannot_be_made_anew_is_refused_by_name(copy_of: Callable) -> None:
    class NoConfig(layers.Layer):
        def __init__(self, factor: np.ndarray) -> None:
            super().__init__(name="mine")
            self.factor = factor

        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return inputs * self.factor

    with pytest.raises(ValueError, match="must have a get_config.*Received: 'mine'.*NoConfig"):
        copy_of(around(NoConfig(np.ones(3, np.float32))))


def test_graph_with_a_call_of_its_own_is_copied_but_not_robustified() -> None:
    triple = TripleSequential([keras.Input(SHAPE), layers.Conv2D(2, 3), layers.Flatten()])
    nested = functional(Triple("Conv2D"), layers.Reshape((6, 6, 3)))
    for model in (Triple("Conv2D"), triple, nested):
        with pytest.raises(ValueError, match="without a call of its own.*Received: .*Triple"):
            rse_tf.robustify(model, 0.1, 0.1)
        copy = on_another_device(model)
        np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


def test_sequential_that_keras_cannot_connect_is_refused_in_words() -> None:
    model = keras.Sequential(
        [keras.Input((3, 4)), layers.TimeDistributed(Inner()), layers.Conv1D(2, 2)]
    )
    model(tf.zeros((1, 3, 4)))
    with pytest.raises(ValueError, match="Received: .*lacks a compute_output_shape"):
        rse_tf.robustify(model, 0.1, 0.1)


class AlwaysDropout(layers.Dropout):
    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return super().call(inputs, training=True)


class AlwaysTraining(layers.BatchNormalization):
    """Its moving statistics change at every call."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return super().call(inputs, training=True)


def random_at_inference() -> keras.Model:
    return around(AlwaysDropout(0.5), AlwaysTraining())


def test_random_layers_go_on_with_the_same_stream_and_the_original_is_left_alone() -> None:
    model = random_at_inference()
    before = [variable.numpy() for variable in model.variables]
    copy = rse_tf.robustify(model, 0.0, 0.0)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    for _ in range(2):
        np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


def test_copies_for_devices_have_random_streams_of_their_own() -> None:
    model = random_at_inference()
    before = [variable.numpy() for variable in model.variables]
    copy = on_another_device(model)
    for old, new in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())
    assert np.any(np.abs(copy(IMAGES) - model(IMAGES)) > 1e-3)


@DOORS
def test_model_that_nothing_replays_is_copied_with_a_warning(copy_of: Callable) -> None:
    class OwnNoise(layers.Layer):
        def call(self, inputs: tf.Tensor) -> tf.Tensor:
            return inputs + tf.random.normal(tf.shape(inputs))

    with pytest.warns(UserWarning, match="gives other outputs at every call"):
        copy_of(around(OwnNoise()))


def test_several_inputs_outputs_and_open_sizes() -> None:
    images = keras.Input((None, None, 3), name="images")
    codes = keras.Input((1,), name="codes", dtype="int64")
    lookup = layers.IntegerLookup()
    lookup.adapt(np.array([3, 5, 9]))
    features = layers.GlobalMaxPool2D()(layers.Conv2D(2, 3, dtype="bfloat16")(images))
    code_features = layers.Flatten()(layers.Embedding(5, 4)(lookup(codes)))
    features = layers.Concatenate()([features, code_features])
    outputs = {"classes": layers.Dense(3)(features), "features": features}
    model = keras.Model({"images": images, "codes": codes}, outputs)
    inputs = {"images": IMAGES, "codes": np.array([[9], [3], [4], [5]])}
    copy, expected = rse_tf.robustify(model, 0.0, 0.0), model(inputs)
    for name, output in copy(inputs).items():
        np.testing.assert_allclose(output, expected[name], rtol=1e-5, atol=1e-5)


class Subclassed(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = [NoiseLayer(0.3), Scale(0.1), layers.Flatten(), layers.Dense(5)]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        for step in self.steps:
            inputs = step(inputs)
        return inputs


class NoArguments(keras.Model):
    """Takes none of what Keras' own configurations hold."""

    def __init__(self) -> None:
        super().__init__()
        self.steps = [layers.Flatten(), layers.Dense(5)]

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return self.steps[1](self.steps[0](inputs))


def test_ensembles_and_subclassed_models_of_unregistered_parts_go_to_other_devices() -> None:
    members = [Subclassed(), NoArguments(), around(layers.Lambda(lambda x: x / 2)), compiled()]
    ensemble = rse_tf.AveragedEnsemble([*members, rse_tf.SelfEnsemble(Subclassed(), 3)])
    for model in (Subclassed(), ensemble):
        copy = on_another_device(model)
        assert type(copy) is type(model)
        set_noise_state(copy, noise_state(model))
        np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


def test_copies_for_devices_follow_all_state_of_the_model() -> None:
    layer = layers.Normalization()
    model, pool = around(layer), DevicePool(make_strategy("mirrored"))
    pool.replicas(model, SHAPE)
    layer.adapt(IMAGES)
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    layer.finalize_state()
    copy = pool.replicas(model, SHAPE)[1]
    np.testing.assert_allclose(copy(IMAGES), model(IMAGES), rtol=1e-5, atol=1e-5)


def test_what_is_no_keras_model_goes_to_one_device_only() -> None:
    def function(images: tf.Tensor) -> tf.Tensor:
        return images

    assert DevicePool().replicas(function, SHAPE) == [function]
    with pytest.raises(ValueError, match="model must be a Keras model.*use one device.*Received: "):
        DevicePool(make_strategy("mirrored")).replicas(function, SHAPE)


def test_policy_of_today_does_not_reach_into_a_copy() -> None:
    def check(model: keras.Model) -> None:
        copy = rse_tf.robustify(model, 0.0, 0.0)
        assert copy.dtype_policy == model.dtype_policy
        assert copy.layers[-1].dtype_policy == model.layers[-1].dtype_policy
        np.testing.assert_array_equal(copy(IMAGES), model(IMAGES))

    model = around()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        check(model)
        model = around()
    finally:
        keras.config.set_dtype_policy("float32")
    check(model)

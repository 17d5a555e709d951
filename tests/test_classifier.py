"""The one door to classifiers: what may come in, what is refused, and what a look costs."""

from __future__ import annotations

import gc
import pathlib
import pickle
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import rse_tf
from rse_tf.attacks import FGSM, ZOO
from rse_tf.evaluation import Scorer, measure_regularity, measure_stopping
from rse_tf.layers import CommonNoise, FrozenNoise, NoiseLayer, noise_layers, noise_state
from rse_tf.utils.classifier import Classifier

SHAPE, CLASSES = (6, 6, 1), 4
IMAGES = np.random.default_rng(0).random((9, *SHAPE), np.float32)
LABELS = np.arange(9) % CLASSES


def network(*ending: keras.layers.Layer, units: int = CLASSES, **dense: Any) -> keras.Sequential:
    """A small network with noise, whose logits are untrained: close to 0."""
    layers = [NoiseLayer(0.1), keras.layers.Flatten(), keras.layers.Dense(units, **dense)]
    return keras.Sequential([keras.Input(SHAPE), *layers, *ending])


class Subclass(keras.Model):
    """A model whose graph is not known; trains unless told not to."""

    def __init__(self, end: Callable[[tf.Tensor], tf.Tensor] = tf.identity) -> None:
        super().__init__()
        self.inner, self.drop = network(), keras.layers.Dropout(0.9)
        self.end, self.calls = end, 0

    def call(self, images: tf.Tensor, training: bool = True) -> tf.Tensor:
        self.calls += 1
        return self.end(self.inner(self.drop(images, training=training)))


# Every way into the package, as a function of a model. Some take Keras models only.
DOORS: dict[str, Callable[[Any], Any]] = {
    "attack": lambda model: FGSM(model, epsilon=0.1)(IMAGES, LABELS),
    "black box attack": lambda model: ZOO(model, const=1.0, steps=1)(IMAGES[:2], LABELS[:2]),
    "scorer": lambda model: Scorer(model, 2, 1).correct(IMAGES, LABELS),
    "regularity": lambda model: measure_regularity(
        model, IMAGES[:2], LABELS[:2], probes=1, num_draws=2
    ),
}
KERAS_DOORS: dict[str, Callable[[Any], Any]] = {
    "self-ensemble": lambda model: rse_tf.SelfEnsemble(model, 2)(IMAGES),
    "averaged ensemble": lambda model: rse_tf.AveragedEnsemble([model])(IMAGES),
    "stopping": lambda model: measure_stopping(model, IMAGES, 2),
    "frozen noise": lambda model: FrozenNoise(model)(tf.constant(IMAGES)),
    "common noise": lambda model: CommonNoise(model)(tf.constant(IMAGES)),
    "export": lambda model: rse_tf.export_classifier(model, SHAPE, "/nowhere/to/be/written"),
}
ALL = {**DOORS, **KERAS_DOORS}


def two_outputs() -> keras.Model:
    images = keras.Input(SHAPE)
    hidden = keras.layers.Flatten()(NoiseLayer(0.1)(images))
    return keras.Model(images, [keras.layers.Dense(4)(hidden), keras.layers.Dense(4)(hidden)])


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "softmax": (lambda: network(activation="softmax"), "not probabilities"),
    "sigmoid": (lambda: network(activation="sigmoid"), "not probabilities"),
    "softmax layer": (lambda: network(keras.layers.Softmax()), "not probabilities"),
    "hidden softmax": (lambda: Subclass(tf.nn.softmax), "not probabilities"),
    "hidden sigmoid": (lambda: Subclass(tf.sigmoid), "not probabilities"),
    "half softmax": (
        lambda: Subclass(lambda z: tf.nn.softmax(tf.cast(z, tf.bfloat16))),
        "not probabilities",
    ),
    "softmax before a linear activation": (
        lambda: network(keras.layers.Softmax(), keras.layers.Activation("linear")),
        "not probabilities",
    ),
    "half softmax of bright images": (
        lambda: Subclass(lambda z: tf.nn.softmax(tf.cast(300 * z, tf.float16))),
        "not probabilities",
    ),
    "half sigmoid": (
        lambda: Subclass(lambda z: tf.sigmoid(tf.cast(z, tf.float16))),
        "not probabilities",
    ),
    "one logit": (lambda: network(units=1), "of a single logit"),
    "squeezed logit": (lambda: Subclass(lambda z: z[:, 0]), "of a single logit"),
    "two outputs": (two_outputs, "one output"),
    "classes": (lambda: Subclass(lambda z: tf.argmax(z, axis=-1)), "floating-point logits"),
    "not a number": (lambda: Subclass(lambda z: z * np.nan), "finite logits"),
}


@pytest.mark.parametrize("door", ALL)
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_return_logits_is_refused_at_every_door(door: str, name: str) -> None:
    make, words = REFUSED[name]
    model = make()
    if isinstance(model, Subclass):
        model.build((None, *SHAPE))
    with pytest.raises(ValueError, match=f"model must be .*{words}.*Received"):
        ALL[door](model)


@pytest.mark.parametrize(
    "logits",
    [
        lambda z: z,
        lambda z: 1e-3 * tf.abs(z) + 0.3,  # between 0 and 1 only while images are dark
        lambda z: tf.concat([0.5 + z[:, :1], 0.5 - z[:, :1]], axis=1),  # rows that sum to 1
        tf.nn.log_softmax,
        lambda z: tf.nn.softmax(z) - 1,  # what the message advises for logits in [0, 1]
        tf.zeros_like,
        lambda z: tf.cast(z, tf.float16),
        lambda z: tf.cast(z, tf.float64),
        lambda z: {"logits": z},
        lambda z: [z],
    ],
)
def test_logits_of_any_kind_come_in(logits: Callable) -> None:
    inner = network()
    one = Classifier(lambda images: logits(inner(images)), "test")
    assert one.look(IMAGES).num_classes >= 2
    assert one(tf.constant(IMAGES)).dtype == tf.float32


def test_an_untrained_network_with_small_positive_logits_comes_in() -> None:
    model = network(use_bias=True, bias_initializer="ones", kernel_initializer="zeros")
    model.layers[-1].set_weights([np.zeros((36, 4)), np.array([0.1, 0.2, 0.3, 0.4])])
    assert Classifier(model, "test").look(IMAGES).num_classes == 4


@pytest.mark.parametrize("door", DOORS)
def test_models_are_called_in_inference_mode(door: str) -> None:
    model = Subclass()
    model.build((None, *SHAPE))
    modes: list[Any] = []

    def call(images: tf.Tensor, training: bool = True) -> tf.Tensor:
        modes.append(training)
        return model(images, training=training)

    DOORS[door](call)
    assert modes and not any(modes)


@pytest.mark.parametrize("door", sorted(set(KERAS_DOORS) - {"export"}))
def test_keras_models_are_called_in_inference_mode(door: str) -> None:
    class Watched(Subclass):
        def call(self, images: tf.Tensor, training: bool = True) -> tf.Tensor:
            assert training is False
            return self.inner(images)

    model = Watched()
    model(IMAGES, training=False)
    KERAS_DOORS[door](model)


def test_a_model_is_served_in_inference_mode(tmp_path: pathlib.Path) -> None:
    model = Subclass()
    model.inner = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
    expected = model(IMAGES, training=False)
    rse_tf.export_classifier(model, SHAPE, tmp_path / "served")
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(IMAGES), expected, rtol=1e-5)


def test_one_look_for_each_model_and_shape_whoever_takes_it() -> None:
    model = Subclass()
    model.build((None, *SHAPE))
    for caller in ("one", "another"):
        Classifier(model, caller).look(IMAGES)
    before = model.calls
    Classifier(model, "a third").look(IMAGES)
    Classifier(model, "a fourth").look_at_shape(SHAPE)
    assert model.calls == before
    Classifier(model, "a fifth").look(np.zeros((2, 6, 6, 1), np.float32))
    assert model.calls == before


def test_a_look_leaves_the_noise_where_it_was() -> None:
    model = network()
    state = noise_state(model)
    Classifier(model, "test").look(IMAGES)
    np.testing.assert_array_equal(noise_state(model), state)


def test_what_was_seen_goes_with_the_model() -> None:
    from rse_tf.utils import classifier

    gc.collect()
    before = len(classifier._seen)
    model = network()
    Classifier(model, "test").look(IMAGES)
    assert len(classifier._seen) == before + 1
    del model
    gc.collect()
    assert len(classifier._seen) == before


def test_a_black_box_is_queried_and_has_no_gradient() -> None:
    model = network()
    box = lambda images: model(images).numpy()  # noqa: E731
    found = ZOO(box, const=10.0, steps=2)(IMAGES[:2], LABELS[:2])
    assert found.adversarial.shape == (2, *SHAPE)
    assert Scorer(box).correct(IMAGES, LABELS).shape == (1, 9)
    with pytest.raises(ValueError, match="model must be differentiable"):
        FGSM(box, epsilon=0.1)(IMAGES, LABELS)


@pytest.mark.parametrize("model", ["model.keras", keras.Sequential, None, 3])
def test_what_is_no_model_is_refused_in_words(model: Any) -> None:
    for door in (rse_tf.SelfEnsemble, Scorer, lambda one: FGSM(one, epsilon=0.1)):
        with pytest.raises(ValueError, match="model must be a.* Received: model="):
            door(model)


def test_members_of_other_classes_are_named_and_a_list_is_asked_for() -> None:
    with pytest.raises(ValueError, match=r"members must be .*same classes.*\[4, 3\]"):
        rse_tf.AveragedEnsemble([network(), network(units=3)])
    with pytest.raises(ValueError, match="members must be one non-empty list"):
        rse_tf.AveragedEnsemble(network(), network())


def test_pixels_reach_the_members_in_full_precision_under_any_global_policy() -> None:
    pixels = tf.constant(IMAGES)
    rounded = tf.cast(tf.cast(pixels, tf.bfloat16), tf.float32)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        plain = keras.Sequential(
            [
                keras.Input(SHAPE, dtype="float32"),
                keras.layers.Flatten(dtype="float32"),
                keras.layers.Dense(4, dtype="float32"),
            ],
            name="plain",
        )
        plain.dtype_policy = "float32"
        built = rse_tf.models.build(
            "mnist_cnn", input_shape=(28, 28, 1), dtype="float32", num_classes=4
        )
        ensemble = rse_tf.AveragedEnsemble([plain])
        with pytest.warns(UserWarning, match="no noise layer"):
            own = rse_tf.SelfEnsemble(plain, 2)
        for model in (ensemble, own):
            np.testing.assert_allclose(model(pixels), tf.nn.log_softmax(plain(pixels)), atol=1e-6)
            assert np.abs(model(pixels) - model(rounded)).max() > 1e-5
        digits = np.random.default_rng(0).random((2, 28, 28, 1), np.float32)
        halved = tf.cast(tf.cast(digits, tf.bfloat16), tf.float32)
        assert np.abs(built(digits) - built(halved)).max() > 1e-6
    finally:
        keras.config.set_dtype_policy("float32")


def test_settings_that_graphs_have_read_cannot_change() -> None:
    model = network()
    (noise,) = noise_layers(model)
    with pytest.raises(AttributeError, match="stddev cannot change after construction"):
        noise.stddev = 0.0
    with pytest.raises(AttributeError, match="num_draws cannot change"):
        rse_tf.SelfEnsemble(model, 2).num_draws = 3
    with pytest.raises(AttributeError, match="max_value cannot change"):
        rse_tf.layers.BReLU().max_value = 2.0
    assert noise.stddev == 0.1


def linear(images: tf.Tensor) -> tf.Tensor:
    kernel = np.random.default_rng(1).normal(size=(36, 4)).astype(np.float32)
    return tf.reshape(images, [-1, 36]) @ kernel


def test_an_attack_is_pickled_without_its_graphs() -> None:
    attack = FGSM(linear, epsilon=0.1)
    expected = attack(IMAGES, LABELS)
    again = pickle.loads(pickle.dumps(attack))
    assert again == attack
    np.testing.assert_array_equal(again(IMAGES, LABELS).adversarial, expected.adversarial)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((255 * IMAGES).astype(np.uint8), "images must be floating-point .*divide bytes by 255"),
        (IMAGES * np.nan, "images must be finite"),
        (np.zeros([3], np.float32), "images must be"),
    ],
)
def test_the_scorer_names_what_is_wrong_with_images(images: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=f"^Scorer: {words}"):
        Scorer(network(), 2, 1).correct(images, LABELS[: len(images)])


@pytest.mark.parametrize(
    "labels", [LABELS.astype(str), LABELS.astype(float), LABELS[:3], LABELS + 1, LABELS[:, None]]
)
def test_the_scorer_names_what_is_wrong_with_labels(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="^Scorer: labels must be"):
        Scorer(network(), 2, 1).correct(IMAGES, labels)


def test_the_scorer_takes_floats_of_any_size_lists_one_hot_labels_and_several_shapes() -> None:
    scorer = Scorer(linear)
    expected = scorer.correct(IMAGES, LABELS)
    for images in (IMAGES.astype(np.float64), IMAGES.tolist(), tf.constant(IMAGES)):
        np.testing.assert_array_equal(scorer.correct(images, LABELS), expected)
    np.testing.assert_array_equal(scorer.correct(IMAGES, np.eye(4)[LABELS]), expected)
    flat = IMAGES.reshape(9, 36)
    np.testing.assert_array_equal(scorer.correct(flat, LABELS), expected)

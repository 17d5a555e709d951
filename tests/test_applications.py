"""Every family of keras.applications, made noisy: at zero noise the copy is the network."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import rse_tf
from rse_tf.layers import noise_layers

# The smallest images that each family takes.
FAMILIES = {
    "Xception": 71,
    "InceptionV3": 75,
    "InceptionResNetV2": 75,
    "MobileNet": 32,
    "MobileNetV2": 32,
    "MobileNetV3Small": 32,
    "MobileNetV3Large": 32,
    "VGG16": 32,
    "VGG19": 32,
    "ResNet50": 32,
    "ResNet50V2": 32,
    "DenseNet121": 32,
    "NASNetMobile": 32,
    "EfficientNetB0": 32,
    "EfficientNetV2B0": 32,
    "ConvNeXtTiny": 32,
}


def check_family(name: str) -> None:
    size = FAMILIES[name]
    model = getattr(keras.applications, name)(
        weights=None, input_shape=(size, size, 3), classes=5, classifier_activation=None
    )
    images = np.random.default_rng(0).uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.input_mean is None:
            layer.adapt(images)
    # What Keras itself initialises gives outputs near 0 in some families.
    model.layers[-1].set_weights([w + 1.0 for w in model.layers[-1].get_weights()])
    copy, expected = rse_tf.robustify(model, 0.0, 0.0), model(images).numpy()
    np.testing.assert_allclose(copy(images), expected, rtol=1e-4, atol=1e-4 * np.ptp(expected))
    assert noise_layers(copy)


@pytest.mark.parametrize("name", ["MobileNetV3Small", "EfficientNetB0"])
def test_copy_of_a_known_network_is_that_network(name: str) -> None:
    check_family(name)


@pytest.mark.long
@pytest.mark.parametrize("name", FAMILIES)
def test_copy_of_any_known_network_is_that_network(name: str) -> None:
    check_family(name)

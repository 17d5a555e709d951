"""The bounded rectifier."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from rse_tf.layers.constants import Constant
from rse_tf.utils.checks import checked_number


@keras.saving.register_keras_serializable(package="rse_tf")
class BReLU(keras.layers.Layer):
    """Bounded rectified linear unit: `min(max(x, 0), max_value)`.

    Args:
        max_value: upper bound of the output, greater than zero. Default 1.0, the
            setting t = 1 of the reference.

    Call arguments:
        inputs: floating-point tensor of any shape.

    Raises:
        ValueError: if `max_value` is not a positive finite number.

    Reference:
        Zantedeschi, Nicolae and Rawat, Efficient Defenses Against Adversarial
        Attacks (2017), arXiv:1707.06728.
    """

    max_value = Constant()

    def __init__(self, max_value: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        max_value = checked_number("BReLU", "max_value", max_value, positive=True)
        self.max_value = max_value
        self.supports_masking = True

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(inputs, 0.0, self.max_value)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "max_value": self.max_value}

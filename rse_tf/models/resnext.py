"""ResNeXt-29 for small images."""

from typing import Any

import keras

from rse_tf.models.network import Blocks, Network

CARDINALITY = 2
BASE_WIDTH = 64
EXPANSION = 2
BLOCKS_PER_STAGE = 3


@keras.saving.register_keras_serializable(package="rse_tf")
class ResNeXt29(Network):
    """ResNeXt-29 (2 x 64d): three stages of three bottleneck blocks.

    Arguments, input and output are those of `Network`.

    References:
        Xie et al. (2016), arXiv:1611.05431; noise as in Liu et al. (2018), arXiv:1712.00673.
    """

    smallest = 4

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        x = blocks.conv(images, BASE_WIDTH, 1, use_bias=False)
        x = blocks.activation(blocks.norm(x))
        for stage in range(3):
            width = CARDINALITY * BASE_WIDTH * 2**stage
            for block in range(BLOCKS_PER_STAGE):
                strides = 2 if stage > 0 and block == 0 else 1
                x = _bottleneck(blocks, x, width, strides)
        return keras.layers.GlobalAveragePooling2D(dtype=x.dtype)(x)


def _bottleneck(blocks: Blocks, x: Any, width: int, strides: int) -> Any:
    """1x1, grouped 3x3, 1x1, added to a shortcut that is projected where the shape changes."""
    y = blocks.conv(x, width, 1, use_bias=False)
    y = blocks.activation(blocks.norm(y))
    y = _grouped_conv(blocks, y, width, strides)
    y = blocks.activation(blocks.norm(y))
    y = blocks.norm(blocks.conv(y, EXPANSION * width, 1, use_bias=False))
    if x.shape[-1] != y.shape[-1] or strides > 1:
        x = blocks.conv(x, y.shape[-1], 1, strides=strides, use_bias=False)
        x = blocks.norm(x)
    return blocks.activation(keras.layers.Add(dtype=y.dtype)([x, y]))


def _grouped_conv(blocks: Blocks, x: Any, width: int, strides: int) -> Any:
    # One convolution per group: TensorFlow's own grouped convolution runs an unoptimised
    # kernel on CPUs, an order of magnitude slower, and the two are equal in arithmetic.
    size = width // CARDINALITY
    x = blocks.noise(x)
    parts = [
        blocks.conv(
            x[..., group * size : (group + 1) * size],
            size,
            3,
            noisy=False,
            strides=strides,
            padding="same",
            use_bias=False,
        )
        for group in range(CARDINALITY)
    ]
    return keras.layers.Concatenate(dtype=x.dtype)(parts)

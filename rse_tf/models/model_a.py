"""Model A, the STL-10 network of Liu et al. (2018)."""

from typing import Any

import keras

from rse_tf.models.network import Blocks, Network

# Filters, padding, and whether a pooling follows.
CONVOLUTIONS = (
    (32, "same", True),
    (64, "same", True),
    (128, "same", True),
    (128, "same", True),
    (256, "valid", False),
    (256, "valid", True),
)


@keras.saving.register_keras_serializable(package="rse_tf")
class ModelA(Network):
    """Six convolutions and one dense layer, for 96 x 96 images.

    Arguments, input and output are those of `Network`.

    Reference:
        Liu et al. (2018), arXiv:1712.00673, section 4.
    """

    smallest = 96

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        x = images
        for filters, padding, pooled in CONVOLUTIONS:
            x = blocks.conv(x, filters, 3, padding=padding)
            x = blocks.activation(blocks.norm(x, affine=False))
            if pooled:
                x = blocks.pool(x)
        return blocks.flatten(x)

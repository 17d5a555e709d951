"""VGG16 for small images."""

from typing import Any

import keras

from rse_tf.models.network import Blocks, Network

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


@keras.saving.register_keras_serializable(package="rse_tf")
class VGG16(Network):
    """VGG16 with batch normalisation and one dense layer, for 32 x 32 images.

    Arguments, input and output are those of `Network`.

    References:
        Simonyan and Zisserman (2014), arXiv:1409.1556; noise as in Liu et al. (2018),
        arXiv:1712.00673, Figure 1.
    """

    smallest = 32

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        x = images
        for stage in STAGES:
            for filters in stage:
                x = blocks.conv(x, filters, 3, padding="same")
                x = blocks.activation(blocks.norm(x))
            x = blocks.pool(x)
        return blocks.flatten(x)

"""The two networks of Strauss et al. (2017)."""

from typing import Any

import keras

from rse_tf.models.network import Blocks, Network


@keras.saving.register_keras_serializable(package="rse_tf")
class MnistCNN(Network):
    """Two convolutions and two dense layers, for MNIST.

    Arguments, input and output are those of `Network`.

    Reference:
        Strauss et al. (2017), arXiv:1709.03423, Table 1.
    """

    smallest = 6
    paper_initialisation = False

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        x = images
        for _ in range(2):
            x = blocks.activation(blocks.conv(x, 32, 3))
        x = blocks.flatten(blocks.pool(x))
        return blocks.dropout(blocks.activation(blocks.dense(x, 128)), 0.5)


@keras.saving.register_keras_serializable(package="rse_tf")
class CifarCNN(Network):
    """Six convolutions and two dense layers, for CIFAR-10.

    Arguments, input and output are those of `Network`.

    Reference:
        Strauss et al. (2017), arXiv:1709.03423, Table 3.
    """

    smallest = 8
    paper_initialisation = False

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        x = images
        for filters, rate in ((32, 0.2), (64, 0.3), (128, 0.4)):
            for _ in range(2):
                x = blocks.activation(blocks.conv(x, filters, 3, padding="same"))
            x = blocks.dropout(blocks.pool(x), rate)
        x = blocks.activation(blocks.dense(blocks.flatten(x), 512))
        return blocks.dropout(x, 0.5)

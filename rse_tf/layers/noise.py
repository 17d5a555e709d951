"""The noise layer of random self-ensembles."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from rse_tf.layers.constants import Constant
from rse_tf.layers.replicas import next_seed
from rse_tf.layers.sampling import DISTRIBUTIONS, SAMPLERS, sample_noise
from rse_tf.utils.checks import argument_error, checked_number

# Part of the cache keys of whatever was made with noise. Increase it when the same layer and seed
# no longer give the same noise.
NOISE_VERSION = 2
ACTIVE = ("always", "training", "inference")


@keras.saving.register_keras_serializable(package="rse_tf")
class NoiseLayer(keras.layers.Layer):
    """Adds fresh zero-mean noise to its input, at inference as well as in training.

    Every call draws anew, every example and every element gets a draw of its own, and so
    does every replica of a `tf.distribute` strategy. The layer has no weights. Its random
    stream is one small state (see `rse_tf.layers.noise_state`), which can be read, set and
    reseeded from outside to replay the noise.

    Args:
        stddev: standard deviation of the noise, in the units of the input, whatever the
            distribution. Zero makes the layer the identity.
        distribution: `"gaussian"` (the paper's), `"uniform"` or `"laplace"`; Liu et al.,
            section 3.1: the method works with any noise of mean zero.
        active: when the noise is added. `"always"` is the paper's method; `"training"` and
            `"inference"` are the two halves it is compared with in Figure 2. Whether a call
            belongs to training is what Keras' own `training` argument says.
        seed: integer that fixes the stream. Two layers with the same integer draw the same
            noise, as all Keras layers do. With `None` each layer gets a stream of its own,
            repeatable after `keras.utils.set_random_seed`.
        sampler: where the numbers come from. `"pool"` strings together random blocks of a
            million stored numbers of the distribution, `"exact"` computes each from random bits
            of its own, which on a CPU takes much longer. `sampling.py` has both.

    Call arguments:
        inputs: floating-point tensor of any shape, `[batch, ...]`.
        training: boolean; used with `active="training"` or `"inference"` only.

    Raises:
        ValueError: if `stddev` is negative or not finite, if `distribution`, `active`,
            `seed` or `sampler` is not one of the above, or if the input is not floating-point.

    Reference:
        Liu, Cheng, Zhang and Hsieh, Towards Robust Neural Networks via Random
        Self-Ensemble (2018), arXiv:1712.00673, section 3.
    """

    # Read by compiled graphs: to change the noise, build another layer.
    stddev = Constant()
    distribution = Constant()
    active = Constant()
    sampler = Constant()

    def __init__(
        self,
        stddev: float,
        distribution: str = "gaussian",
        active: str = "always",
        seed: int | None = None,
        sampler: str = "pool",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        stddev = checked_number("NoiseLayer", "stddev", stddev)
        for name, value, choices in (
            ("distribution", distribution, DISTRIBUTIONS),
            ("active", active, ACTIVE),
            ("sampler", sampler, SAMPLERS),
        ):
            if value not in choices:
                raise argument_error("NoiseLayer", name, f"one of {choices}", value)
        if seed is not None:
            whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
            if not whole or not 0 <= seed < 2**32:
                expected = "None or an integer from 0 to 2**32 - 1"
                raise argument_error("NoiseLayer", "seed", expected, seed)
            seed = int(seed)
        self.stddev = stddev
        self.distribution = distribution
        self.active = active
        self.seed = seed
        self.sampler = sampler
        self.seed_generator = keras.random.SeedGenerator(seed)
        # TensorFlow finds a variable to save only through attributes it tracks, and a
        # SeedGenerator is not one: without this line tf.saved_model.save fails and
        # tf.train.Checkpoint forgets the stream.
        self._tracked_state = self.seed_generator.state.value
        self.supports_masking = True

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        if not inputs.dtype.is_floating:
            raise ValueError(
                f"NoiseLayer {self.name!r}: inputs must be floating-point; cast them first. "
                f"Received: dtype={inputs.dtype.name}"
            )
        if self.stddev == 0 or not self._is_active(training):
            return inputs
        return inputs + sample_noise(
            tf.shape(inputs),
            self.distribution,
            self.sampler,
            self.stddev,
            next_seed(self.seed_generator),
            inputs.dtype,
        )

    def _is_active(self, training: bool) -> bool:
        return self.active == "always" or (self.active == "training") == bool(training)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "stddev": self.stddev,
            "distribution": self.distribution,
            "active": self.active,
            "seed": self.seed,
            "sampler": self.sampler,
        }

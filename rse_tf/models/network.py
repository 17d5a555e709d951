"""What all networks share: their settings, and the noise before every convolution."""

from __future__ import annotations

import dataclasses
import numbers
from typing import Any

import keras

from rse_tf.layers import BReLU, Dropout, FusedBatchNormalization, NoiseLayer
from rse_tf.layers.sampling import DISTRIBUTIONS, SAMPLERS
from rse_tf.models.export import export_model
from rse_tf.utils.options import check_options, option
from rse_tf.utils.rules import NOT_NEGATIVE

INIT_NOISE_AT = ("first_conv", "second_conv")


@dataclasses.dataclass(frozen=True)
class NoiseSettings:
    """Where a network is noisy, and how much.

    Attributes:
        init_noise: standard deviation before the first convolution, in pixel units; images
            lie in [0, 1].
        inner_noise: standard deviation before every other convolution.
        distribution: `"gaussian"`, `"uniform"` or `"laplace"`.
        sampler: `"pool"` or `"exact"`, as in `NoiseLayer`.
        init_noise_at: `"first_conv"` puts `init_noise` before the first convolution, as
            Liu et al. describe it; `"second_conv"` before the second, as the authors' VGG16
            code does.
        active: `"always"`, `"training"` or `"inference"`, as in `NoiseLayer`.

    Raises:
        ValueError: if a setting is not one of the above.
    """

    init_noise: float = option(
        0.0, by_dataset="init_noise", rule=NOT_NEGATIVE, help="noise before the first convolution"
    )
    inner_noise: float = option(
        0.0,
        by_dataset="inner_noise",
        rule=NOT_NEGATIVE,
        help="noise before the other convolutions",
    )
    distribution: str = option(
        "gaussian", flag="noise_distribution", choices=DISTRIBUTIONS, help="kind of the noise"
    )
    sampler: str = option(
        "pool",
        flag="noise_sampler",
        choices=SAMPLERS,
        help="how noise is drawn: fast, or number by number",
    )
    init_noise_at: str = option(
        "first_conv",
        choices=INIT_NOISE_AT,
        help="where init_noise goes: as the paper says, or as the authors' VGG16 code does",
    )
    active: str = "always"

    def __post_init__(self) -> None:
        check_options(self)

    @property
    def is_silent(self) -> bool:
        """Whether there is no noise at all."""
        return not (self.init_noise or self.inner_noise)

    def layer(self, index: int, **kwargs: Any) -> NoiseLayer:
        """Returns the noise layer that belongs before convolution number `index`, from 0."""
        init_index = INIT_NOISE_AT.index(self.init_noise_at)
        stddev = self.init_noise if index == init_index else self.inner_noise
        return NoiseLayer(stddev, self.distribution, self.active, sampler=self.sampler, **kwargs)

    def of_row(self) -> dict[str, Any]:
        """The law of the noise, as rows tell it; how it is drawn changes no result."""
        names = ("init_noise", "inner_noise", "distribution", "init_noise_at")
        return {name: getattr(self, name) for name in names}


class Blocks:
    """Builds a network's layers in order and puts a noise layer before each convolution."""

    def __init__(
        self,
        noise: NoiseSettings,
        activation: str,
        dtype: Any,
        paper_initialisation: bool,
        extra_filters: int,
    ) -> None:
        self._noise = noise
        self._extra_filters = extra_filters
        self._activation = activation
        self._dtype = dtype
        self._kernel = keras.initializers.GlorotUniform
        if paper_initialisation:
            self._kernel = _small_normal
        self._convolutions = 0

    def noise(self, x: Any) -> Any:
        """Adds the noise layer that goes before the next convolution."""
        index = self._convolutions
        self._convolutions += 1
        return self._noise.layer(index, name=f"noise_{index}", dtype=self._dtype)(x)

    def conv(self, x: Any, filters: int, kernel_size: int, *, noisy: bool = True, **kw: Any) -> Any:
        """Noise, then a convolution. `noisy=False` is for a part of a split convolution."""
        if self._convolutions == 0:
            filters += self._extra_filters
        if noisy:
            x = self.noise(x)
        return keras.layers.Conv2D(
            filters, kernel_size, kernel_initializer=self._kernel(), dtype=self._dtype, **kw
        )(x)

    def norm(self, x: Any, *, affine: bool = True) -> Any:
        """Batch normalisation; `affine=False` leaves out scale and offset."""
        return FusedBatchNormalization(
            epsilon=1e-5,
            momentum=0.9,
            scale=affine,
            center=affine,
            gamma_initializer=keras.initializers.RandomNormal(1.0, 0.02),
            dtype=self._dtype,
        )(x)

    def activation(self, x: Any) -> Any:
        """The network's activation: `"brelu"`, or any activation that Keras knows by name."""
        if self._activation == "brelu":
            return BReLU(dtype=self._dtype)(x)
        return keras.layers.Activation(self._activation, dtype=self._dtype)(x)

    def pool(self, x: Any) -> Any:
        return keras.layers.MaxPooling2D(2, dtype=self._dtype)(x)

    def dropout(self, x: Any, rate: float) -> Any:
        return Dropout(rate, dtype=self._dtype)(x)

    def flatten(self, x: Any) -> Any:
        return keras.layers.Flatten(dtype=self._dtype)(x)

    def dense(self, x: Any, units: int) -> Any:
        return keras.layers.Dense(units, kernel_initializer=self._kernel(), dtype=self._dtype)(x)

    def logits(self, x: Any, num_classes: int) -> Any:
        """The last layer, in float32 whatever the policy: attacks compare close logits."""
        return keras.layers.Dense(
            num_classes, kernel_initializer=self._kernel(), dtype="float32", name="logits"
        )(x)


def is_activation(name: str) -> bool:
    """Whether `Blocks` has an activation of this name: `"brelu"`, or one that Keras knows."""
    try:
        return name == "brelu" or keras.activations.get(name) is not None
    except ValueError:
        return False


def _small_normal() -> keras.initializers.Initializer:
    # The RSE authors' initialisation of all kernels.
    return keras.initializers.RandomNormal(0.0, 0.02)


class Network(keras.Model):
    """A convolutional classifier with a noise layer before every convolution.

    Maps images `[batch, height, width, channels]`, float in [0, 1], to logits
    `[batch, num_classes]`, float32. Subclasses define `hidden`.

    Args:
        input_shape: `(height, width, channels)` of the images.
        num_classes: number of classes.
        activation: `"relu"`, `"brelu"` or another Keras activation's name.
        extra_filters: how many filters the first convolution has on top of its own. Strauss et
            al. (2017), section 3, vary their ensembles by this and the next one.
        extra_convolution: number of filters of a 3x3 convolution put in front; 0 for none.
        dtype: dtype or Keras dtype policy of the layers, for example `"mixed_bfloat16"`.
        name: name of the model.
        **noise: the fields of `NoiseSettings`, such as `init_noise=0.4, inner_noise=0.1`.
            Default: no noise.

    Attributes:
        noise: the `NoiseSettings`.

    Raises:
        ValueError: if an argument is not one of the above, if images of this shape are
            too small for the network, or if Keras is set to channels in front.
        TypeError: if an argument is unknown.
    """

    smallest = 1
    paper_initialisation = True

    def __init__(
        self,
        input_shape: tuple[int, int, int],
        num_classes: int = 10,
        *,
        activation: str = "relu",
        extra_filters: int = 0,
        extra_convolution: int = 0,
        dtype: Any = None,
        name: str | None = None,
        **noise: Any,
    ) -> None:
        kind = type(self).__name__
        if keras.config.image_data_format() != "channels_last":
            raise ValueError(
                f'{kind}: images must have their channels last; set "image_data_format": '
                '"channels_last" in keras.json, or call keras.config.set_image_data_format('
                f"'channels_last'). Received: {keras.config.image_data_format()!r}"
            )
        known = len(input_shape) == 3 and all(isinstance(n, numbers.Integral) for n in input_shape)
        shape = tuple(int(n) for n in input_shape) if known else ()
        if not shape or min(shape[:2]) < self.smallest or shape[2] < 1:
            raise ValueError(
                f"{kind}: input_shape must be (height, width, channels) with at least "
                f"{self.smallest} x {self.smallest} pixels, without the batch. "
                f"Received: input_shape={tuple(input_shape)}"
            )
        if int(num_classes) != num_classes or num_classes < 2:
            raise ValueError(
                f"{kind}: num_classes must be an integer of at least 2. "
                f"Received: num_classes={num_classes}"
            )
        for argument, value in (
            ("extra_filters", extra_filters),
            ("extra_convolution", extra_convolution),
        ):
            if int(value) != value or value < 0:
                raise ValueError(
                    f"{kind}: {argument} must be an integer of at least 0. "
                    f"Received: {argument}={value}"
                )
        settings = NoiseSettings(**noise)
        policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
        blocks = Blocks(settings, activation, policy, self.paper_initialisation, extra_filters)
        inputs = x = keras.Input(shape, dtype="float32", name="images")
        if extra_convolution:
            x = blocks.activation(blocks.conv(x, extra_convolution, 3, padding="same"))
        outputs = blocks.logits(self.hidden(blocks, x), num_classes)
        super().__init__(inputs=inputs, outputs=outputs, name=name)
        # The layers have their own policies. The model's would round the pixels beforehand where
        # the global one is of low precision.
        self.dtype_policy = "float32"
        self.noise = settings
        self._settings = {
            "input_shape": shape,
            "num_classes": int(num_classes),
            **dataclasses.asdict(settings),
            "activation": activation,
            "extra_filters": int(extra_filters),
            "extra_convolution": int(extra_convolution),
            "dtype": policy.name,
        }

    @staticmethod
    def hidden(blocks: Blocks, images: Any) -> Any:
        """Connects the network up to its last hidden layer."""
        raise TypeError("Network is the common base; use one of its subclasses")

    def export(
        self, filepath: Any, format: str = "tf_saved_model", verbose: bool | None = None
    ) -> None:
        """Writes a SavedModel whose noise does not repeat; see `rse_tf.export_classifier`."""
        export_model(self, self.input_shape[1:], filepath, format, verbose)

    def get_config(self) -> dict[str, Any]:
        return {**self._settings, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Network:
        return cls(**config)

"""The network of a run: one of ours, or the user's own."""

from __future__ import annotations

import keras

from rse_tf import data
from rse_tf.config import Config, ConfigError
from rse_tf.models import MODELS, NetworkSpec, file_spec, is_model_file
from rse_tf.utils.checks import ArgumentError


def network_spec(config: Config, dataset: data.Dataset) -> NetworkSpec:
    """The network of a run, with the noise of RSE.

    Raises:
        ConfigError: if the images are too small for it, or Keras has channels in front.
    """
    if keras.config.image_data_format() != "channels_last":
        raise ConfigError(
            'rse_tf has the channels of images last: set "image_data_format": "channels_last" '
            f"in keras.json. Received: {keras.config.image_data_format()!r}"
        )
    if is_model_file(str(config.model)):
        return _spec_of_file(config, dataset)
    name, (height, width, _) = str(config.model), dataset.image_shape
    smallest = MODELS[name].smallest
    if min(height, width) < smallest:
        raise ConfigError(
            f"--model={name} needs images of at least {smallest} x {smallest} pixels. "
            f"Received: --dataset={config.dataset} with {height} x {width}"
        )
    return NetworkSpec(
        name=name,
        input_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        noise=config.noise_settings(),
        activation=config.activation,
    )


def _spec_of_file(config: Config, dataset: data.Dataset) -> NetworkSpec:
    """What is built from the user's own model."""
    changing = [name for name in config.defense if config.make_defense(name).changes_network]
    for what, refused in (
        (f"--defense={','.join(changing)}, which needs other networks", bool(changing)),
        ("--substitute, which would be the same network", config.substitute is not None),
        (f"--activation={config.activation}", config.activation != "relu"),
        (f"--dtype_policy={config.dtype_policy}", config.dtype_policy != "float32"),
        (f"--init_noise_at={config.init_noise_at}", config.init_noise_at != "first_conv"),
    ):
        if refused:
            raise ConfigError(f"--model={config.model} does not go together with {what}")
    noise = config.noise_settings()
    try:
        return file_spec(str(config.model), dataset.image_shape, dataset.num_classes, noise)
    except ArgumentError as error:
        received = f"Received: {config.model}"
        raise ConfigError(f"--model must be {error.expected}. {received}") from error

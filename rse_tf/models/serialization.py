"""How an ensemble describes the models inside it."""

from __future__ import annotations

from typing import Any

import keras


def serialize(model: keras.Model) -> Any:
    """The configuration of a model inside another, without how it was trained."""
    return _without_training(keras.saving.serialize_keras_object(model))


def deserialize(config: Any, custom_objects: Any) -> keras.Model:
    """The model of what `serialize` returned.

    Raises:
        ValueError: if a class of it is not registered, or does not take its configuration.
    """
    try:
        # Files of earlier versions have what serialize leaves out.
        return keras.saving.deserialize_keras_object(_without_training(config), custom_objects)
    except TypeError as error:
        raise ValueError(
            "A model of an ensemble cannot be loaded. Register classes and functions that are not "
            "Keras' own with keras.saving.register_keras_serializable, or pass them as "
            "custom_objects; and let constructors take what get_config returns. "
            f"Received: {str(error).splitlines()[0][:200]}"
        ) from error


def _without_training(config: Any) -> Any:
    """A configuration without the losses and optimizers that its models were trained with."""
    if isinstance(config, dict):
        is_object = {"class_name", "config"} <= set(config)
        return {
            key: _without_training(value)
            for key, value in config.items()
            if not (is_object and key == "compile_config")
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_without_training(value) for value in config)
    return config


def output_shape(model: keras.Model, input_shape: Any) -> tuple:
    """The shape of a model's output for a shape of its input."""
    # Subclassed models know no compute_output_shape; Keras can trace all of them.
    images = keras.KerasTensor(tuple(input_shape), "float32")
    return tuple(model.compute_output_spec(images).shape)

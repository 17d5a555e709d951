"""What a model is: for rows, and for the names of what is kept of it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import keras

from rse_tf.layers import noise_layers
from rse_tf.models import AveragedEnsemble, Network, NoiseSettings
from rse_tf.training import weights_digest


def noise_settings(model: keras.Model) -> dict[str, Any]:
    """Returns the settings of a network's noise by name; empty without noise."""
    if not any(layer.stddev for layer in noise_layers(model)):
        return {}
    # The network's own, which for a defense with noise on its images only is not the run's.
    network = model.members[0] if isinstance(model, AveragedEnsemble) else model
    if isinstance(network, Network):
        return network.noise.of_row()
    first, *others = noise_layers(network)  # those that robustify put there
    inner = others[0].stddev if others else 0.0
    return NoiseSettings(first.stddev, inner, first.distribution).of_row()


def model_digest(model: keras.Model) -> str:
    """Returns a checksum of what a model is: its config but for names, and its weights."""
    facts = json.dumps([without_names(model.get_config()), weights_digest(model)], default=str)
    return hashlib.sha256(facts.encode()).hexdigest()[:16]


def without_names(config: Any) -> Any:
    """Returns a model's config but for names, which Keras numbers by what else was built."""
    if isinstance(config, dict):
        return {key: without_names(value) for key, value in config.items() if key != "name"}
    if isinstance(config, (list, tuple)):
        return [without_names(value) for value in config]
    return config

"""A model in a file of the user's, in the place of one of our networks."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from typing import Any

import keras

from rse_tf.models.network import NoiseSettings
from rse_tf.models.registry import MODELS, NetworkSpec
from rse_tf.models.robustify import robustify
from rse_tf.utils.checks import argument_error
from rse_tf.utils.classifier import Classifier


def is_model_file(name: str) -> bool:
    """Whether a network is meant as a file, by its name."""
    return name.endswith((".keras", ".h5"))


def is_network(name: str) -> bool:
    """Whether this is the name of a network, or of a file."""
    return name in MODELS or is_model_file(name)


@dataclasses.dataclass(frozen=True)
class FileSpec(NetworkSpec):
    """A trained model of a file, with noise before its convolutions or without.

    What is built from it has the file's weights, so that a training goes on from these.

    Attributes:
        file: path of the file.
        digest: checksum of what is in it.
    """

    file: str = ""
    digest: str = ""

    @property
    def is_trained(self) -> bool:
        return self.noise.is_silent

    def facts(self) -> dict[str, Any]:
        facts = super().facts()
        del facts["file"]  # wherever it lies
        return facts

    def build(self, dtype: str | None = None) -> keras.Model:
        changes = (self.activation, self.extra_filters, self.extra_convolution)
        if dtype not in (None, "float32") or changes != ("relu", 0, 0):
            raise ValueError(
                "FileSpec: a model of a file stays as it is, in float32. "
                f"Received: dtype={dtype!r}, {self}"
            )
        model = keras.models.load_model(self.file, compile=False)
        noise = self.noise
        if noise.is_silent:
            return model
        return robustify(
            model,
            noise.init_noise,
            noise.inner_noise,
            noise.distribution,
            noise.active,
            noise.sampler,
        )


def file_spec(
    file: str, input_shape: tuple[int, int, int], num_classes: int, noise: NoiseSettings
) -> FileSpec:
    """Looks at a model in a file, and returns what is built from it.

    Args:
        file: its path, `.keras` or `.h5`.
        input_shape: `(height, width, channels)` of the images that it must take.
        num_classes: how many logits it must return.
        noise: what goes before its convolutions.

    Raises:
        ArgumentError: of the argument `model`, if the file cannot be loaded, or holds no model
            from such images to such logits.
    """
    path = pathlib.Path(file)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        model = keras.models.load_model(path, compile=False)
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise argument_error("Config", "model", f"a file that loads ({reason})", file) from error
    try:
        returned = Classifier(model, "--model").look_at_shape(input_shape)
    except ValueError as error:
        raise argument_error("Config", "model", f"a model of logits ({error})", file) from error
    if returned.num_classes != num_classes:
        expected = f"a model of {num_classes} classes, as the images have"
        raise argument_error("Config", "model", expected, f"{file} of {returned.num_classes}")
    return FileSpec(path.stem, input_shape, num_classes, noise, file=file, digest=digest)

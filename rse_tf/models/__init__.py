"""Networks, ensembles of networks, and noise for any network."""

from __future__ import annotations

from rse_tf.models.averaged_ensemble import AveragedEnsemble
from rse_tf.models.export import export_classifier
from rse_tf.models.network import Network, NoiseSettings, is_activation
from rse_tf.models.own_file import FileSpec, file_spec, is_model_file, is_network, noise_of
from rse_tf.models.registry import (
    MODELS,
    VGG16,
    CifarCNN,
    MnistCNN,
    ModelA,
    NetworkSpec,
    ResNeXt29,
    build,
)
from rse_tf.models.robustify import robustify
from rse_tf.models.self_ensemble import SelfEnsemble

__all__ = [
    "AveragedEnsemble",
    "CifarCNN",
    "FileSpec",
    "MODELS",
    "MnistCNN",
    "ModelA",
    "Network",
    "NetworkSpec",
    "NoiseSettings",
    "ResNeXt29",
    "SelfEnsemble",
    "VGG16",
    "build",
    "export_classifier",
    "file_spec",
    "is_activation",
    "is_model_file",
    "is_network",
    "noise_of",
    "robustify",
]

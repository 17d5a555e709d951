"""Networks, ensembles of networks, and noise for any network."""

from __future__ import annotations

from rse_tf.models.averaged_ensemble import AveragedEnsemble
from rse_tf.models.export import export_classifier
from rse_tf.models.gradient_sources import (
    GRADIENT_SOURCES,
    MeanLogits,
    MeanProbability,
    ReweightedMembers,
    StackedDraws,
    gradient_source,
)
from rse_tf.models.network import Network, NoiseSettings, is_activation
from rse_tf.models.own_file import FileSpec, file_spec, is_model_file, is_network
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
    "GRADIENT_SOURCES",
    "MODELS",
    "MeanLogits",
    "MeanProbability",
    "MnistCNN",
    "ModelA",
    "Network",
    "NetworkSpec",
    "NoiseSettings",
    "ResNeXt29",
    "ReweightedMembers",
    "SelfEnsemble",
    "StackedDraws",
    "VGG16",
    "build",
    "export_classifier",
    "file_spec",
    "gradient_source",
    "is_activation",
    "is_model_file",
    "is_network",
    "robustify",
]

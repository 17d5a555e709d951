"""Which noise of a model meets the pixels first, and whether a certificate can rest on it."""

from __future__ import annotations

from typing import Any

import keras

from rse_tf.layers import NoiseLayer, is_random
from rse_tf.models import AveragedEnsemble
from rse_tf.models.copying import is_graph
from rse_tf.models.network import Network

_PRECISE = ("float32", "float64")
_EXPLICIT = (
    "or give stddev (--smoothing_noise): certify then adds Gaussian noise of that standard "
    "deviation to the pixels, in the place of the model's own, and the certificate is of the model "
    "so changed"
)


def noise_on_pixels(model: Any) -> list[NoiseLayer]:
    """The noise layers that take a model's pixels before anything else does, one for each member.

    Args:
        model: any classifier. Of one that is not a graph of layers nothing is known.

    Returns:
        One layer, or one for each member of an `AveragedEnsemble`; none where the pixels go to
        another layer, too.
    """
    if isinstance(model, AveragedEnsemble):
        found = [noise_on_pixels(member) for member in model.members]
        return [layer for layers in found for layer in layers] if all(found) else []
    if not isinstance(model, keras.Model) or not is_graph(model):
        return []
    taker = _only_taker_of_pixels(model)
    return [taker] if isinstance(taker, NoiseLayer) else noise_on_pixels(taker)


def own_stddev(model: Any) -> float:
    """Standard deviation of the Gaussian noise that a model itself adds to its pixels.

    Args:
        model: a classifier.

    Raises:
        ValueError: if there is no such noise, or if no certificate follows from it: it is not
            Gaussian, silent at inference, not the first to meet the pixels, or added in half
            precision.
    """
    members = model.members if isinstance(model, AveragedEnsemble) else [model]
    found = sorted({_own_stddev(member) for member in members})
    if len(found) > 1:
        raise _refusal(
            "the members of an ensemble must have the same noise on the pixels, for one smoothed "
            f"classifier has one sigma; train them alike, {_EXPLICIT}",
            f"standard deviations {found}",
        )
    return found[0]


def _own_stddev(model: Any) -> float:
    if isinstance(model, Network) and model.get_config()["init_noise_at"] == "second_conv":
        raise _refusal(
            "init_noise must go before the first convolution. Behind it the noise no longer is "
            "isotropic Gaussian noise on the pixels, and no radius follows from it; train with "
            f'init_noise_at="first_conv", {_EXPLICIT}',
            "init_noise_at='second_conv'",
        )
    layers = noise_on_pixels(model)
    if not layers or layers[0].stddev == 0:
        if any(layer.active == "training" for layer in layers) or not is_random(model):
            raise _silent(f"{getattr(model, 'name', model)!r} without noise on its pixels")
        raise _refusal(
            "model must add its noise to the pixels before anything else touches them: the "
            f"certificate is for noise on the image; put a NoiseLayer in front, {_EXPLICIT}",
            f"{getattr(model, 'name', model)!r}, whose noise layers stand further behind or cannot "
            "be found",
        )
    (layer,) = layers
    _check(model, layer)
    return layer.stddev


def _check(model: keras.Model, layer: NoiseLayer) -> None:
    if layer.active == "training":
        raise _silent("active='training'")
    if layer.distribution != "gaussian":
        raise _refusal(
            "the noise on the pixels must be Gaussian: the L2 radius follows from the Neyman-"
            f"Pearson lemma for normal densities, and from no other; train with it, {_EXPLICIT}",
            f"distribution={layer.distribution!r}",
        )
    for dtype in (model.compute_dtype, layer.compute_dtype):
        if dtype not in _PRECISE:
            raise _refusal(
                "the noise must meet the pixels in float32: half precision rounds the image first, "
                "and images whose roundings differ have no radius in common; build the model "
                f'with dtype="float32", {_EXPLICIT}',
                f"noise in {dtype}",
            )


def _only_taker_of_pixels(model: keras.Model) -> Any:
    """The layer that takes the pixels, if no other does and it takes nothing else, or `None`."""
    graph = getattr(model, "_functional", model)  # a Sequential model has it inside
    pixels = {id(tensor) for tensor in graph.inputs}
    # Keras lists the calls of a graph nowhere in public. A layer that other models share has
    # calls of theirs as well, which these are not.
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    calls = [node.operation for node in nodes if not node.is_input]
    takers = [
        node.operation
        for node in nodes
        if not node.is_input and pixels & {id(tensor) for tensor in node.input_tensors}
    ]
    return takers[0] if len(takers) == 1 == calls.count(takers[0]) else None


def _silent(found: str) -> ValueError:
    return _refusal(
        "model must add noise to its pixels at inference, for the certificate is of its "
        'prediction under noise; train with init_noise and active="always" (--defense=rse), '
        f"{_EXPLICIT}",
        found,
    )


def _refusal(expected: str, found: str) -> ValueError:
    return ValueError(f"certify: {expected}. Received: {found}")

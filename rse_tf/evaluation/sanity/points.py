"""Random points around images, for searches without gradients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# Sides of the tiles of one sign, as parts of the image: single pixels up to a quarter.
_TILES = (0.0, 0.0, 1 / 16, 1 / 8, 1 / 4)


def random_points(
    images: np.ndarray, epsilon: float, norm: str, bounds: tuple[float, float], seed: Sequence[int]
) -> np.ndarray:
    """One random point on the sphere around each image, clipped to the bounds.

    In the L-infinity ball it is a corner. The signs are those of single pixels or, in every other
    image or so, of tiles: a convolution hardly sees the former, which average out, and much of
    the latter (Andriushchenko et al., 2020, start Square Attack with stripes for that reason).

    Args:
        images: float32 `[number, height, width, channels]`.
        epsilon: radius, in pixel units.
        norm: `"linf"` or `"l2"`.
        bounds: smallest and largest pixel value.
        seed: integers that the points follow from.

    Returns:
        float32, like the images.
    """
    rng = np.random.default_rng(list(seed))
    moves = np.stack([_signs(image.shape, rng) for image in images])
    if norm == "l2":
        moves /= np.linalg.norm(moves.reshape(len(moves), -1), axis=1)[:, None, None, None]
    return np.clip(images + epsilon * moves, *bounds).astype(np.float32)


def one_step(
    images: np.ndarray,
    gradient: np.ndarray,
    epsilon: float,
    norm: str,
    bounds: tuple[float, float],
) -> np.ndarray:
    """The fast gradient method (Goodfellow et al., 2014): one step of length epsilon.

    Args:
        images: float32 `[number, height, width, channels]`.
        gradient: of the loss, likewise.
        epsilon: the length, in pixel units.
        norm: `"linf"`, a step along the sign of the gradient, or `"l2"`, along the gradient.
        bounds: smallest and largest pixel value.

    Returns:
        float32, like the images.
    """
    moves = np.sign(gradient).astype(np.float64)
    if norm == "l2":
        sizes = np.linalg.norm(gradient.reshape(len(gradient), -1).astype(np.float64), axis=1)
        moves = gradient / np.where(sizes == 0, 1.0, sizes)[:, None, None, None]
    return np.clip(images + epsilon * moves, *bounds).astype(np.float32)


def _signs(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    height, width, channels = shape
    side = max(1, round(min(height, width) * rng.choice(_TILES)))
    rows, columns = -(-height // side), -(-width // side)
    signs = rng.choice([-1.0, 1.0], [rows, columns, channels])
    signs = signs.repeat(side, axis=0).repeat(side, axis=1)
    return signs[:height, :width]

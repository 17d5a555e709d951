"""The papers' figures that show images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from rse_tf.reporting.canvas import LINE, Canvas, checked_images, zoom_for
from rse_tf.reporting.gallery import Gallery
from rse_tf.reporting.series import display_name

# In pixels of the PNG.
_SIDE = 96
_GAP = 14
_LABELS_WIDTH = 100
_DARKEST = 0.995  # the share of all changes that are not drawn at full strength


def draw_perturbations(galleries: Sequence[Gallery]) -> Figure:
    """Draws what targeted attacks did to one image: a column per defense, a row per target.

    In each place stand the adversarial image and its perturbation, with the squared L2 norm
    below. A perturbation is the absolute change of each channel, scaled by one factor for the
    whole figure, cut at 1 and inverted, so that what did not change is white. The clean image
    is on the right.

    Args:
        galleries: one per defense, each with `targets`, all of the same clean image.

    Raises:
        ValueError: if there are none, or one has other than one target per image.
    """
    if not galleries:
        raise ValueError("draw_perturbations: galleries must hold at least one gallery")
    images = [_checked(gallery, "targets") for gallery in galleries]
    changes = np.concatenate([np.abs(after - before).ravel() for before, after in images])
    # Not by the largest change: one pixel would make all others pale.
    large = float(np.quantile(changes, _DARKEST)) or float(changes.max())
    scale = 1 / large if large else 1.0
    targets = list(dict.fromkeys(target for gallery in galleries for target in gallery.targets))
    clean = images[0][0][0]
    zoom = zoom_for(clean.shape[0], clean.shape[1], _SIDE)
    height, width = zoom * clean.shape[0], zoom * clean.shape[1]
    across, down = 2 * width + 2 * _GAP, height + LINE + _GAP
    header = 3 * LINE + _GAP
    right = _LABELS_WIDTH + across * len(galleries)
    bottom = header + down * len(targets)
    canvas = Canvas(right + width + 2 * _GAP, bottom + 2 * LINE)
    for column, (gallery, (before, after)) in enumerate(zip(galleries, images, strict=True)):
        left = _LABELS_WIDTH + across * column
        title = display_name(gallery.defense)
        canvas.text(left + width + _GAP / 4, header - _GAP, title, ha="center", va="bottom")
        for line, target in enumerate(targets):
            top, middle = header + down * line, left + width + _GAP / 4
            if target not in gallery.targets:
                canvas.text(middle, top + height / 2, "–", ha="center", va="center")
                continue
            at = list(gallery.targets).index(target)
            change = np.abs(after[at] - before[at])
            canvas.image(left, top, after[at], zoom)
            canvas.image(left + width + _GAP / 2, top, 1 - scale * change, zoom)
            note = f"squared L2 = {np.sum(change**2):.2f}"
            canvas.text(middle, top + height + LINE - 2, note, ha="center", va="baseline")
    for line, target in enumerate(targets):
        middle = header + down * line + height / 2
        canvas.text(_LABELS_WIDTH - _GAP, middle, target, ha="right", va="center")
    name = next((gallery.labels[0] for gallery in galleries if gallery.labels), "clean")
    canvas.text(right + width / 2, header - _GAP, f"original:\n{name}", ha="center", va="bottom")
    canvas.image(right, header, clean, zoom)
    note = f"Right of each pair: 1 - {scale:.3g} × absolute change, the same factor everywhere."
    canvas.text(_LABELS_WIDTH, bottom + LINE / 2, note, ha="left", va="center")
    return canvas.figure


def draw_attacked(galleries: Sequence[Gallery]) -> Figure:
    """Draws a row of clean images and below it one of adversarial ones, for each gallery.

    The right class stands below a clean image, the predicted one below an adversarial one.

    Args:
        galleries: one per data set, each with `labels` and `predicted`.

    Raises:
        ValueError: if there are none, or one has other than one label or prediction per image.
    """
    if not galleries:
        raise ValueError("draw_attacked: galleries must hold at least one gallery")
    for gallery in galleries:
        _checked(gallery, "labels")
    images = [_checked(gallery, "predicted") for gallery in galleries]
    shapes = [before.shape[1:3] for before, _ in images]
    zooms = [zoom_for(height, width, _SIDE) for height, width in shapes]
    sizes = [(zoom * height, zoom * width) for zoom, (height, width) in zip(zooms, shapes)]
    across = max(width for _, width in sizes) + _GAP
    longest = max(len(before) for before, _ in images)
    total = sum(2 * (height + LINE + _GAP) for height, _ in sizes)
    canvas = Canvas(_LABELS_WIDTH + 20 + across * longest, total + _GAP)
    top = _GAP
    for gallery, pair, zoom, (height, width) in zip(galleries, images, zooms, sizes, strict=True):
        names = (gallery.labels, gallery.predicted)
        for kind, pictures, classes in zip(("clean", "adversarial"), pair, names, strict=True):
            title = f"{gallery.dataset}\n{kind}".strip()
            canvas.text(_LABELS_WIDTH, top + height / 2, title, ha="right", va="center")
            for column, (picture, class_) in enumerate(zip(pictures, classes, strict=True)):
                centre = _LABELS_WIDTH + 20 + across * column + (across - _GAP) / 2
                canvas.image(centre - width / 2, top, picture, zoom)
                canvas.text(centre, top + height + LINE - 3, class_, ha="center", va="baseline")
            top += height + LINE + _GAP
    return canvas.figure


def _checked(gallery: Gallery, names: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns both kinds of images of a gallery that has the names that a figure needs."""
    clean = checked_images(f"gallery {gallery.defense!r}: clean", gallery.clean)
    adversarial = checked_images(f"gallery {gallery.defense!r}: adversarial", gallery.adversarial)
    given = len(getattr(gallery, names))
    if not len(clean) == len(adversarial) == given:
        raise ValueError(
            f"gallery {gallery.defense!r} must have as many adversarial images and {names} as "
            f"clean images. Received: {len(clean)} clean, {len(adversarial)} adversarial, "
            f"{given} {names}"
        )
    return clean, adversarial

"""The Square Attack: random search by queries alone."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.base import Attack, per_image, squared_l2
from rse_tf.attacks.margin import margin_of
from rse_tf.attacks.norms import NORMS, stretch_to_l2
from rse_tf.attacks.randomness import per_image_seeds, uniform_linf
from rse_tf.utils.options import option

# After these iterations the share of the pixels that a window covers halves.
_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)

Scalars = dict[str, tf.Tensor]


class _State(NamedTuple):
    """The state of a search, one image per row."""

    x: tf.Tensor  # the best point so far, [batch, height, width, channels]
    margin: tf.Tensor  # by how much it wins, in logits [batch]
    iterations: tf.Tensor  # int32 [batch]
    running: tf.Tensor  # bool [batch]


@dataclasses.dataclass(frozen=True)
class Square(Attack):
    """Changes a random square of the image, and keeps the change where the margin gains by it.

    In L-infinity every pixel stands at the edge of the ball from the start, vertical stripes of
    plus and minus epsilon; a change turns a square to one sign per channel. In L2 the start is a
    grid of tiles, each with a bump and a dent of one norm. A change takes the perturbation out of
    a second square, and puts its share into the first one with a new bump and dent. Squares
    shrink over the iterations by a fixed schedule. No gradient is asked for.

    An image leaves the batch at its first success. A randomised model's success in one draw is
    luck: there the margin is a mean over `selection_draws` draws, and all images run to the end.

    Args:
        model: callable from images to logits.
        epsilon: radius of the ball, in pixel units of the norm.
        norm: `"linf"` or `"l2"`.
        steps: number of changes that are tried. Default 5000, as in the authors' AutoAttack.
        p_init: share of the pixels that the first squares cover, above 0 and up to 1. It halves
            after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 steps, whatever `steps` is.
            Default 0.8, as in AutoAttack.
        selection_draws: draws of a randomised model whose margins are averaged. Default 10. A call
            is as many draws as it returns stacked logits, or as the model says in `num_draws`.
        seed: of the squares. An image's squares follow from the seed and its own pixels.

    An iteration costs one query; with a randomised model one for each call of `selection_draws`.

    Raises:
        ValueError: if an argument is out of its range.

    Reference:
        Andriushchenko, Croce, Flammarion and Hein (2020), arXiv:1912.00049.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    norm: str = option("linf", choices=NORMS, help="norm of the ball")
    steps: int = option(5000, flag="attack_steps", help="number of steps")
    p_init: float = option(0.8, help="share of the pixels that the first squares cover")
    selection_draws: int = option(
        10, randomised_only=True, help="draws of a randomised model that judge a point"
    )
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "steps", "p_init", "seed")
    gradients: ClassVar[tuple[str, ...]] = ("member", "mean_probability")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        self._check_choice("norm")
        self._check_integer("steps", 1)
        self._check_number("p_init", positive=True)
        if self.p_init > 1:
            raise self._error("p_init", "at most 1", self.p_init)
        self._check_integer("selection_draws", 1)
        self._check_integer("seed", 0)

    @property
    def supports_jit(self) -> bool:
        return False

    @property
    def _asks_for_randomness(self) -> bool:
        return True

    def _check_images(self, images: Any) -> np.ndarray:
        images = super()._check_images(images)
        if images.ndim != 4:
            raise self._error("images", "[batch, height, width, channels]", images.shape)
        return images

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        epsilon, steps = scalars["epsilon"], scalars["steps"]
        calls = self._calls(images, self.selection_draws) if self._is_random(images) else 0
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        linf, channels = self.norm == "linf", images.shape[-1]
        start = stripes(keys, images) if linf else tiles(keys, images)
        start = images + (epsilon * start if linf else stretch_to_l2(start, epsilon))
        start = tf.clip_by_value(start, *self.bounds)
        # Where the squares are, and their signs, all beforehand: a draw for each image and step
        # would take longer than the model.
        number = (2 if linf else 5) + channels
        draws = uniform_linf(keys + 1, tf.zeros([tf.shape(images)[0], steps, number]))
        change = self._change_in_linf if linf else self._change_in_l2

        def step(i: tf.Tensor, state: _State) -> tuple[tf.Tensor, _State]:
            side = window_side(i, scalars["p_init"], images.shape[1:3], odd=not linf)

            def one_change(
                state: _State, images: tf.Tensor, classes: tf.Tensor, draws: tf.Tensor
            ) -> _State:
                x = tf.clip_by_value(change(state.x, images, side, draws, epsilon), *self.bounds)
                margin, won = self._look(x, classes, targeted, calls)
                # A NaN is kept, for the caller to see it.
                better = (won | ~(margin <= state.margin)) & ~tf.math.is_nan(state.margin)
                return _State(
                    tf.where(per_image(better, x), x, state.x),
                    tf.where(better, margin, state.margin),
                    state.iterations + 1,
                    ~(better & won),
                )

            return i + 1, step_active(one_change, state, images, classes, draws[:, i])

        margin, won = self._look(start, classes, targeted, calls)
        state = _State(start, margin, tf.zeros_like(classes), ~won)
        state = while_active(step, state, 0, steps)
        return state.x, state.iterations, (state.iterations + 1) * max(calls, 1)

    def _look(
        self, x: tf.Tensor, classes: tf.Tensor, targeted: bool, calls: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """By how much the images win, and whether they have; of a randomised model none has."""
        if not calls:
            logits = self._logits(x)
            won = self._success(logits, classes, targeted, {})
            return margin_of(logits, classes, targeted), won
        margins = tf.map_fn(
            lambda _: margin_of(self._logits(x), classes, targeted),
            tf.range(calls),
            fn_output_signature=tf.float32,
            parallel_iterations=1,
        )
        return tf.reduce_mean(margins, axis=0), tf.zeros_like(classes, tf.bool)

    def _change_in_linf(
        self, x: tf.Tensor, images: tf.Tensor, side: tf.Tensor, draws: tf.Tensor, epsilon: tf.Tensor
    ) -> tf.Tensor:
        """One square to plus or minus epsilon, by channel."""
        down, across = _offsets(draws[:, :2], side, images.shape[1:3])
        inside = _inside(down, side) & _inside(across, side)
        moved = x + tf.where(inside[..., None], 2 * epsilon * _signs(draws[:, None, None, 2:]), 0.0)
        return tf.clip_by_value(moved, images - epsilon, images + epsilon)

    def _change_in_l2(
        self, x: tf.Tensor, images: tf.Tensor, side: tf.Tensor, draws: tf.Tensor, epsilon: tf.Tensor
    ) -> tf.Tensor:
        """What two squares have of the norm, and what is left of epsilon, goes to the first."""
        away, channels = x - images, images.shape[-1]
        offsets = _offsets(draws[:, :2], side, images.shape[1:3])
        others = _offsets(draws[:, 2:4], side, images.shape[1:3])
        first, second = (
            (_inside(down, side) & _inside(across, side))[..., None]
            for down, across in (offsets, others)
        )
        squares = tf.square(away)
        left = tf.maximum(tf.square(epsilon) - squared_l2(away), 0.0) / channels
        share = per_image(left, away) + _sum(tf.where(first | second, squares, 0.0))
        turned = (draws[:, 4] < 0)[:, None, None]
        down, across = (tf.where(turned, *pair) for pair in (offsets[::-1], offsets))
        new = bump(down, across, side)[..., None] * _signs(draws[:, None, None, 5:])
        new += _to_length_1(tf.where(first, away, 0.0))
        away = tf.where(first, tf.sqrt(share) * _to_length_1(new), tf.where(second, 0.0, away))
        return images + stretch_to_l2(away, epsilon)


def window_side(step: tf.Tensor, p_init: tf.Tensor, shape: tuple[int, ...], odd: bool) -> tf.Tensor:
    """The side of the squares in a step, int32: their area is the share p of the image's.

    Args:
        step: its number, from 0.
        p_init: the share at first.
        shape: `(height, width)` of the images.
        odd: whether it must be odd, and at least 3.
    """
    halvings = tf.reduce_sum(tf.cast(step > tf.constant(_HALVINGS), tf.float32))
    area = p_init * 0.5**halvings * (shape[0] * shape[1])
    side = tf.cast(tf.round(tf.sqrt(area)), tf.int32)
    smaller = min(shape)
    if not odd:
        return tf.clip_by_value(side, 1, smaller)
    side = tf.maximum(side, 3)
    return tf.minimum(side + 1 - side % 2, smaller - 1 + smaller % 2)


def stripes(keys: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """Plus and minus 1 by column and channel, `[batch, 1, width, channels]`."""
    return _signs(uniform_linf(keys, images[:, :1]))


def tiles(keys: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
    """A grid of bumps and dents shaped like the images, five by five where the sides allow it."""
    height, width, channels = images.shape[1:]
    side = max(min(height, width) // 5, 1)
    rows, columns = height // side, width // side
    row = np.arange(height)[:, None] - (height - side * rows) // 2
    column = np.arange(width)[None, :] - (width - side * columns) // 2
    covered = (0 <= row) & (row < side * rows) & (0 <= column) & (column < side * columns)
    tile = np.where(covered, row // side * columns + column // side, 0)
    draws = uniform_linf(keys, tf.zeros([tf.shape(images)[0], rows * columns, channels + 1]))
    draws = tf.gather(draws, tile, axis=1)  # of each pixel, those of its tile
    # Outside of all tiles as outside of a square.
    down, across = (
        tf.constant(np.where(covered, place % side, -1), tf.int32)[None] for place in (row, column)
    )
    upright, turned = (bump(*way, tf.constant(side)) for way in ((down, across), (across, down)))
    picture = tf.where(draws[..., 0] < 0, turned, upright)
    return picture[..., None] * _signs(draws[..., 1:])


def bump(down: tf.Tensor, across: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    """A bump in the upper half of each square and a dent in the lower, float32 like `down`.

    Their height falls with the distance d from the middle of their half as the sum of
    1 / (m + 1)^2 over m from d to half the side. Bump and dent have the same norm, both together
    the norm 1, and 0 is everywhere else.

    Args:
        down: of every pixel the distance from the upper edge of its square, int32
            `[batch, height, width]`; outside of squares negative, or the side and more.
        across: the distance from the left edge.
        side: of the squares.
    """
    half = side // 2
    lower = down >= half
    extent = tf.where(lower, side - half, half)
    place = tf.where(lower, down - half, down)
    distance = tf.maximum(tf.abs(place - extent // 2), tf.abs(across - half))
    largest = max(down.shape[1:]) // 2 + 1
    terms = 1 / np.arange(1, largest + 1, dtype=np.float64) ** 2
    sums = tf.constant(np.concatenate([[0], np.cumsum(terms)]), tf.float32)  # of the first terms
    height = sums[half + 1] - tf.gather(sums, tf.minimum(distance, half + 1))
    height = tf.where(_inside(down, side) & _inside(across, side), height, 0.0)
    halves = (tf.where(part, height, 0.0)[..., None] for part in (~lower, lower))
    above, below = (_to_length_1(part)[..., 0] for part in halves)
    return (above - below) / tf.sqrt(2.0)


def _offsets(
    draws: tf.Tensor, side: tf.Tensor, shape: tuple[int, ...]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Of every pixel the distance from the edges of a random square, `[batch, height, width]`."""
    height, width = shape
    free = tf.cast(tf.stack([height, width]) - side + 1, tf.float32)
    corner = tf.cast(tf.floor((draws + 1) / 2 * free), tf.int32)
    corner = tf.minimum(corner, tf.cast(free, tf.int32) - 1)[:, :, None, None]  # for the rounding
    every = tf.zeros([tf.shape(draws)[0], height, width], tf.int32)
    row, column = tf.range(height)[:, None], tf.range(width)[None, :]
    return row - corner[:, 0] + every, column - corner[:, 1] + every


def _inside(offset: tf.Tensor, side: tf.Tensor) -> tf.Tensor:
    return (0 <= offset) & (offset < side)


def _signs(draws: tf.Tensor) -> tf.Tensor:
    return tf.where(draws < 0, -1.0, 1.0)


def _sum(pictures: tf.Tensor) -> tf.Tensor:
    """By image and channel, `[batch, 1, 1, channels]`."""
    return tf.reduce_sum(pictures, axis=[1, 2], keepdims=True)


def _to_length_1(pictures: tf.Tensor) -> tf.Tensor:
    """The same pictures, of norm 1 by image and channel, unless they are 0."""
    return tf.math.divide_no_nan(pictures, tf.sqrt(_sum(tf.square(pictures))))

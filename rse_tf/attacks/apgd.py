"""Auto-PGD: projected gradient descent that chooses its step sizes by itself."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from rse_tf.attacks.apgd_run import Point, Run, better
from rse_tf.attacks.base import Attack
from rse_tf.attacks.randomness import per_image_seeds

_LOSSES = {"cross_entropy": 2, "dlr": 3, "dlr_targeted": 4}  # classes that each needs

Scalars = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: momentum, and steps that halve where the loss no longer rises.

    The steps are those of the paper. What is kept differs. A model that always returns the same
    leaves the misclassified point of the highest loss, or without any the point of the highest
    loss; the authors' code returns the original for images that survive. Of a randomised model
    a single draw decides nothing. At each checkpoint, and at the end, the point of the highest
    loss in its gradient's draw is judged by its mean loss over `selection_draws` other draws, and
    it replaces the point kept so far only if that is higher. No image leaves early there.

    Args:
        model: callable from images to logits. To average the gradients of a randomised model over
            draws, pass `SelfEnsemble(model, n).stacked_logits`.
        epsilon: radius of the ball, in pixel units of the norm.
        loss: `"cross_entropy"`, `"dlr"`, the difference of logits ratio, or `"dlr_targeted"`,
            which goes for several other classes, one after the other. The latter two need 3 and 4
            classes.
        norm: `"linf"` or `"l2"`.
        steps: number of steps of a run. Default 100, as in the paper. Checkpoints are rounded to
            whole steps as in the authors' code.
        restarts: number of random starts, for each class of `"dlr_targeted"`. Default 1.
        num_targets: how many of the likeliest other classes `"dlr_targeted"` tries. Default 9;
            where there are fewer, all.
        selection_draws: calls of a randomised model that judge a point. Default 10.
        seed: of the random starts. An image's starts follow from the seed and its own pixels.

    Raises:
        ValueError: if an argument is out of its range, if the model has too few classes for the
            loss, or if `"dlr_targeted"` is called with targets.

    Reference:
        Croce and Hein (2020), arXiv:2003.01690.
    """

    epsilon: float
    loss: str = "cross_entropy"
    norm: str = "linf"
    steps: int = 100
    restarts: int = 1
    num_targets: int = 9
    selection_draws: int = 10
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "steps", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        for name in ("steps", "restarts", "num_targets", "selection_draws"):
            self._check_integer(name, 1)
        self._check_integer("seed", 0)
        if self.loss not in _LOSSES:
            raise self._error("loss", f"one of {sorted(_LOSSES)}", self.loss)
        if self.norm not in ("linf", "l2"):
            raise self._error("norm", "'linf' or 'l2'", self.norm)

    @property
    def supports_jit(self) -> bool:
        return self.restarts == 1 and self.loss != "dlr_targeted"

    def check_model(self, images: np.ndarray) -> int:
        """See `Attack`; it also looks whether the model is randomised."""
        num_classes = super().check_model(images)
        if num_classes < _LOSSES[self.loss]:
            expected = f"'cross_entropy' for a model of {num_classes} classes"
            raise self._error("loss", expected, self.loss)
        key = self._randomness_key(images.shape[1:])
        if key not in self._graphs:
            self._graphs[key] = self._classifier().is_random(images)
        return num_classes

    def _randomness_key(self, image_shape: Any) -> Any:
        return ("randomised", id(self.model), tuple(image_shape))

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        if targeted and self.loss == "dlr_targeted":
            expected = "'cross_entropy' or 'dlr' where targets are given"
            raise self._error("loss", expected, self.loss)
        random = self._graphs[self._randomness_key(images.shape[1:])]
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        run = Run(self, targeted, random, scalars)
        others, number = classes[:, None], 1
        if self.loss == "dlr_targeted":
            logits = self._logits(images)
            own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
            number = min(self.num_targets, logits.shape[-1] - 1)
            others = tf.math.top_k(tf.where(own, -float("inf"), logits), number).indices
        if self.supports_jit:
            best, spent = run(images, classes, others[:, 0], keys)
            tries = tf.ones_like(classes)
        else:
            best, spent, tries = self._several(run, images, classes, others, number, keys, random)
        gradients = tries * (scalars["steps"] + 1)
        return best.x, gradients, spent + int(self.loss == "dlr_targeted")

    def _several(
        self, run: Any, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, number: int,
        keys: tf.Tensor, random: bool,
    ) -> tuple[Point, tf.Tensor, tf.Tensor]:  # fmt: skip
        """All restarts and targets, for the images that are left."""

        def again(r, best, spent, tries):  # type: ignore[no-untyped-def]
            open_ = tf.ones_like(best.success) if random else ~best.success
            rows = tf.where(open_)[:, 0]
            some, own, other, key = (
                tf.gather(t, rows) for t in (images, classes, others[:, r % number], keys)
            )
            found, queries = run(some, own, other, key + tf.cast(r // number, tf.int64))
            before = Point(*(tf.gather(t, rows) for t in best))
            found = better(found, before)
            best = Point(
                *(tf.tensor_scatter_nd_update(t, rows[:, None], f) for t, f in zip(best, found))
            )
            spent = tf.tensor_scatter_nd_add(spent, rows[:, None], queries)
            return r + 1, best, spent, tries + tf.cast(open_, tf.int32)

        none = tf.zeros_like(classes)
        lowest = tf.fill(tf.shape(classes), -float("inf"))
        best = Point(images, lowest, tf.zeros_like(images), tf.zeros_like(classes, tf.bool))
        return tf.while_loop(
            lambda r, best, *_: (r < self.restarts * number) & ~tf.reduce_all(best.success),
            again,
            (tf.constant(0), best, none, none),
        )[1:]

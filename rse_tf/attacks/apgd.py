"""Auto-PGD: projected gradient descent that chooses its step sizes by itself."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

from rse_tf.attacks.active_rows import step_active, while_active
from rse_tf.attacks.apgd_run import Point, Run, better
from rse_tf.attacks.base import Attack
from rse_tf.attacks.norms import NORMS
from rse_tf.attacks.randomness import per_image_seeds
from rse_tf.utils.options import option

_LOSSES = {"cross_entropy": 2, "dlr": 3, "dlr_targeted": 4}  # classes that each needs

Scalars = dict[str, tf.Tensor]


class _Best(NamedTuple):
    """The best point of each image over its runs, one image per row."""

    point: Point
    tries: tf.Tensor  # int32
    queries: tf.Tensor  # int32
    running: tf.Tensor  # whether a further run may help


@dataclasses.dataclass(frozen=True)
class APGD(Attack):
    """Auto-PGD: momentum, and steps that halve where the loss no longer rises.

    The steps are those of the paper. What is kept differs. A model that always returns the same
    leaves the misclassified point of the highest loss, or without any the point of the highest
    loss; the authors' code returns the original for images that survive. Of a randomised model
    no single draw decides. At each checkpoint, and at the end, two points are judged by their mean
    loss over `selection_draws` other draws: that of the highest loss in its gradient's draws,
    and the last one. The point kept so far gives way only to a higher mean. No image leaves early.

    Args:
        model: callable from images to logits. To average the gradients of a randomised model over
            draws, pass `SelfEnsemble(model, n)` or its `stacked_logits`.
        epsilon: radius of the ball, in pixel units of the norm.
        loss: `"cross_entropy"`; `"dlr"`, the difference of logits ratio; or `"dlr_targeted"`,
            which goes for several other classes, one after the other, or for the target alone
            where one is given (`"dlr"` is flat where the target is the third class). The latter two
            need 3 and 4 classes, and take the mean of stacked logits.
        norm: `"linf"` or `"l2"`.
        steps: number of steps of a run. Default 100, as in the paper. Checkpoints are rounded to
            whole steps as in the authors' code.
        restarts: number of random starts, for each class of `"dlr_targeted"`. Default 1.
        num_targets: how many of the likeliest other classes `"dlr_targeted"` tries. Default 9, as
            in the authors' code; where there are fewer, all.
        selection_draws: draws of a randomised model that judge a point. Default 10. A call is as
            many draws as it returns stacked logits, or as the model says in `num_draws`.
        seed: of the random starts. An image's starts follow from the seed and its own pixels.

    Raises:
        ValueError: if an argument is out of its range, if `num_targets` is given beside another
            loss, or if the model has too few classes for the loss.

    Reference:
        Croce and Hein (2020), arXiv:2003.01690.
    """

    epsilon: float = option(
        sweep=True, by_dataset="epsilon", is_length=True, help="one row for each distance"
    )
    loss: str = option("cross_entropy", choices=tuple(_LOSSES), help="what the steps raise")
    norm: str = option("linf", choices=NORMS, help="norm of the ball")
    steps: int = option(100, flag="attack_steps", help="number of steps")
    restarts: int = option(1, help="random starts")
    num_targets: int | None = option(None, help="other classes that --loss=dlr_targeted tries")
    selection_draws: int = option(
        10, randomised_only=True, help="draws of a randomised model that judge a point"
    )
    seed: int = 0
    scalars: ClassVar[tuple[str, ...]] = ("epsilon", "steps", "seed")
    cache_version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_length("epsilon")
        for name in ("steps", "restarts", "selection_draws"):
            self._check_integer(name, 1)
        self._check_integer("seed", 0)
        self._check_choice("loss")
        self._check_choice("norm")
        if self.num_targets is not None:
            self._check_integer("num_targets", 1)
            if self.loss != "dlr_targeted":
                raise self._error("num_targets", "None but for loss=dlr_targeted", self.num_targets)

    @property
    def supports_jit(self) -> bool:
        return self.restarts == 1 and self.loss != "dlr_targeted"

    def _defaults(self) -> dict[str, Any]:
        return {"num_targets": 9} if self.loss == "dlr_targeted" else {}

    @property
    def _asks_for_randomness(self) -> bool:
        return True

    def check_model(self, images: np.ndarray) -> int:
        """See `Attack`; it also looks whether there are classes enough for the loss."""
        num_classes = super().check_model(images)
        if num_classes < _LOSSES[self.loss]:
            expected = f"'cross_entropy' for a model of {num_classes} classes"
            raise self._error("loss", expected, self.loss)
        return num_classes

    def _perturb(
        self, images: tf.Tensor, classes: tf.Tensor, targeted: bool, scalars: Scalars
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        keys = per_image_seeds(images, scalars["seed"], self.bounds)
        calls = self._calls(images, self.selection_draws) if self._is_random(images) else 0
        run = Run(self, targeted, calls, scalars)
        others, looks = classes[:, None], 0
        if self.loss == "dlr_targeted" and not targeted:
            others, looks = self._likeliest_others(images, classes), 1
        if self.supports_jit:
            point, queries = run(images, classes, others[:, 0], keys)
            return point.x, tf.fill(tf.shape(classes), scalars["steps"] + 1), queries
        best = self._several(run, images, classes, others, keys, calls > 0)
        return best.point.x, best.tries * (scalars["steps"] + 1), best.queries + looks

    def _likeliest_others(self, images: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        logits = self._logits(images)
        own = tf.one_hot(classes, logits.shape[-1], on_value=True, off_value=False)
        number = min(self.num_targets or self._defaults()["num_targets"], logits.shape[-1] - 1)
        return tf.math.top_k(tf.where(own, -float("inf"), logits), number).indices

    def _several(
        self,
        run: Run,
        images: tf.Tensor,
        classes: tf.Tensor,
        others: tf.Tensor,
        keys: tf.Tensor,
        random: bool,
    ) -> _Best:
        """All restarts and targets, for the images that are left."""
        number = others.shape[1]

        def once_more(r: tf.Tensor, best: _Best) -> tuple[tf.Tensor, _Best]:
            one = others[:, r % number], keys + tf.cast(r // number, tf.int64)
            return r + 1, step_active(one_run, best, images, classes, *one)

        def one_run(
            best: _Best, images: tf.Tensor, classes: tf.Tensor, others: tf.Tensor, keys: tf.Tensor
        ) -> _Best:
            found, queries = run(images, classes, others, keys)
            point = better(found, best.point)
            running = best.running if random else ~point.success
            return _Best(point, best.tries + 1, best.queries + queries, running)

        lowest, none = tf.fill(tf.shape(classes), -float("inf")), tf.zeros_like(classes)
        point = Point(images, lowest, tf.zeros_like(images), none > 0)
        best = _Best(point, none, none, classes >= 0)
        return while_active(once_more, best, 0, tf.constant(self.restarts * number))

"""How robust a model really is, in one call."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Sequence

import keras
import numpy as np

from rse_tf.attacks.losses import Logits
from rse_tf.evaluation.scoring import Scorer
from rse_tf.evaluation.suite_outcome import SuiteOutcome
from rse_tf.evaluation.suite_runner import SuiteRunner
from rse_tf.evaluation.suites import Step
from rse_tf.models import SelfEnsemble
from rse_tf.training.device_pool import DevicePool


def evaluate_suite(
    model: keras.Model | Logits,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epsilons: Sequence[float],
    norm: str = "linf",
    scale: str = "small",
    steps: Sequence[Step] | None = None,
    num_draws: int = 50,
    eval_seeds: int = 3,
    seed: int = 0,
    bounds: tuple[float, float] = (0.0, 1.0),
    max_rows: int | None = None,
    budget_minutes: float | None = None,
    directory: str | pathlib.Path | None = None,
    substitute: keras.Model | None = None,
    pool: DevicePool | None = None,
) -> SuiteOutcome:
    """Attacks a model in every way that suits its kind, and keeps the worst for each image.

    The noise that an attack meets, the noise that chooses among its images, and the noise that
    the accuracies are measured with are three streams with nothing in common. So no image counts
    as broken for the luck of one draw: at distance 0 the accuracy is that without an attack.

    Args:
        model: a `keras.Model` from images to logits, or any callable that is one. A model with
            `NoiseLayer`s is deployed as the mean of `num_draws` passes; a `SelfEnsemble` says so
            itself.
        images: float `[number, height, width, channels]`, within `bounds`.
        labels: integer `[number]`, or one-hot `[number, classes]`.
        epsilons: distances, in pixel units of the norm.
        norm: `"linf"` or `"l2"`.
        scale: `"small"` is made for two cores and a hundred images, `"full"` for a GPU and a
            thousand.
        steps: the attacks. Default: those that `rse_tf.evaluation.suites.suite_steps` has for the
            model, the norm and the scale.
        num_draws: passes that the defense averages. Default 50 (Liu et al., 2018).
        eval_seeds: how often an accuracy is measured, each time with fresh noise.
        seed: everything random follows from it.
        bounds: smallest and largest pixel value.
        max_rows: images that go through the model at a time, all draws of a gradient counted. It
            bounds memory. Default 256, or 2,048 at the scale `"full"`.
        budget_minutes: time for the attacks at all distances. One that does not fit into what is
            left is not run, and its name is in `left_out` of the cell; a cheaper one further down
            may still fit. Scoring comes on top. Default: no limit.
        directory: where finished batches are kept, for a run that is killed to go on. It must
            belong to this model. Default: a temporary one.
        substitute: a model that images are transferred from, too, such as a network of the same
            kind without the defense. Default: none.
        pool: the devices. Default: the one of this process.

    Returns:
        The outcome, with a `Score` for each distance: `outcome.cells[0].score.accuracy`.

    Raises:
        ValueError: if an argument is not one of the above, if the model does not return logits, if
            it is random in another way than by `NoiseLayer`s, or if its answer for an image depends
            on the rest of a batch, or on the row.
    """
    stop_error = None
    if isinstance(model, SelfEnsemble):
        model, num_draws, stop_error = model.model, model.num_draws, model.stop_error
    pool = pool or DevicePool()
    scorer = Scorer(model, num_draws, eval_seeds, stop_error=stop_error, pool=pool)
    with tempfile.TemporaryDirectory() as folder:
        runner = SuiteRunner(
            scorer,
            images,
            labels,
            scale=scale,
            seed=seed,
            bounds=bounds,
            max_rows=max_rows,
            directory=pathlib.Path(directory or folder),
            pool=pool,
            substitute=substitute,
        )
        return runner.outcome({norm: epsilons}, steps, budget_minutes)

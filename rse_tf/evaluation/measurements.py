"""What a run measures of a defense beside its accuracy: smoothness, and when its draws may stop."""

from __future__ import annotations

import dataclasses
from typing import Any

import keras
import numpy as np

from rse_tf.data import Split
from rse_tf.evaluation.regularity import measure_regularity
from rse_tf.evaluation.result import Row
from rse_tf.evaluation.settings import EvaluationSettings
from rse_tf.evaluation.stopping import measure_stopping
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.log import log


class Measurements:
    """Measures what the settings of a run ask for.

    Args:
        settings: of the run.
        defense: its name, for the log.
        model: the defense.
        test: the images without an attack.
        pool: whose chief measures.
    """

    def __init__(
        self,
        settings: EvaluationSettings,
        defense: str,
        model: keras.Model,
        test: Split,
        pool: DevicePool,
    ) -> None:
        self._settings, self._defense, self._model = settings, defense, model
        self._test, self._pool = test, pool

    def added_to(self, row: Row) -> Row:
        """Returns a clean row with what the run measures beside its accuracy."""
        if row.scored == "single":  # the loss of an ensemble is its own
            return row
        if self._settings.regularity:
            norm, trace = self._by_chief(self._regularity, row)
            row = dataclasses.replace(row, gradient_norm=norm, hessian_trace=trace)
        if row.stop_error is not None:
            mean_draws, disagreement = self._by_chief(self._stopping, row)
            row = dataclasses.replace(row, mean_draws=mean_draws, disagreement=disagreement)
        return row

    def _by_chief(self, measure: Any, row: Row) -> tuple[float, float]:
        """Two numbers that the chief measures, in every process of the run."""
        found = measure(row) if self._pool.is_chief else (0.0, 0.0)
        first, second = self._pool.all_reduce_sum(np.array(found, np.float64))
        return float(first), float(second)

    def _regularity(self, row: Row) -> tuple[float, float]:
        test, seed = self._test, self._settings.seed
        found = measure_regularity(
            self._model, test.images, test.labels, num_draws=row.num_draws, seed=seed
        )
        log(
            f"{self._defense}: input gradient {found.gradient_norm:.4g} +- "
            f"{found.gradient_norm_std_error:.2g}, trace of the input Hessian "
            f"{found.hessian_trace:.4g} +- {found.hessian_trace_std_error:.2g}"
        )
        return found.gradient_norm, found.hessian_trace

    def _stopping(self, row: Row) -> tuple[float, float]:
        images, error = self._test.images, float(row.stop_error or 0.0)
        found = measure_stopping(self._model, images, row.num_draws, error, self._settings.seed)
        log(
            f"{self._defense}: {found.mean_draws:.1f} of {row.num_draws} draws on average; the "
            f"others would change the class of {found.disagreement:.2%} of the images"
        )
        return found.mean_draws, found.disagreement

"""The numbers that both papers measured, for the settings they measured them in."""

from __future__ import annotations

from rse_tf.reporting import reference_ensembles, reference_rse
from rse_tf.reporting.reference_ensembles import ENSEMBLES_TABLE_2, ENSEMBLES_TABLE_4
from rse_tf.reporting.reference_number import Published, RowLike
from rse_tf.reporting.reference_rse import SWEEP, TABLE_2, TABLE_3
from rse_tf.reporting.reference_training import training_differences

__all__ = [
    "ENSEMBLES_TABLE_2",
    "ENSEMBLES_TABLE_4",
    "Published",
    "RowLike",
    "SWEEP",
    "TABLE_2",
    "TABLE_3",
    "published",
    "published_by_source",
]

# Where two sources have a number for the same setting, the earlier one is taken.
_SOURCES = (SWEEP, TABLE_2, TABLE_3, ENSEMBLES_TABLE_2, ENSEMBLES_TABLE_4)


def published(row: RowLike) -> Published | None:
    """Returns the published number for the setting of `row`: the sweep's before Table 2's.

    None unless the row repeats the protocol of its paper. How long a network was trained is not
    compared.

    Liu et al. (2018): untargeted Carlini-Wagner with a fixed const, 300 steps at learning rate
    1e-3, the last iterate, one noise draw per step, and for RSE the noise of its Table 1 and an
    ensemble of 50. A clean row is set against c = 0. Table 3 is for rows with a parameter
    `target` (the name of a class), at const 100, 1,000 steps and learning rate 1e-2; its
    squared norms are given as roots. Where the initial noise goes is not compared: the paper
    says one thing, its code another.

    Strauss et al. (2017): FGSM and BIM at the epsilon of the data set, ten `members`, what is
    `scored` ("single" or "ensemble"), and the `gradient`: "member" is their Grad. 1,
    "mean_loss" their Grad. 2. There is no number for any other gradient.
    """
    found = published_by_source(row)
    return next((found[source] for source in _SOURCES if source in found), None)


def published_by_source(row: RowLike) -> dict[str, Published]:
    """Returns all published numbers for the setting of `row`, by source (see `published`)."""
    if training_differences(row):
        return {}
    return {
        **reference_rse.numbers_by_source(row),
        **reference_ensembles.numbers_by_source(row),
    }

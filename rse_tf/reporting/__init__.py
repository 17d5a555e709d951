"""Tables, plots, and the papers' own numbers beside ours."""

from __future__ import annotations

from rse_tf.reporting.gallery import plot_gallery
from rse_tf.reporting.plots import plot_accuracy_vs_l2, plot_accuracy_vs_strength
from rse_tf.reporting.reference import Published, published
from rse_tf.reporting.report import Gallery, write_report
from rse_tf.reporting.rows import Row
from rse_tf.reporting.tables import Result, format_table, read_json, write_csv, write_json

__all__ = [
    "Gallery",
    "Published",
    "Result",
    "Row",
    "format_table",
    "plot_accuracy_vs_l2",
    "plot_accuracy_vs_strength",
    "plot_gallery",
    "published",
    "read_json",
    "write_csv",
    "write_json",
    "write_report",
]

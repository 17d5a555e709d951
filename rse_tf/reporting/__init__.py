"""Tables, plots, and the papers' own numbers beside ours."""

from __future__ import annotations

from rse_tf.reporting.gallery import Gallery, load_galleries, plot_gallery, save_gallery
from rse_tf.reporting.paper import PAPER, format_exhibit, write_exhibit
from rse_tf.reporting.plots import plot_accuracy_vs_l2, plot_accuracy_vs_strength
from rse_tf.reporting.reference import Published, published
from rse_tf.reporting.report import write_report
from rse_tf.reporting.rows import Row, plain
from rse_tf.reporting.tables import Result, format_table, read_json, write_csv, write_json

__all__ = [
    "Gallery",
    "PAPER",
    "Published",
    "Result",
    "Row",
    "format_exhibit",
    "format_table",
    "load_galleries",
    "plain",
    "plot_accuracy_vs_l2",
    "plot_accuracy_vs_strength",
    "plot_gallery",
    "published",
    "read_json",
    "save_gallery",
    "write_csv",
    "write_exhibit",
    "write_json",
    "write_report",
]

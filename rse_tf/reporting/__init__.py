"""Reports of anybody's runs: tables, plots, galleries, and published numbers beside ours."""

from __future__ import annotations

from rse_tf.reporting.certificates import (
    format_certificates,
    read_certificates,
    write_certificates,
)
from rse_tf.reporting.comparison import Comparison, compare, format_comparison
from rse_tf.reporting.distances import plot_distances
from rse_tf.reporting.gallery import load_galleries, plot_gallery, save_gallery
from rse_tf.reporting.html import write_html
from rse_tf.reporting.plots import plot_accuracy_vs_l2, plot_accuracy_vs_strength
from rse_tf.reporting.published import Published, published
from rse_tf.reporting.report import write_comparison, write_report
from rse_tf.reporting.results import Result, format_table, read_json, write_csv, write_json
from rse_tf.reporting.saving import FIGURE_FORMATS
from rse_tf.reporting.verdicts import format_verdicts, write_verdicts
from rse_tf.reporting.worst_cases import write_worst_cases

__all__ = [
    "FIGURE_FORMATS",
    "Comparison",
    "Published",
    "Result",
    "compare",
    "format_certificates",
    "format_comparison",
    "format_table",
    "format_verdicts",
    "load_galleries",
    "plot_accuracy_vs_l2",
    "plot_accuracy_vs_strength",
    "plot_distances",
    "plot_gallery",
    "published",
    "read_certificates",
    "read_json",
    "save_gallery",
    "write_certificates",
    "write_comparison",
    "write_csv",
    "write_html",
    "write_json",
    "write_report",
    "write_verdicts",
    "write_worst_cases",
]

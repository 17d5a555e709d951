"""Is a measured robustness what it seems? One function for each question, and a verdict."""

from __future__ import annotations

from rse_tf.evaluation.sanity.auditing import RULES, audit
from rse_tf.evaluation.sanity.verdict import Rule, SanityRow, Verdict

__all__ = ["RULES", "Rule", "SanityRow", "Verdict", "audit"]

"""Scoring classifiers under attack."""

from rse_tf.evaluation.attacking import attack_in_batches
from rse_tf.evaluation.scoring import Score, Scorer, mean_score, score

__all__ = ["Score", "Scorer", "attack_in_batches", "mean_score", "score"]

"""Scoring classifiers under attack."""

from rse_tf.evaluation.attacking import attack_in_batches
from rse_tf.evaluation.certification import Certificate, certified_accuracy, certify
from rse_tf.evaluation.evaluator import Evaluator
from rse_tf.evaluation.gallery import Gallery
from rse_tf.evaluation.regularity import Regularity, measure_regularity
from rse_tf.evaluation.result import Row, Score, plain
from rse_tf.evaluation.scoring import Scorer, mean_score, score
from rse_tf.evaluation.settings import CertificationSettings, EvaluationSettings
from rse_tf.evaluation.stopping import Stopping, measure_stopping

__all__ = [
    "Certificate",
    "CertificationSettings",
    "EvaluationSettings",
    "Evaluator",
    "Gallery",
    "Regularity",
    "Row",
    "Score",
    "Scorer",
    "Stopping",
    "attack_in_batches",
    "certified_accuracy",
    "certify",
    "mean_score",
    "measure_regularity",
    "measure_stopping",
    "plain",
    "score",
]

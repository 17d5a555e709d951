"""Scoring classifiers under attack."""

from rse_tf.evaluation.attacking import attack_in_batches
from rse_tf.evaluation.certification import Certificate, certified_accuracy, certify
from rse_tf.evaluation.evaluator import Evaluator
from rse_tf.evaluation.gallery import Gallery
from rse_tf.evaluation.metrics import mean_score, score
from rse_tf.evaluation.regularity import Regularity, measure_regularity
from rse_tf.evaluation.result import Row, Score, plain
from rse_tf.evaluation.sanity import SanityRow, Verdict, audit
from rse_tf.evaluation.sanity.suite_verdict import suite_verdict
from rse_tf.evaluation.scoring import Answers, Scorer
from rse_tf.evaluation.settings import CertificationSettings, EvaluationSettings, SuiteSettings
from rse_tf.evaluation.stopping import Stopping, measure_stopping
from rse_tf.evaluation.suite import evaluate_suite
from rse_tf.evaluation.suite_outcome import StepOutcome, SuiteCell, SuiteOutcome
from rse_tf.evaluation.worst_cases import CaseCell, WorstCases, worst_cases

__all__ = [
    "Answers",
    "CaseCell",
    "Certificate",
    "CertificationSettings",
    "EvaluationSettings",
    "Evaluator",
    "Gallery",
    "Regularity",
    "Row",
    "SanityRow",
    "Score",
    "Scorer",
    "StepOutcome",
    "Stopping",
    "Verdict",
    "SuiteCell",
    "SuiteOutcome",
    "SuiteSettings",
    "WorstCases",
    "attack_in_batches",
    "audit",
    "certified_accuracy",
    "certify",
    "evaluate_suite",
    "mean_score",
    "measure_regularity",
    "measure_stopping",
    "plain",
    "score",
    "suite_verdict",
    "worst_cases",
]

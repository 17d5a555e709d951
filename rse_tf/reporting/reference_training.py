"""What the papers set the defenses to that they compare."""

from __future__ import annotations

import math
from typing import Any

from rse_tf.reporting.reference_number import RowLike

# Liu et al. (2018), Table 1 and the authors' published scripts.
_RSE_PAPER: dict[str, dict[str, Any]] = {
    "adversarial_retraining": {"retraining_epsilon": [0.1, 0.3]},
    "distillation": {"temperature": 40.0},
    "robust_opt_brelu": {"image_noise": 0.05},
}
# Strauss et al. (2017), section 4. Of the noise of `ensemble_gauss_noise` they give no number.
_ENSEMBLES_PAPER: dict[str, dict[str, Any]] = {
    "adversarial_training": {"rho": 0.5},
    "distillation": {"temperature": 10.0},
}
_TRAINING_EPSILON = {"mnist": 0.3, "cifar10": 0.03}
_ENSEMBLES_MODELS = ("mnist_cnn", "cifar_cnn")


def training_differences(row: RowLike) -> list[str]:
    """Returns which settings of its defense are not those of the paper, such as
    `"temperature=100 instead of 40"`; a setting that the row does not tell is none of them.
    """
    expected: dict[str, Any] = {}
    for part in row.defense.split("+"):
        if row.model not in _ENSEMBLES_MODELS:
            expected |= _RSE_PAPER.get(part, {})
        elif row.dataset in _TRAINING_EPSILON:  # those of other digits are ours
            expected |= _ENSEMBLES_PAPER.get(part, {})
            if part == "adversarial_training":
                expected["training_epsilon"] = _TRAINING_EPSILON[row.dataset]
    return [
        f"{name}={row.training[name]} instead of {wanted}"
        for name, wanted in expected.items()
        if name in row.training and not _is_same(row.training[name], wanted)
    ]


def _is_same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        same_length = isinstance(value, (list, tuple)) and len(value) == len(wanted)
        return same_length and all(map(_is_same, value, wanted))
    return isinstance(value, (int, float)) and math.isclose(value, wanted, rel_tol=1e-6)

"""The unit of every report: one attack setting against one defense, and its score."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from typing import Any

from rse_tf.utils.checks import checked_integer

# Ratios of a number of images to another.
_SHARES = (
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "average",
    "average_low",
    "average_high",
    "worst_of_10",
    "worst_of_10_low",
    "worst_of_10_high",
    "misclassified_clean",
    "success_rate",
    "target_rate",
    "disagreement",
)
_STRENGTHS = ("const", "epsilon")
# Fields that a file has among the parameters of the attack.
_IN_PARAMETERS = ("gradient", "scored", "members", "stop_error")
_DIGITS = 10  # of every number that is kept: 0.1 * 0.1 is 0.01


@dataclasses.dataclass(frozen=True)
class Score:
    """How a defense stands up to one attack setting.

    A randomised model has three accuracies. `accuracy` is that of the model as it is deployed,
    whose answer is the vote of `num_draws` noisy passes: the class of their mean probability.
    `average` is that of a single pass. `worst_of_10` counts an image only if ten independent
    answers of the deployed model are all correct: an attacker may send an image again and again,
    and needs one wrong answer. A deterministic model has one accuracy, and all three are it. An
    interval is that of Clopper and Pearson, 95 %, over the choice of the images.

    Attributes:
        accuracy: mean over the evaluation seeds of the share of all images that are still
            predicted correctly.
        accuracy_std: sample standard deviation of that share over the evaluation seeds, that is,
            over the noise of the defense; 0 for one seed.
        rms_l2: square root of the mean over all images of the squared L2 distortion, in pixel
            units.
        mean_l2: mean L2 distortion of the successes: images that are predicted correctly when
            clean and wrongly under attack. `None` without any.
        median_l2: likewise the median.
        mean_linf: mean L-infinity distortion of the successes, or `None`.
        max_linf: largest L-infinity distortion of all images.
        success_rate: share of the images correct when clean that are wrong under attack, or
            `None` if none was correct.
        misclassified_clean: share of the images that are wrong without any attack.
        accuracy_std_members: sample standard deviation of the accuracy over the members of an
            ensemble that were attacked or scored each by itself; `None` where no mean over
            members was taken.
        accuracy_low: lower end of the interval of `accuracy`; `None`, like all that follows, in
            results that were written before it was measured.
        accuracy_high: its upper end.
        average: mean share of single noisy passes that are correct.
        average_std: its sample standard deviation over the evaluation seeds.
        average_low: lower end of its interval.
        average_high: its upper end.
        worst_of_10: share of the images for which ten independent answers are all correct.
        worst_of_10_low: lower end of its interval.
        worst_of_10_high: its upper end.
    """

    accuracy: float
    accuracy_std: float
    rms_l2: float
    mean_l2: float | None
    median_l2: float | None
    mean_linf: float | None
    max_linf: float
    success_rate: float | None
    misclassified_clean: float
    accuracy_std_members: float | None = None
    accuracy_low: float | None = None
    accuracy_high: float | None = None
    average: float | None = None
    average_std: float | None = None
    average_low: float | None = None
    average_high: float | None = None
    worst_of_10: float | None = None
    worst_of_10_low: float | None = None
    worst_of_10_high: float | None = None

    def __post_init__(self) -> None:
        _check_fields(self)


@dataclasses.dataclass(frozen=True)
class Row:
    """The score of one defense under one attack setting.

    Numbers may come as NumPy scalars. They are kept as plain Python ones with 10 significant
    digits, so that a row is equal to itself after a round trip through JSON. NaN in a field that
    may be None, and in `parameters`, becomes None.

    Args:
        dataset: name of the data set.
        model: name of the network.
        defense: name of the defense; `"none"` is the undefended network.
        attack: name of the attack; `"none"` is the clean row.
        parameters: the attack's settings, for example `{"const": 0.1, "steps": 300}`.
        noise: the network's noise settings, for example `{"init_noise": 0.4, "inner_noise": 0.1}`;
            empty without noise.
        score: the accuracies and distortions.
        num_images: images attacked.
        num_draws: noisy passes averaged for one prediction.
        eval_seeds: number of evaluation seeds.
        seconds: time of the attack, added up over all devices, the compilation included; None of
            a clean row.
        gradient: what of an ensemble or of several draws the attack differentiated, one of
            `rse_tf.models.GRADIENT_SOURCES`, or `"frozen"` for one fixed draw and
            `"noise_off"` for the network without noise. None where there is no choice.
        scored: of an ensemble, `"ensemble"`, or `"single"` for the mean over the members, each by
            itself. None of a single network.
        members: of an ensemble, the number of its networks.
        stop_error: error rate at which the drawing stops early; None where it does not.
        mean_queries: mean over all images of the calls of the model that the attack spent, None
            where they were not counted.
        target_rate: of a targeted attack, the share of all images that are predicted as their
            target, mean over evaluation seeds; None for any other.
        gradient_norm: of a clean row, the mean L2 norm of the loss gradient with respect to an
            image, per pixel unit; None where it was not measured.
        hessian_trace: likewise the mean trace of the Hessian.
        mean_draws: of a clean row, the mean draws that an image takes where drawing stops early;
            None where it does not.
        disagreement: likewise the share of the images whose class all draws would change.
        training: what its defense was set to, for example `{"temperature": 40.0}`.
        run: which run the row is from, in a report of several.

    Raises:
        ValueError: if a number that must be there is missing or not finite, a share is
            outside [0, 1], or a count is not a positive integer.
        TypeError: if `parameters`, `noise` or `training` holds something that JSON has no form
            for.
    """

    dataset: str
    model: str
    defense: str
    attack: str
    parameters: dict[str, Any]
    noise: dict[str, Any]
    score: Score
    num_images: int
    num_draws: int
    eval_seeds: int
    seconds: float | None = None
    gradient: str | None = None
    scored: str | None = None
    members: int | None = None
    stop_error: float | None = None
    mean_queries: float | None = None
    target_rate: float | None = None
    gradient_norm: float | None = None
    hessian_trace: float | None = None
    mean_draws: float | None = None
    disagreement: float | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    run: str = ""

    def __post_init__(self) -> None:
        _check_fields(self)

    @property
    def strength(self) -> tuple[str, float] | None:
        """Name and value of what an attack is swept over, None if it has no such thing."""
        for name in _STRENGTHS:
            value = self.parameters.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return name, float(value)
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Everything by name that the measured numbers follow from."""
        names = ("dataset", "model", "defense", "attack", "num_draws", *_IN_PARAMETERS)
        own = {name: getattr(self, name) for name in names}
        every = {**own, **self.training, **self.noise, **self.parameters}
        return {name: value for name, value in every.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Returns a flat mapping, made of what strict JSON can hold: no NaN."""
        data: dict[str, Any] = {}
        for name, value in dataclasses.asdict(self).items():
            data |= value if name == "score" else {name: value}
        given = {name: data.pop(name) for name in _IN_PARAMETERS}
        data["parameters"] |= {name: value for name, value in given.items() if value is not None}
        if not self.run:
            del data["run"]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Builds a row from what `to_json` returned, now or before a field was added.

        Raises:
            ValueError: if a field is missing or an unknown one is there, or as for `Row`.
        """
        parameters = dict(data.get("parameters", {}))
        inside = {name: parameters.pop(name) for name in _IN_PARAMETERS if name in parameters}
        values = {**data, "parameters": parameters}
        if values.get("attack") == "none":
            values["seconds"] = None  # an earlier version wrote 0
        of_score, of_row = _names(Score), _names(cls)
        missing = sorted((_needed(Score) | _needed(cls)) - {"score"} - set(data))
        unknown = sorted(set(data) - (of_score | of_row) | {"score"} & set(data))
        if missing or unknown:
            raise ValueError(
                "Row.from_json: data must have the fields of a Row and no others. "
                f"Received: missing={missing}, unknown={unknown}"
            )
        score = Score(**{name: values.pop(name) for name in of_score & set(values)})
        return cls(**values, **inside, score=score)


def plain(value: Any, name: str) -> Any:
    """Turns a value into what strict JSON can hold.

    NumPy scalars and arrays become numbers and lists, tuples become lists, paths become
    strings. NaN becomes None, and an infinity the string "inf" or "-inf": JSON has neither.
    Other floats are rounded to 10 significant digits.

    Args:
        value: the value, nested as deep as it likes.
        name: what the error calls it.

    Raises:
        TypeError: for any other type, and for mappings with keys that are not strings.
    """
    if hasattr(value, "tolist"):  # NumPy, without asking for it
        value = value.tolist()
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: plain(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    if isinstance(value, float):
        return _rounded(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    raise TypeError(
        f"{name} must be None, a boolean, a number, a string, or a list or a mapping with "
        f"string keys of these. Received: {value!r} of type {type(value).__name__}"
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _names(kind: Any) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


def _needed(kind: Any) -> set[str]:
    absent = dataclasses.MISSING
    return {f.name for f in dataclasses.fields(kind) if f.default is f.default_factory is absent}


def _check_fields(owner: Score | Row) -> None:
    """Brings the fields of a frozen dataclass to their types, or raises."""
    for field in dataclasses.fields(owner):
        value, name, kind = getattr(owner, field.name), field.name, str(field.type)
        may_be_none = kind.endswith("| None")
        if value is None and may_be_none or kind in ("str", "str | None", "Score"):
            continue
        if kind.startswith("dict"):
            value = plain(value, f"Row: {name}")
        elif kind.startswith("int"):
            value = checked_integer("Row", name, value)
        else:
            value = _number(name, value, may_be_none)
        object.__setattr__(owner, name, value)  # the way round `frozen`


def _number(name: str, value: Any, may_be_none: bool) -> float | None:
    value = math.nan if value is None else float(value)
    if math.isnan(value) and may_be_none:
        return None
    if not math.isfinite(value):
        raise ValueError(f"Row: {name} must be a finite number. Received: {name}={value}")
    if (value < 0 and name != "hessian_trace") or (name in _SHARES and value > 1):
        allowed = "a share in [0, 1]" if name in _SHARES else "zero or greater"
        raise ValueError(f"Row: {name} must be {allowed}. Received: {name}={value}")
    return _rounded(value)

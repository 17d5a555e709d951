"""The unit of every report: one attack setting against one defense."""

from __future__ import annotations

import dataclasses
import math
import numbers
import os
from collections.abc import Mapping
from typing import Any

_SHARES = ("accuracy", "misclassified_clean", "success_rate", "target_rate", "disagreement")
_OPTIONAL = ("mean_l2", "median_l2", "mean_linf", "success_rate", "target_rate", "mean_queries",
             "gradient_norm", "hessian_trace", "mean_draws", "disagreement")  # fmt: skip
_COUNTS = ("num_images", "num_draws", "eval_seeds")
_MAPPINGS = ("parameters", "noise", "training")
_STRENGTHS = ("const", "epsilon")


@dataclasses.dataclass(frozen=True)
class Row:
    """What one attack setting did to one defense.

    Numbers may come as NumPy scalars and are kept as plain Python ones, so that a row is
    equal to itself after a round trip through JSON. NaN in a field that may be None, and in
    `parameters`, becomes None.

    Args:
        dataset: name of the data set.
        model: name of the network.
        defense: name of the defense; `"none"` is the undefended network.
        attack: name of the attack; `"none"` is the clean row.
        parameters: the attack's settings, for example `{"const": 0.1, "steps": 300}`. Rows of
            an ensemble have its number of `"members"` too, clean ones included, and `"scored"`:
            `"ensemble"`, or `"single"` for the mean over the members, each by itself. Attacked
            ones have the `"gradient"`: `"member"`, `"mean_loss"` or `"mean_probability"`.
        noise: the network's noise settings, for example `{"init_noise": 0.4, "inner_noise": 0.1}`;
            empty without noise.
        accuracy: share of all images that the ensemble of `num_draws` draws still predicts
            right under attack, mean over evaluation seeds.
        accuracy_std: sample standard deviation of that share over the seeds, 0 for one seed.
        rms_l2: root of the mean, over all images, of the squared L2 distortion; pixel units.
        mean_l2: mean L2 distortion of the successes, pixel units. A success is an image that
            is right when clean and wrong under attack. None without any.
        median_l2: median of the same, None without any success.
        mean_linf: mean over the successes of the largest change of a pixel, None without any.
        max_linf: largest change of a pixel over all images.
        success_rate: share of the initially right images that became wrong, None if no image
            was right.
        misclassified_clean: share of all images that are wrong already when clean.
        num_images: images attacked.
        num_draws: noisy passes averaged for one prediction.
        eval_seeds: number of evaluation seeds.
        seconds: wall-clock time of the attack; the first of several includes its compilation.
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
    accuracy: float
    accuracy_std: float
    rms_l2: float
    mean_l2: float | None
    median_l2: float | None
    mean_linf: float | None
    max_linf: float
    success_rate: float | None
    misclassified_clean: float
    num_images: int
    num_draws: int
    eval_seeds: int
    seconds: float
    mean_queries: float | None = None
    target_rate: float | None = None
    gradient_norm: float | None = None
    hessian_trace: float | None = None
    mean_draws: float | None = None
    disagreement: float | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "str":
                continue
            if field.name in _MAPPINGS:
                value = plain(value, f"Row: {field.name}")
            elif field.name in _COUNTS:
                value = _count(field.name, value)
            else:
                value = _number(field.name, value)
            object.__setattr__(self, field.name, value)  # the way round `frozen`

    @property
    def strength(self) -> tuple[str, float] | None:
        """Name and value of what an attack is swept over, None if it has no such thing."""
        for name in _STRENGTHS:
            value = self.parameters.get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return name, float(value)
        return None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields by name, made of what strict JSON can hold: no NaN."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Row:
        """Builds a row from what `to_json` returned, now or before a field was added.

        Raises:
            ValueError: if a field is missing or an unknown one is there, or as for `Row`.
        """
        fields = dataclasses.fields(cls)
        names = {field.name for field in fields}
        absent = dataclasses.MISSING
        needed = {f.name for f in fields if f.default is f.default_factory is absent}
        missing, unknown = sorted(needed - set(data)), sorted(set(data) - names)
        if missing or unknown:
            raise ValueError(
                "Row.from_json: data must have the fields of a Row and no others. "
                f"Received: missing={missing}, unknown={unknown}"
            )
        return cls(**data)


def plain(value: Any, name: str) -> Any:
    """Turns a value into what strict JSON can hold.

    NumPy scalars and arrays become numbers and lists, tuples become lists, paths become
    strings. NaN becomes None, and an infinity the string "inf" or "-inf": JSON has neither.

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
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{name} must be None, a boolean, a number, a string, or a list or a mapping with "
        f"string keys of these. Received: {value!r} of type {type(value).__name__}"
    )


def _number(name: str, value: Any) -> float | None:
    value = math.nan if value is None else float(value)
    if math.isnan(value) and name in _OPTIONAL:
        return None
    if not math.isfinite(value):
        raise ValueError(f"Row: {name} must be a finite number. Received: {name}={value}")
    if (value < 0 and name != "hessian_trace") or (name in _SHARES and value > 1):
        allowed = "a share in [0, 1]" if name in _SHARES else "zero or greater"
        raise ValueError(f"Row: {name} must be {allowed}. Received: {name}={value}")
    return value


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"Row: {name} must be a positive integer. Received: {name}={value!r}")
    return int(value)

"""The attacks of a suite: which, on what gradient, with how many draws and steps.

The suites follow from what broke published defenses since 2018. A randomised model meets attacks
that average its draws, at several splits of steps and draws, on several sources of gradients, and
one that needs no gradient. An averaged ensemble also meets attacks on each member. A deterministic
model meets what AutoAttack (Croce and Hein, 2020, arXiv:2003.01690) has, with FMN for FAB.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import keras

from rse_tf.models import AveragedEnsemble
from rse_tf.utils.checks import argument_error

SUITES = ("paper", "adaptive", "full")
NORMS = ("linf", "l2")
SCALES = ("small", "full")
RANDOMISED, ENSEMBLE, DETERMINISTIC = "randomised", "ensemble", "deterministic"


@dataclasses.dataclass(frozen=True)
class Step:
    """One attack of a suite.

    Attributes:
        name: tells it from the other steps of the suite.
        attack: its name in `rse_tf.attacks.ATTACKS`.
        source: what it differentiates: `"model"`, the model itself; `"member"`, each member by
            itself; `"mean_loss"`, `"mean_probability"` or `"mean_logits"` of the draws or members;
            `"reweighted"`, the members in the manner of MORA; `"frozen"`, one fixed draw;
            `"noise_off"`, the network without its noise; or `"substitute"`, another model.
        draws: noise draws that are averaged in a gradient; 1 where nothing is random.
        options: the attack's settings, but for norm, distance and seed.
        share: of `"reweighted"`, see `rse_tf.models.ReweightedMembers`.
        everyone: whether it attacks all images that are correct without an attack, and not those
            only that are left. So it can be compared between distances.
        limit: how many images it attacks at most; `None` for all.
    """

    name: str
    attack: str
    source: str
    draws: int = 1
    options: tuple[tuple[str, Any], ...] = ()
    share: float = 0.5
    everyone: bool = False
    limit: int | None = None

    @property
    def passes(self) -> int:
        """Passes of the model, most of them with a gradient, that it takes for an image."""
        options = dict(self.options)
        runs = int(options.get("restarts", 1)) * int(options.get("num_targets", 1))
        return int(options.get("steps", 1)) * runs * self.draws


def kind_of_model(model: keras.Model | Any, is_random: bool) -> str:
    """Which of the three suites a model meets."""
    if is_random:
        return RANDOMISED
    several = isinstance(model, AveragedEnsemble) and len(model.members) > 1
    return ENSEMBLE if several else DETERMINISTIC


def suite_steps(
    kind: str,
    norm: str,
    scale: str,
    num_classes: int,
    has_members: bool = False,
    has_substitute: bool = False,
) -> tuple[Step, ...]:
    """Returns the attacks in their order.

    Args:
        kind: `"randomised"`, `"ensemble"` or `"deterministic"`.
        norm: `"linf"` or `"l2"`.
        scale: `"full"`, for a GPU and a thousand images; or `"small"`, for two cores and a
            hundred.
        num_classes: of the model; some losses need three or four.
        has_members: whether a randomised model is an averaged ensemble.
        has_substitute: whether images are transferred from another model, too.

    Raises:
        ValueError: if one is not one of these.
    """
    for name, value, choices in (("norm", norm, NORMS), ("scale", scale, SCALES)):
        if value not in choices:
            raise argument_error("suite_steps", name, f"one of {', '.join(choices)}", value)
    full = scale == "full"
    if kind == RANDOMISED:
        steps = _randomised(norm, full, has_members)
    elif kind == ENSEMBLE:
        steps = _averaged(norm, full)
    elif kind == DETERMINISTIC:
        steps = _deterministic(norm, full)
    else:
        expected = f"one of {RANDOMISED}, {ENSEMBLE}, {DETERMINISTIC}"
        raise argument_error("suite_steps", "kind", expected, kind)
    if has_substitute:
        steps.insert(1, _step("substitute", "apgd", "substitute", steps=100 if full else 50))
    return tuple(step for step in steps if _is_possible(step, norm, num_classes))


def _is_possible(step: Step, norm: str, num_classes: int) -> bool:
    loss = dict(step.options).get("loss", "cross_entropy")
    enough = num_classes >= {"cross_entropy": 2, "dlr": 3, "dlr_targeted": 4}[loss]
    return enough and (norm == "linf" or step.attack != "fgsm")  # which has no other norm


def _randomised(norm: str, full: bool, has_members: bool) -> list[Step]:
    draws, steps = (20, 100) if full else (10, 50)
    pgd = 200 if full else 40
    some = None if full else 30
    apgd = _options(steps=steps)
    found = [
        _step("fgsm", "fgsm", "mean_loss", draws, everyone=True),
        _step("noise_off", "apgd", "noise_off", steps=100 if full else 30),
        _step("frozen", "apgd", "frozen", steps=100 if full else 30),
        # Half of the steps first: the rest is for those that are left, and shows what more steps
        # bring. Most randomised defenses fall to more of them (Gao et al., 2022).
        _step("pgd_half", "pgd", "mean_loss", draws, everyone=True, steps=pgd // 2),
        _step("pgd", "pgd", "mean_loss", draws, steps=pgd),
        Step("apgd_mean_loss", "apgd", "mean_loss", draws, apgd),
        Step("apgd_mean_probability", "apgd", "mean_probability", draws, apgd),
        _step("apgd_dlr", "apgd", "mean_logits", draws, steps=steps, loss="dlr"),
        # As many passes in two other splits of steps and draws.
        _step("pgd_single_draws", "pgd", "mean_loss", 1, limit=some, steps=pgd * draws),
        _step("pgd_many_draws", "pgd", "mean_loss", 50, limit=some, steps=pgd * draws // 50),
        _step(
            "apgd_targeted",
            "apgd",
            "mean_logits",
            draws,
            loss="dlr_targeted",
            steps=100 if full else 30,
            num_targets=9 if full else 3,
        ),
        _minimal(norm, "mean_probability", draws if full else 5, 300 if full else 100),
        _square("mean_probability", 1000 if full else 300, draws, some),
    ]
    if has_members:
        found.insert(4, _step("member", "apgd", "member", draws, steps=steps))
    return found


def _averaged(norm: str, full: bool) -> list[Step]:
    steps = 100 if full else 50
    shares = (0.5, 0.0, 0.25, 0.75, 1.0) if full else (0.5, 0.0, 1.0)
    found = [
        _step("fgsm", "fgsm", "mean_probability", everyone=True),
        _step("pgd", "pgd", "mean_probability", everyone=True, steps=40),
        _step("member", "apgd", "member", steps=steps),
        _step("apgd_mean_probability", "apgd", "mean_probability", steps=steps),
        _step("apgd_mean_loss", "apgd", "mean_loss", steps=steps),
        _step("apgd_dlr", "apgd", "mean_logits", steps=steps, loss="dlr"),
        *(
            _step(f"reweighted_{share:g}", "apgd", "reweighted", share=share, steps=steps)
            for share in shares
        ),
        _step(
            "apgd_targeted",
            "apgd",
            "mean_logits",
            steps=steps,
            loss="dlr_targeted",
            num_targets=9 if full else 3,
        ),
        _minimal(norm, "mean_probability", 1, 300 if full else 100),
        _square("mean_probability", 5000 if full else 500, limit=None if full else 50),
    ]
    return found


def _deterministic(norm: str, full: bool) -> list[Step]:
    found = [
        _step("fgsm", "fgsm", "model", everyone=True),
        _step("pgd", "pgd", "model", everyone=True, steps=40, restarts=10 if full else 1),
        _step("apgd", "apgd", "model", steps=100),
        _step(
            "apgd_targeted",
            "apgd",
            "model",
            steps=100,
            loss="dlr_targeted",
            num_targets=9 if full else 3,
        ),
        _minimal(norm, "model", 1, 300 if full else 100),
        _square("model", 5000 if full else 1000),
    ]
    return found


def _minimal(norm: str, source: str, draws: int, steps: int) -> Step:
    attack = "ddn" if norm == "l2" else "fmn"
    # Of a randomised model, a mean over ten draws decides what is adversarial.
    decides: dict[str, Any] = {"selection_draws": -(-10 // draws)} if draws > 1 else {}
    return _step(attack, attack, source, draws, steps=steps, **decides)


def _square(source: str, steps: int, draws: int = 1, limit: int | None = None) -> Step:
    # Of a randomised model, one call of so many draws judges a point.
    judges: dict[str, Any] = {"selection_draws": draws} if draws > 1 else {}
    return _step("square", "square", source, draws, limit=limit, steps=steps, **judges)


def _step(
    name: str,
    attack: str,
    source: str,
    draws: int = 1,
    *,
    everyone: bool = False,
    limit: int | None = None,
    share: float = 0.5,
    **options: Any,
) -> Step:
    return Step(name, attack, source, draws, _options(**options), share, everyone, limit)


def _options(**options: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(options.items())

"""How the defenses of a run are attacked, scored and certified."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rse_tf import data
from rse_tf.evaluation.suites import NORMS, SCALES, SUITES
from rse_tf.utils.checks import argument_error
from rse_tf.utils.log import log
from rse_tf.utils.options import check_options, option
from rse_tf.utils.rules import AT_LEAST_1, NOT_NEGATIVE, POSITIVE, PROBABILITY, Rule


@dataclasses.dataclass(frozen=True)
class EvaluationSettings:
    """Settings of an evaluation. Most fields are flags, and `rse_tf.config` has their defaults.

    Attributes:
        dataset: name of the data set, for the rows.
        model: name of the network, for the rows.
        attacks: the arguments of each attack by its name, once for each strength.
        gradient: what of an ensemble or of many draws is differentiated.
        attack_draws: noise draws that the attacker averages at each step.
        targeted: whether the attacks aim at a random other class.
        target_class: names of the classes to aim at in turn, or `None`.
        image_class: name of the class whose images are attacked, or `None` for all.
        substitute: name of the defense that is attacked in place of this one, or `None`.
        num_images: how many test images are attacked, or `None` for all.
        attack_batch_size: images attacked at a time.
        attacks_dir: folder for finished batches.
        num_draws: noise draws that the defense averages; rows for each.
        eval_seeds: how often each accuracy is measured, with fresh noise.
        stop_error: an image draws no more once a change of its class is this unlikely.
        regularity: whether the input gradient and Hessian of the loss are measured.
        seed: everything random follows from it.
        suite_epsilons: the distances of the adaptive suite by norm; empty without a suite.
        suite_scale: `"small"` or `"full"`, see `rse_tf.evaluation.evaluate_suite`.
        budget_minutes: time for the attacks of the suite on one defense, or `None`.
    """

    dataset: str
    model: str
    attacks: Mapping[str, Sequence[dict[str, Any]]]
    gradient: tuple[str, ...]
    attack_draws: int
    targeted: bool
    target_class: tuple[str, ...] | None
    image_class: str | None
    substitute: str | None
    num_images: int | None
    attack_batch_size: int
    attacks_dir: str
    num_draws: tuple[int, ...]
    eval_seeds: int
    stop_error: float | None
    regularity: bool
    seed: int
    suite_epsilons: Mapping[str, tuple[float, ...]] = dataclasses.field(default_factory=dict)
    suite_scale: str = "small"
    budget_minutes: float | None = None

    def test_images(self, dataset: data.Dataset) -> data.Split:
        """Returns the images to attack.

        Raises:
            DataError: if the data set has no class of the name `image_class`.
        """
        test = dataset.test[self.image_numbers(dataset)]
        if len(test) < int(self.num_images or 0):
            log(f"{self.dataset} has {len(test)} such test images; all of them are attacked")
        return test

    def image_numbers(self, dataset: data.Dataset, skip: int = 1) -> np.ndarray:
        """Numbers of those images in the test set, or of every so many of them.

        Raises:
            DataError: as `test_images`.
        """
        numbers = np.arange(len(dataset.test))
        if self.image_class is not None:
            numbers = numbers[dataset.test.labels == dataset.class_index(self.image_class)]
        return numbers[::skip][: self.num_images]


@dataclasses.dataclass(frozen=True)
class CertificationSettings:
    """What a certification is told; each field is a flag. Defaults: Cohen et al. (2019).

    Attributes:
        n0: votes that choose the class of an image.
        n: votes that bound its probability.
        alpha: probability with which a certificate may fail.
        skip: only every n-th image is certified. Cohen et al.: every 20th of CIFAR-10.
        stddev: standard deviation of the noise on the pixels, or `None` for the network's own.

    Raises:
        ValueError: if one of them cannot be.
    """

    n0: int = option(100, rule=AT_LEAST_1, help="votes that choose the class of an image")
    n: int = option(
        100_000,
        rule=Rule(lambda x: x >= 2, "at least 2"),
        help="votes that bound its probability; two CPU cores manage 10000",
    )
    alpha: float = option(
        0.001, rule=PROBABILITY, help="chance that the certificate of an image is wrong"
    )
    skip: int = option(1, rule=AT_LEAST_1, help="certify only every n-th test image")
    stddev: float | None = option(
        None,
        flag="smoothing_noise",
        rule=POSITIVE,
        help="standard deviation of the noise on the pixels; default: that of the network's own",
    )

    def __post_init__(self) -> None:
        check_options(self)


@dataclasses.dataclass(frozen=True)
class SuiteSettings:
    """Which attacks a run has, and how many; each field is a flag.

    Attributes:
        suite: `"paper"`, those of `--attack`; `"adaptive"`, all that suit the defense, of which
            the worst counts for each image; `"full"`, both.
        scale: of the adaptive suite, see `evaluate_suite`.
        norms: of its distances. Those of `"linf"` are `--epsilon`.
        l2_epsilon: those of `"l2"`.
        budget_minutes: time for the attacks on one defense; see `evaluate_suite`.

    Raises:
        ValueError: if one of them cannot be, or there is no distance for a norm.
    """

    suite: str = option(
        "paper", choices=SUITES, help="--attack, or the worst of all that suit the defense, or both"
    )
    scale: str = option(
        "small", flag="suite_scale", choices=SCALES, help="adaptive suite: for two cores, or a GPU"
    )
    norms: tuple[str, ...] = option(
        ("linf",), choices=NORMS, help="adaptive suite: of its distances; --epsilon is linf"
    )
    l2_epsilon: tuple[float, ...] | None = option(
        None, rule=NOT_NEGATIVE, help="adaptive suite: L2 distances"
    )
    budget_minutes: float | None = option(
        None,
        rule=POSITIVE,
        help="adaptive suite: time for the attacks on a defense",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.l2_epsilon is None and "l2" in self.norms and self.suite != "paper":
            raise argument_error("SuiteSettings", "l2_epsilon", "given for --norms=l2", None)
        if self.l2_epsilon is not None and "l2" not in self.norms:
            expected = "left out but for --norms=l2 or linf,l2"
            raise argument_error("SuiteSettings", "l2_epsilon", expected, self.l2_epsilon)
        if self.budget_minutes is not None and self.suite == "paper":
            expected = "left out but for --suite=adaptive or full"
            raise argument_error("SuiteSettings", "budget_minutes", expected, self.budget_minutes)

    def epsilons(self, linf: tuple[float, ...]) -> dict[str, tuple[float, ...]]:
        """Returns the distances of the adaptive suite by norm; none without it.

        Args:
            linf: those of L-infinity.
        """
        every = {"linf": linf, "l2": self.l2_epsilon or ()}
        return {norm: every[norm] for norm in self.norms if self.suite != "paper"}

"""How the defenses of a run are attacked, scored and certified."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from rse_tf.utils.options import check_options, option
from rse_tf.utils.rules import AT_LEAST_1, POSITIVE, PROBABILITY, Rule


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

"""Attacks on any callable from images to logits. They know nothing of models or data."""

from __future__ import annotations

from rse_tf.attacks.apgd import APGD
from rse_tf.attacks.arc import ARC
from rse_tf.attacks.base import Attack, AttackResult
from rse_tf.attacks.bim import BIM
from rse_tf.attacks.carlini_wagner import CarliniWagnerL2
from rse_tf.attacks.cleverhans_attacks import CleverHansFGM, CleverHansMIM, CleverHansPGD
from rse_tf.attacks.ddn import DDN
from rse_tf.attacks.deepfool import DeepFool
from rse_tf.attacks.fgsm import FGSM
from rse_tf.attacks.fmn import FMN
from rse_tf.attacks.mim import MIM
from rse_tf.attacks.pgd import PGD
from rse_tf.attacks.rand_fgsm import RandFGSM
from rse_tf.attacks.square import Square
from rse_tf.attacks.zoo import ZOO

ATTACKS: dict[str, type[Attack]] = {
    "apgd": APGD,
    "arc": ARC,
    "bim": BIM,
    "carlini_wagner": CarliniWagnerL2,
    "cleverhans_fgm": CleverHansFGM,
    "cleverhans_mim": CleverHansMIM,
    "cleverhans_pgd": CleverHansPGD,
    "ddn": DDN,
    "deepfool": DeepFool,
    "fgsm": FGSM,
    "fmn": FMN,
    "mim": MIM,
    "pgd": PGD,
    "rand_fgsm": RandFGSM,
    "square": Square,
    "zoo": ZOO,
}

__all__ = [
    "ATTACKS",
    "AttackResult",
    *(attack.__name__ for attack in ATTACKS.values()),
]

"""Attacks on any callable from images to logits. They know nothing of models or data."""

from __future__ import annotations

from rse_tf.attacks.attack import Attack, AttackResult
from rse_tf.attacks.bim import BIM
from rse_tf.attacks.carlini_wagner import CarliniWagnerL2
from rse_tf.attacks.cleverhans_attacks import CleverHansFGM, CleverHansMIM, CleverHansPGD
from rse_tf.attacks.fgsm import FGSM

ATTACKS: dict[str, type[Attack]] = {
    "bim": BIM,
    "carlini_wagner": CarliniWagnerL2,
    "cleverhans_fgm": CleverHansFGM,
    "cleverhans_mim": CleverHansMIM,
    "cleverhans_pgd": CleverHansPGD,
    "fgsm": FGSM,
}

__all__ = ["ATTACKS", "AttackResult", *(attack.__name__ for attack in ATTACKS.values())]

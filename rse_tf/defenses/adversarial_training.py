"""Adversarial training by FGSM.

Reference: Goodfellow, Shlens and Szegedy (2014), arXiv:1412.6572, section 6, as Strauss et al.
(2017), section 4.3, compare with it.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import keras
import tensorflow as tf

from rse_tf.attacks.fgsm import fast_gradient_sign
from rse_tf.defenses.base import ObjectiveDefense, training_epsilon_option
from rse_tf.training import Objective
from rse_tf.utils.options import option
from rse_tf.utils.rules import SHARE


@dataclasses.dataclass(frozen=True)
class AdversarialTraining(Objective):
    """`rho J(x) + (1 - rho) J(x_FGSM)`, J being the cross-entropy.

    Attributes:
        epsilon: L-infinity distance of the FGSM images, in pixel units.
        rho: weight of the clean loss.
    """

    epsilon: float
    rho: float

    save_best_only: ClassVar[bool] = False
    revision: ClassVar[int] = 1  # FGSM by the log odds
    passes: ClassVar[float] = 9

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        adversarial = fgsm_images(model, images, labels, self.epsilon)
        clean_loss, adversarial_loss = (
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(x, training=True))
            for x in (images, adversarial)
        )
        return self.rho * clean_loss + (1 - self.rho) * adversarial_loss


def fgsm_images(
    model: keras.Model, images: tf.Tensor, labels: tf.Tensor, epsilon: float | tf.Tensor
) -> tf.Tensor:
    """Returns the FGSM images against a network in training.

    The network is attacked as it would be used, in inference mode: so batch normalisation does
    not count the attack's passes among its training images.
    """
    return fast_gradient_sign(lambda x: model(x, training=False), images, labels, epsilon)


@dataclasses.dataclass(frozen=True)
class FGSMTraining(ObjectiveDefense):
    """The network trained on clean and FGSM images alike.

    Attributes:
        training_epsilon: L-infinity distance of the FGSM images, in pixel units. Strauss et al.:
            that of their FGSM, 0.3 on MNIST and 0.03 on CIFAR-10. Default 0.03.
        rho: weight of the clean loss. Default 1/2 (Strauss et al.).
    """

    training_epsilon: float = training_epsilon_option()
    rho: float = option(0.5, rule=SHARE, help="weight of the clean loss")

    def objective(self) -> Objective:
        return AdversarialTraining(self.training_epsilon, self.rho)

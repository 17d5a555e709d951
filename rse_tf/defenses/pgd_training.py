"""Adversarial training by PGD.

Reference: Madry et al. (2017), arXiv:1706.06083, and the settings that they published with their
MNIST and CIFAR-10 challenges.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import keras
import tensorflow as tf

from rse_tf.attacks.pgd import projected_gradient_sign
from rse_tf.defenses.base import ObjectiveDefense, training_epsilon_option
from rse_tf.training import Objective
from rse_tf.utils.options import option
from rse_tf.utils.rules import AT_LEAST_1, POSITIVE


@dataclasses.dataclass(frozen=True)
class WorstCase(Objective):
    """Cross-entropy of PGD images, each from a random start; no clean image counts.

    The network is attacked as it would be used, in inference mode, like for `adversarial_training`:
    so batch normalisation counts none of the attack's passes, and an image is attacked whatever its
    batch is. (The published code of Madry et al. and of Wong et al. attacks in training mode.) The
    noise of RSE is there in either mode, and anew at each step.

    Attributes:
        epsilon: L-infinity distance of the images, in pixel units.
        step_size: length of a step.
        steps: number of steps.
    """

    epsilon: float
    step_size: float
    steps: int

    save_best_only: ClassVar[bool] = False

    def losses(
        self, model: keras.Model, images: tf.Tensor, labels: tf.Tensor, key: tf.Tensor
    ) -> tf.Tensor:
        adversarial = projected_gradient_sign(
            lambda x: model(x, training=False),
            images,
            labels,
            self.epsilon,
            self.step_size,
            self.steps,
            seed=tf.bitcast(key, tf.int64),
        )
        logits = model(adversarial, training=True)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)


@dataclasses.dataclass(frozen=True)
class PGDTraining(ObjectiveDefense):
    """The network trained on PGD images alone.

    Attributes:
        training_epsilon: L-infinity distance of the images, in pixel units. Default 0.3 on MNIST,
            as published, and 0.03 elsewhere, the distance of `adversarial_training`; Madry et al.
            use 8/255 = 0.031 on CIFAR-10.
        training_steps: number of steps. Default 40 on MNIST and 10 elsewhere, as published for
            CIFAR-10.
        training_step_size: length of a step, in pixel units. Default 0.01 on MNIST, as
            published, and elsewhere a quarter of the distance: 2/255 of 8/255 there.
    """

    training_epsilon: float = training_epsilon_option()
    training_steps: int = option(
        10, by_dataset="training_steps", rule=AT_LEAST_1, help="steps of the attack in training"
    )
    training_step_size: float | None = option(
        None,
        by_dataset="training_step_size",
        rule=POSITIVE,
        is_length=True,
        help="length of a step; default training_epsilon / 4",
    )

    def objective(self) -> Objective:
        return WorstCase(self.training_epsilon, self._step_size, self.training_steps)

    def settings(self) -> dict[str, Any]:
        return super().settings() | {"training_step_size": self._step_size}

    @property
    def _step_size(self) -> float:
        own = self.training_step_size
        return self.training_epsilon / 4 if own is None else own

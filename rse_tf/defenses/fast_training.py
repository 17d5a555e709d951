"""Adversarial training by one step from a random start.

Reference: Wong, Rice and Kolter (2020), arXiv:2001.03994, and the code that they published.
"""

from __future__ import annotations

import dataclasses

from rse_tf.defenses.base import ObjectiveDefense, training_epsilon_option
from rse_tf.defenses.pgd_training import WorstCase
from rse_tf.training import Objective

# Of the distance: 10/255 for 8/255 in the published code. A longer step ends at the corners of
# the ball, and the network may then learn to withstand nothing else.
_STEP = 1.25


@dataclasses.dataclass(frozen=True)
class FastTraining(ObjectiveDefense):
    """The network trained on FGSM images alone, each from a random start.

    The start is uniform in the ball, the step is 1.25 times its radius, and what leaves the ball
    goes back into it. An epoch takes about twice the time of one without defense.

    Attributes:
        training_epsilon: L-infinity distance of the images, in pixel units. Default 0.3 on MNIST
            and 0.03 elsewhere, the distances of `adversarial_training`; Wong et al. use 8/255 =
            0.031 on CIFAR-10.
    """

    training_epsilon: float = training_epsilon_option()

    def objective(self) -> Objective:
        return WorstCase(self.training_epsilon, _STEP * self.training_epsilon, steps=1)

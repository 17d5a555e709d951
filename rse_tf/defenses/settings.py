"""What the defenses can be set to."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class DefenseSettings:
    """Settings of all defenses; each reads its own.

    Attributes:
        temperature: of defensive distillation. 40 in Liu et al. (2018), Table 1; 10 in Strauss
            et al. (2017), section 4.3.
        training_epsilon: L-infinity distance of the FGSM images of adversarial training, in
            pixel units. Strauss et al.: that of their FGSM, 0.3 on MNIST and 0.03 on CIFAR-10.
        rho: weight of the clean loss in adversarial training. Default 1/2 (Strauss et al.).
        retraining_epsilon: smallest and largest L-infinity distance of the FGSM batches of
            adversarial retraining. Default 0.1 and 0.3 (the published scripts of Liu et al.).
        retraining_epochs: epochs of adversarial retraining, after those of the plain network.
            Liu et al.: 300 after 200.
        image_noise: standard deviation of the noise on the training images of robust
            optimisation, in pixel units. Default 0.05 (Liu et al., after Zantedeschi et al.).
        members: networks in an ensemble. Default 10 (Strauss et al.).
        member_noise: standard deviation of the noise added once to the training images of each
            member of `ensemble_gauss_noise`, in pixel units. Strauss et al. say "small".
    """

    temperature: float = 40.0
    training_epsilon: float = 0.03
    rho: float = 0.5
    retraining_epsilon: tuple[float, float] = (0.1, 0.3)
    retraining_epochs: int = 300
    image_noise: float = 0.05
    members: int = 10
    member_noise: float = 0.1

    def of(self, defense: str) -> dict[str, Any]:
        """The settings that a defense reads, by name, but for the number of members.

        Args:
            defense: its name, such as `"ensemble_bagging+distillation"`.
        """
        names = [name for part in defense.split("+") for name in _READS.get(part, ())]
        return {name: getattr(self, name) for name in names}


_READS = {
    "adversarial_retraining": ("retraining_epsilon", "retraining_epochs"),
    "adversarial_training": ("training_epsilon", "rho"),
    "distillation": ("temperature",),
    "ensemble_gauss_noise": ("member_noise",),
    "robust_opt_brelu": ("image_noise",),
}

"""Other libraries' attacks, each as a function from images and labels to adversarial images.

Nothing is imported before it is asked for. All run on Keras 3 and TensorFlow 2.21, but for
CleverHans' C&W attack, which calls the list `optimizer.variables` of Keras 3 and raises a
TypeError; it is not here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

PeerAttack = Callable[[np.ndarray, np.ndarray], np.ndarray]

_FOOLBOX_NAMES = {
    "bim": "LinfBasicIterativeAttack",
    "pgd": "LinfProjectedGradientDescentAttack",
    "mim": "LinfMomentumIterativeFastGradientMethod",
}


def foolbox_linf(model: Any, name: str, epsilon: float, step_size: float, steps: int) -> PeerAttack:
    """BIM, PGD or MIM of Foolbox."""
    import foolbox

    attack = getattr(foolbox.attacks, _FOOLBOX_NAMES[name])(abs_stepsize=step_size, steps=steps)
    return _foolbox(foolbox, model, attack, epsilon)


def foolbox_carlini_wagner(
    model: Any, steps: int, binary_search_steps: int, learning_rate: float, initial_const: float
) -> PeerAttack:
    """The C&W attack of Foolbox."""
    import foolbox

    attack = foolbox.attacks.L2CarliniWagnerAttack(
        binary_search_steps=binary_search_steps,
        steps=steps,
        stepsize=learning_rate,
        confidence=0,
        initial_const=initial_const,
    )
    return _foolbox(foolbox, model, attack, None)


_FOOLBOX_MINIMAL = {
    ("DDN", "l2"): "DDNAttack",
    ("FMN", "l2"): "L2FMNAttack",
    ("FMN", "linf"): "LInfFMNAttack",
}


def foolbox_minimal(model: Any, kind: str, norm: str, steps: int) -> PeerAttack:
    """DDN or FMN of Foolbox. Its FMN for L2 does not project: it divides the norm by itself."""
    import foolbox

    attack = getattr(foolbox.attacks, _FOOLBOX_MINIMAL[kind, norm])(steps=steps)
    return _foolbox(foolbox, model, attack, None)


def _foolbox(foolbox: Any, model: Any, attack: Any, epsilon: float | None) -> PeerAttack:
    wrapped = foolbox.TensorFlowModel(lambda x: model(x, training=False), bounds=(0, 1))

    def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        x, y = tf.constant(images), tf.constant(labels)
        adversarial = attack(wrapped, x, y, epsilons=epsilon)[1].numpy()
        # C&W returns a black image where it found nothing, which may well be misclassified:
        # neither its success nor its distance is to be held for or against it.
        black = ~adversarial.reshape(len(images), -1).any(axis=1)
        adversarial[black] = images[black]
        return adversarial

    return run


def cleverhans_linf(
    model: Any, name: str, epsilon: float, step_size: float, steps: int
) -> PeerAttack:
    """BIM, PGD or MIM of CleverHans."""
    from cleverhans.tf2.attacks.momentum_iterative_method import momentum_iterative_method
    from cleverhans.tf2.attacks.projected_gradient_descent import projected_gradient_descent

    def run(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        method, settings = momentum_iterative_method, {}
        if name != "mim":
            method, settings = projected_gradient_descent, {"rand_init": name == "pgd"}
        common = {"norm": np.inf, "clip_min": 0.0, "clip_max": 1.0, **settings}
        x = tf.constant(images)
        return method(model, x, epsilon, step_size, steps, y=labels, **common).numpy()

    return run


def art_carlini_wagner(
    model: Any, steps: int, binary_search_steps: int, learning_rate: float, initial_const: float
) -> PeerAttack:
    """The C&W attack of the Adversarial Robustness Toolbox."""
    classifier = _classifier(model)
    from art.attacks.evasion import CarliniL2Method

    attack = CarliniL2Method(
        classifier,
        confidence=0.0,
        learning_rate=learning_rate,
        binary_search_steps=binary_search_steps,
        max_iter=steps,
        initial_const=initial_const,
        batch_size=128,
        verbose=False,
    )
    return lambda images, labels: attack.generate(images, labels)


def art_deep_fool(model: Any, steps: int) -> PeerAttack:
    """DeepFool of the Adversarial Robustness Toolbox, with the gradients of all classes."""
    classifier = _classifier(model)
    from art.attacks.evasion import DeepFool

    classes = model.output_shape[-1]
    attack = DeepFool(classifier, max_iter=steps, nb_grads=classes, batch_size=128, verbose=False)
    return lambda images, labels: attack.generate(images)


class ArtZoo:
    """ZOO of the Adversarial Robustness Toolbox, one image at a time, counting its queries.

    Attributes:
        queries: images that the network was asked about in the last run.
    """

    def __init__(self, model: Any, steps: int, coordinates: int, const: float) -> None:
        classifier = _new_classifier(model)
        from art.attacks.evasion import ZooAttack

        self.queries = 0
        predict = classifier.predict

        def counting(x: np.ndarray, *args: Any, **kwargs: Any) -> np.ndarray:
            self.queries += len(x)
            return predict(x, *args, **kwargs)

        classifier.predict = counting
        self._attack = ZooAttack(
            classifier,
            learning_rate=1e-2,
            max_iter=steps,
            binary_search_steps=1,
            initial_const=const,
            abort_early=False,
            use_resize=False,
            use_importance=False,
            nb_parallel=coordinates,
            verbose=False,
        )

    def __call__(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        self.queries = 0
        return self._attack.generate(images, labels)


def _new_classifier(model: Any) -> Any:
    from art.estimators.classification import TensorFlowV2Classifier

    shape, classes = model.input_shape[1:], model.output_shape[-1]
    return TensorFlowV2Classifier(model, classes, shape, clip_values=(0.0, 1.0))


# It compiles anew for every classifier: the warm-up and the race share one.
_classifier = functools.cache(_new_classifier)

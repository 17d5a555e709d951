"""Closed forms of the attacks on linear logits, and the bookkeeping all attacks share.

On logits Z = xW + b the gradient of the cross-entropy points along w_other - w_label, so every
attack's result is known in advance.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from rse_tf.attacks import (
    APGD,
    ARC,
    ATTACKS,
    BIM,
    DDN,
    FGSM,
    FMN,
    MIM,
    PGD,
    ZOO,
    CarliniWagnerL2,
    CleverHansFGM,
    CleverHansMIM,
    CleverHansPGD,
    DeepFool,
    RandFGSM,
    Square,
)

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
TWO = RNG.normal(size=(16, 2)).astype(np.float32)
THREE = RNG.normal(size=(16, 3)).astype(np.float32)
IMAGES = RNG.uniform(0.35, 0.65, size=(12, *SHAPE)).astype(np.float32)


def linear(weights: np.ndarray) -> Any:
    """Logits that vanish at the grey image."""
    return lambda x: tf.matmul(tf.reshape(x, [-1, 16]) - 0.5, weights)


def predictions(model: Any, images: np.ndarray) -> np.ndarray:
    return np.argmax(model(images), axis=1)


MODEL2, MODEL3 = linear(TWO), linear(THREE)
LABELS2, LABELS3 = predictions(MODEL2, IMAGES), predictions(MODEL3, IMAGES)

# One cheap example of every registered attack, for the rules that hold for all of them.
EXAMPLES = {
    "apgd": APGD(MODEL3, epsilon=0.1, steps=5),
    "arc": ARC(MODEL3, epsilon=0.1, step_size=0.05, steps=3),
    "bim": BIM(MODEL3, epsilon=0.1, step_size=0.03, steps=5),
    "carlini_wagner": CarliniWagnerL2(MODEL3, const=1.0, steps=30, learning_rate=0.02),
    "cleverhans_fgm": CleverHansFGM(MODEL3, epsilon=0.1),
    "cleverhans_mim": CleverHansMIM(MODEL3, epsilon=0.1, step_size=0.03, steps=5),
    "cleverhans_pgd": CleverHansPGD(MODEL3, epsilon=0.1, step_size=0.03, steps=5),
    "ddn": DDN(MODEL3, steps=30),
    "deepfool": DeepFool(MODEL3),
    "fgsm": FGSM(MODEL3, epsilon=0.1),
    "fmn": FMN(MODEL3, steps=30),
    "mim": MIM(MODEL3, epsilon=0.1, step_size=0.03, steps=5),
    "pgd": PGD(MODEL3, epsilon=0.1, step_size=0.03, steps=5),
    "rand_fgsm": RandFGSM(MODEL3, epsilon=0.1),
    "square": Square(MODEL3, epsilon=0.1, steps=30),
    "zoo": ZOO(MODEL3, const=1.0, steps=30, learning_rate=0.02, coordinates=16, h=0.01),
}
every_attack = pytest.mark.parametrize("name", sorted(ATTACKS))


def test_there_is_an_example_of_every_attack() -> None:
    assert EXAMPLES.keys() == ATTACKS.keys()
    assert all(type(EXAMPLES[name]) is ATTACKS[name] for name in ATTACKS)


@pytest.mark.parametrize("targeted", [False, True])
def test_fgsm_moves_every_pixel_by_epsilon_towards_the_other_class(targeted: bool) -> None:
    other = 1 - LABELS2
    result = FGSM(MODEL2, epsilon=0.05)(IMAGES, LABELS2, other if targeted else None)
    step = np.sign(TWO.T[other] - TWO.T[LABELS2]).reshape(IMAGES.shape)
    np.testing.assert_allclose(result.adversarial, IMAGES + 0.05 * step, atol=1e-6)
    # All 16 pixels move by 0.05: an L2 distance of 0.05 * 4.
    np.testing.assert_allclose(result.distortion, 0.2, rtol=1e-5)


@pytest.mark.parametrize("step_size, steps, moved", [(0.01, 3, 0.03), (0.02, 8, 0.05)])
def test_bim_moves_by_the_smaller_of_all_its_steps_and_epsilon(
    step_size: float, steps: int, moved: float
) -> None:
    attack = BIM(MODEL2, epsilon=0.05, step_size=step_size, steps=steps)
    step = np.sign(TWO.T[1 - LABELS2] - TWO.T[LABELS2]).reshape(IMAGES.shape)
    result = attack(IMAGES, LABELS2)
    np.testing.assert_allclose(result.adversarial, IMAGES + moved * step, atol=1e-6)
    targeted = attack(IMAGES, LABELS2, 1 - LABELS2)
    np.testing.assert_allclose(targeted.adversarial, result.adversarial, atol=1e-6)


def test_fgsm_agrees_with_cleverhans() -> None:
    ours = FGSM(MODEL3, epsilon=0.3)(IMAGES, LABELS3)
    theirs = CleverHansFGM(MODEL3, epsilon=0.3)(IMAGES, LABELS3)
    np.testing.assert_allclose(ours.adversarial, theirs.adversarial, atol=1e-5)


@pytest.mark.parametrize("targeted", [False, True])
def test_bim_agrees_with_the_pgd_of_cleverhans_on_a_network(targeted: bool) -> None:
    # A small smooth network: gradients differ from step to step.
    hidden = RNG.normal(size=(16, 8)).astype(np.float32)
    last = RNG.normal(size=(8, 3)).astype(np.float32)

    def network(x: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.tanh(tf.matmul(tf.reshape(x, [-1, 16]), hidden)), last)

    labels = predictions(network, IMAGES)
    targets = (labels + 1) % 3 if targeted else None
    settings: dict[str, Any] = {"epsilon": 0.2, "step_size": 0.03, "steps": 10}
    ours = BIM(network, **settings)(IMAGES, labels, targets)
    theirs = CleverHansPGD(network, **settings)(IMAGES, labels, targets)
    np.testing.assert_allclose(ours.adversarial, theirs.adversarial, atol=1e-5)
    assert np.any(
        ours.adversarial
        != BIM(network, **{**settings, "steps": 9})(IMAGES, labels, targets).adversarial
    )


@every_attack
def test_nothing_leaves_the_bounds_or_the_ball(name: str) -> None:
    images = RNG.choice([0.0, 0.02, 0.5, 0.98, 1.0], size=IMAGES.shape).astype(np.float32)
    attack = EXAMPLES[name]
    result = attack(images, predictions(MODEL3, images))
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    if hasattr(attack, "epsilon"):
        # One rounding of float32 on top: x + epsilon is not always a float.
        assert np.abs(result.adversarial - images).max() <= attack.epsilon + 1e-7


@every_attack
def test_other_bounds_scale_the_attack(name: str) -> None:
    # The same picture in [-3, 5]: everything measured in pixels is eight times larger.
    attack = EXAMPLES[name]
    scaled = dataclasses.replace(attack, model=lambda x: MODEL3((x + 3) / 8), bounds=(-3.0, 5.0))
    for field in ("epsilon", "step_size"):
        if hasattr(attack, field):
            scaled = dataclasses.replace(scaled, **{field: 8 * getattr(attack, field)})
    if name in ("carlini_wagner", "zoo"):  # the squared distance is 64 times larger
        scaled = dataclasses.replace(scaled, const=64.0)
    if name == "zoo":
        scaled = dataclasses.replace(scaled, learning_rate=0.16, h=0.08)
    expected = attack(IMAGES, LABELS3)
    result = scaled(8 * IMAGES - 3, LABELS3)
    np.testing.assert_allclose((result.adversarial + 3) / 8, expected.adversarial, atol=1e-4)
    np.testing.assert_allclose(result.distortion / 8, expected.distortion, atol=1e-3)


@every_attack
def test_a_result_does_not_depend_on_batch_mates_or_batch_size(name: str) -> None:
    attack = EXAMPLES[name]
    together = attack(IMAGES, LABELS3)
    for other in (
        dataclasses.replace(attack, batch_size=5)(IMAGES, LABELS3),
        attack(IMAGES[::-1], LABELS3[::-1]),
    ):
        adversarial = other.adversarial
        if not np.allclose(adversarial[0], together.adversarial[0], atol=1e-6):
            adversarial = adversarial[::-1]
        np.testing.assert_allclose(adversarial, together.adversarial, atol=1e-6)
    alone = attack(IMAGES[7:8], LABELS3[7:8])
    np.testing.assert_allclose(alone.adversarial[0], together.adversarial[7], atol=1e-6)
    assert alone.iterations[0] == together.iterations[7]


@every_attack
def test_success_and_distortion_are_those_of_the_returned_images(name: str) -> None:
    result = EXAMPLES[name](IMAGES, LABELS3)
    np.testing.assert_array_equal(
        result.success, predictions(MODEL3, result.adversarial) != LABELS3
    )
    l2 = np.sqrt(((result.adversarial - IMAGES) ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(result.distortion, l2, rtol=1e-4, atol=1e-6)
    # DeepFool has to look where its last step led before it knows that it may stop, and ARC and the
    # Square Attack where they start.
    looks = 2 if name in ("arc", "deepfool", "square") else 1
    # The last step of these two is followed by a look, and by ten along a line.
    looks = 12 if name in ("ddn", "fmn") else looks
    # Both sides of every pixel, and the image itself; or the step, and what it comes to.
    each = {"zoo": 2 * 16 + 1, "arc": 2}.get(name, 1)
    assert (result.queries == result.iterations * each + looks).all()


@every_attack
def test_one_hot_labels_are_the_same_as_integers(name: str) -> None:
    one_hot = np.eye(3, dtype=np.float32)[LABELS3]
    untargeted = not ATTACKS[name].has_targets
    targets = None if untargeted else (LABELS3 + 1) % 3
    by_integer = EXAMPLES[name](IMAGES, LABELS3, targets)
    targets = None if untargeted else np.roll(one_hot, 1, axis=1)
    by_one_hot = EXAMPLES[name](IMAGES, one_hot, targets)
    np.testing.assert_array_equal(by_one_hot.adversarial, by_integer.adversarial)


@pytest.mark.parametrize("name", sorted(n for n in ATTACKS if not n.startswith("cleverhans")))
def test_batch_sizes_and_strengths_share_one_trace(name: str) -> None:
    traces = []

    def counted(x: tf.Tensor) -> tf.Tensor:
        traces.append(not tf.executing_eagerly())
        return MODEL3(x)

    attack = dataclasses.replace(EXAMPLES[name], model=counted, _graphs={})
    strengths = {
        "carlini_wagner": "const",
        "ddn": "relative_step",
        "deepfool": "overshoot",
        "fmn": "relative_step",
        "zoo": "const",
    }
    strength = strengths.get(name, "epsilon")
    attack(IMAGES, LABELS3)
    first = sum(traces)
    for value, count in ((0.05, 12), (3, 7), (0.2, 1)):
        changes = {strength: value}
        if hasattr(attack, "steps"):
            changes["steps"] = 2 + count
        if hasattr(attack, "seed"):
            changes["seed"] = count
        dataclasses.replace(attack, **changes)(IMAGES[:count], LABELS3[:count])
    assert sum(traces) == first


@tf.custom_gradient
def foreign(x: tf.Tensor) -> Any:
    """`MODEL3` by NumPy: TensorFlow knows neither its gradient nor the shape of its logits."""
    weights = THREE

    def logits(pixels: np.ndarray) -> np.ndarray:
        return (pixels.reshape(-1, 16) - np.float32(0.5)) @ weights

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        flat = tf.numpy_function(lambda u: u @ weights.T, [upstream], tf.float32)
        return tf.reshape(flat, [-1, *SHAPE])

    return tf.numpy_function(logits, [x], tf.float32), gradient


@every_attack
def test_a_model_of_another_program_is_attacked_like_ours(name: str) -> None:
    attack = dataclasses.replace(EXAMPLES[name], model=foreign, _graphs={})
    ours, theirs = EXAMPLES[name](IMAGES, LABELS3), attack(IMAGES, LABELS3)
    np.testing.assert_allclose(theirs.adversarial, ours.adversarial, atol=1e-4)
    np.testing.assert_array_equal(theirs.success, ours.success)

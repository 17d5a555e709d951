"""Every attack is the same attack at any pixel bounds: real digits, most pixels at a bound."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from victims import TEST_DIGITS, digit_network

from rse_tf.attacks import ATTACKS, BIM, FGSM, PGD, ZOO, CarliniWagnerL2

IMAGES, LABELS = (part[:6] for part in TEST_DIGITS)
LENGTHS = ("epsilon", "step_size")

# What the attacks cannot do without, or what makes them short; all lengths are their defaults.
ITERATIVE: dict[str, Any] = {"epsilon": 0.1, "step_size": 0.02, "steps": 5}
ZOO_AT: dict[str, Any] = {"const": 100.0, "steps": 10, "coordinates": 48, "iterate": "last"}
# Its second differences are mostly rounding where the hinge weighs more.
NEWTON_AT = {**ZOO_AT, "solver": "newton", "const": 1.0}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("apgd", {"epsilon": 0.1, "steps": 5}),
    ("apgd", {"epsilon": 1.0, "steps": 10, "norm": "l2", "loss": "dlr_targeted"}),
    ("arc", {"epsilon": 0.1, "steps": 3}),
    ("arc", {"epsilon": 1.0, "steps": 3, "norm": "l2"}),
    ("bim", ITERATIVE),
    ("carlini_wagner", {"const": 10.0, "steps": 40}),
    ("carlini_wagner", {"learning_rate": 0.1, "steps": 25, "binary_search_steps": 3}),
    ("cleverhans_fgm", {"epsilon": 0.1}),
    ("cleverhans_mim", ITERATIVE),
    ("cleverhans_pgd", ITERATIVE),
    ("ddn", {"steps": 20}),
    ("deepfool", {}),
    ("fgsm", {"epsilon": 0.1}),
    ("fmn", {"steps": 20}),
    ("fmn", {"steps": 20, "norm": "l2"}),
    ("mim", ITERATIVE),
    ("pgd", ITERATIVE),
    ("pgd", {"epsilon": 1.0, "step_size": 0.3, "steps": 5, "norm": "l2", "restarts": 2}),
    ("rand_fgsm", {"epsilon": 0.1}),
    ("square", {"epsilon": 0.1, "steps": 20}),
    ("square", {"epsilon": 1.0, "steps": 20, "norm": "l2"}),
    ("zoo", ZOO_AT),
    ("zoo", {**ZOO_AT, "tanh_space": True}),
    ("zoo", NEWTON_AT),
    ("zoo", {**NEWTON_AT, "tanh_space": True}),
    ("zoo", {"steps": 20, "coordinates": 64, "binary_search_steps": 4, "abort_early": False}),
]


def attack_at(bounds: tuple[float, float], name: str, settings: dict[str, Any]) -> Any:
    """What an attack finds within bounds, its images back in [0, 1]."""
    low, span = bounds[0], bounds[1] - bounds[0]
    network = digit_network()
    units = {**dict.fromkeys(LENGTHS, span), "const": span**2}
    settings = {
        key: value * units[key] if key in units else value for key, value in settings.items()
    }
    attack = ATTACKS[name](lambda x: network((x - low) / span), bounds=bounds, **settings)
    result = attack(low + span * IMAGES, LABELS)
    return result._replace(
        adversarial=(result.adversarial - low) / span, distortion=result.distortion / span
    )


def test_every_attack_has_a_case() -> None:
    assert {name for name, _ in CASES} == ATTACKS.keys()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name, settings", CASES)
def test_it_is_the_same_attack_at_any_bounds(name: str, settings: dict[str, Any]) -> None:
    expected = attack_at((0.0, 1.0), name, settings)
    assert expected.distortion.max() > 1e-3
    # A factor of 256 rounds nothing.
    exact = attack_at((0.0, 256.0), name, settings)
    np.testing.assert_allclose(exact.adversarial, expected.adversarial, atol=1e-6)
    for bounds in ((-1.0, 1.0), (0.0, 255.0)):
        result = attack_at(bounds, name, settings)
        np.testing.assert_array_equal(result.success, expected.success)
        np.testing.assert_array_equal(result.iterations, expected.iterations)
        # Rounding turns a sign where a gradient is all but 0: in single images, not in half.
        away = np.abs(result.distortion - expected.distortion)
        assert np.median(away / expected.distortion.mean()) < 0.02


def model(x: Any) -> tf.Tensor:
    return tf.reshape(x, [-1, 784])[:, :3]


@pytest.mark.parametrize("attack", [CarliniWagnerL2, ZOO])
def test_a_const_for_unit_pixels_is_warned_of_on_wide_ones(attack: Any) -> None:
    with pytest.warns(UserWarning, match=r"const=10.0 .*\(0.0, 255.0\).*multiply it by 65025"):
        attack(model, const=10, bounds=(0, 255))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "const, bounds",
    [
        (700, (0, 255)),
        (0, (0, 255)),
        (None, (0, 255)),
        (1e-3, (-1, 1)),
        (1e-3, (0, 1)),
    ],
)
def test_no_other_const_is_warned_of(const: float | None, bounds: tuple[float, float]) -> None:
    CarliniWagnerL2(model, const=const, bounds=bounds)


@pytest.mark.parametrize("attack", [CarliniWagnerL2, ZOO])
@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"const": 1.0, "binary_search_steps": 5},
            "binary_search_steps must be None beside const=1",
        ),
        ({"const": 1.0, "initial_const": 0.1}, "initial_const must be None beside const=1"),
        ({"iterate": "last"}, "iterate must be None without const"),
    ],
)
def test_a_fixed_c_and_the_search_for_one_are_not_mixed(
    attack: Any, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message + ".*Received"):
        attack(model, **settings)


# The spacing of float32 below 256 is 1.5e-5.
@pytest.mark.parametrize(
    "attack, settings, name",
    [
        (BIM, {"epsilon": 8.0, "step_size": 1e-6}, "step_size"),
        (FGSM, {"epsilon": 1e-6}, "epsilon"),
        (ZOO, {"h": 1e-5}, "h"),
    ],
)
def test_steps_that_pixels_cannot_show_are_refused(
    attack: Any, settings: dict[str, Any], name: str
) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1.52.*e-05.*Received"):
        attack(model, bounds=(0, 255), **settings)


@pytest.mark.parametrize("step_size", [0.3, 1.5])
def test_pgd_in_l2_goes_to_the_edge_of_its_ball(step_size: float) -> None:
    # Four of five pixels are at a bound, and part of each step would lead beyond it.
    attack = PGD(digit_network(), epsilon=1.5, step_size=step_size, steps=20, norm="l2")
    result = attack(IMAGES, LABELS)
    np.testing.assert_allclose(result.distortion, 1.5, rtol=1e-4)


def test_pgd_does_not_take_the_luck_of_one_draw_for_success() -> None:
    # The draw decides on the class, the images on the loss alone.
    draws = tf.random.Generator.from_seed(1)

    def coin(x: tf.Tensor) -> tf.Tensor:
        toss = draws.normal([tf.shape(x)[0]]) * 0.1
        bright = tf.reduce_mean(x, axis=[1, 2, 3])
        return tf.stack([toss - bright, bright - toss], axis=1)

    images = np.full((40, 4, 4, 1), 0.0, np.float32)
    images[:, 0, 0, 0] = np.linspace(0, 1, 40)
    labels = np.zeros(40, int)
    attack = PGD(coin, epsilon=0.01, step_size=0.005, steps=2, restarts=4)
    once = dataclasses.replace(attack, restarts=1)(images, labels)
    assert 5 < once.success.sum() < 35
    result = attack(images, labels)
    assert (result.iterations == 4 * 2).all() and (result.queries == 4 * 3 + 1).all()
    steady = dataclasses.replace(attack, model=lambda x: 100 * model(x)[:, :2], _graphs={})
    assert (steady(IMAGES, np.zeros(6, int)).iterations <= 8).all()

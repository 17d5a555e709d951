"""Flags to a Config and back, and what a Config fills in."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from rse_tf import flags
from rse_tf.config import Config
from rse_tf.data import DATASETS


def parse(*arguments: str) -> Config:
    return flags.parse(["program", *arguments], "A program.")


# Flags to Config and back.


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ("--const=0.1,1", "const", (0.1, 1.0)),
        ("--defense=rse", "defense", ("rse",)),
        (
            "--defense=rse,ensemble_mixed+distillation",
            "defense",
            ("rse", "ensemble_mixed+distillation"),
        ),
        ("--attack=fgsm,bim", "attack", ("fgsm", "bim")),
        ("--attack=none --const=1", "const", (1.0,)),  # lies idle
        ("--num_draws=1,5", "num_draws", (1, 5)),
        ("--attack=zoo --resize=8,16", "resize", (8, 16)),
        ("--gradient=member,mean_loss", "gradient", ("member", "mean_loss")),
        ("--retraining_epsilon=0.1,0.2", "retraining_epsilon", (0.1, 0.2)),
        ("--retraining_epsilon=0.2,0.2", "retraining_epsilon", (0.2, 0.2)),
        ("--validation_fraction=0", "validation_fraction", 0.0),
        ("--attack=pgd --epsilon=8/255", "epsilon", (8 / 255,)),
        ("--attack=pgd --epsilon=2/255,4/255,0.5", "epsilon", (2 / 255, 4 / 255, 0.5)),
        ("--attack=pgd --epsilon=8/255 --step_size=2/255", "step_size", 2 / 255),
        ("--attack=pgd --norm=l2 --epsilon=1.5", "epsilon", (1.5,)),
        ("--retraining_epsilon=8/255,16/255", "retraining_epsilon", (8 / 255, 16 / 255)),
        ("--weight_decay=1/2000", "weight_decay", 1 / 2000),
        ("--const=1/3,1e-3/2", "const", (1 / 3, 0.0005)),
        ("--image_class=8 --target_class=3,9", "target_class", ("3", "9")),
        ("--binary_search", "binary_search", True),
        ("--nobinary_search", "binary_search", False),
        ("--targeted=true", "targeted", True),
        ("--epochs=3 --epochs=4", "epochs", 4),
        ("--learning_rate 0.5", "learning_rate", 0.5),
        ("--weight_decay=1e-3", "weight_decay", 1e-3),
        ("--init_noise=0", "init_noise", 0.0),
        ("--activation=leaky_relu", "activation", "leaky_relu"),
        ("--dataset=cifar10 --image_size=64", "image_size", 64),
    ],
)
def test_a_flag_sets_the_field_of_its_name(flags: str, field: str, value: object) -> None:
    found = getattr(parse(*flags.split()), field)
    assert found == value and type(found) is type(value)


def test_no_flags_give_the_default_config() -> None:
    assert parse() == Config()


def test_a_flag_file_may_hold_comments_and_files_and_later_flags_win(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "base.flags").write_text("# comment\n\n--epochs=1\n--seed=1\n--num_draws=7\n")
    (tmp_path / "row.flags").write_text("--flagfile=base.flags\n--epochs=2\n")
    (tmp_path / "scale.flags").write_text("--seed=3\n")
    monkeypatch.chdir(tmp_path)
    both = parse("--flagfile=row.flags", "--flagfile=scale.flags")
    assert (both.epochs, both.seed, both.num_draws) == (2, 3, (7,))
    assert parse("--flagfile=row.flags", "--epochs=5").epochs == 5
    assert parse("--epochs=5", "--flagfile=row.flags").epochs == 2


CONFIGS = {
    "defaults": Config(),
    "fgsm": Config(attack=("fgsm",), epsilon=(0.1, 1 / 3), defense=("rse",)),
    "bim": Config(attack=("fgsm", "bim"), epsilon=(0.02, 0.0), attack_steps=3),
    "bim step": Config(attack=("bim",), step_size=1 / 7, targeted=True),
    "pgd": Config(attack=("cleverhans_pgd",), dataset="cifar10", image_size=16, data_dir="/a b/c"),
    "pgd 2": Config(
        attack=("pgd", "rand_fgsm"), restarts=3, norm="l2", random_step=1 / 9, epsilon=(0.5,)
    ),
    "mim": Config(attack=("cleverhans_mim",), dataset="emnist/letters"),
    "fgm": Config(attack=("cleverhans_fgm",), dataset="path/to/my.npz", export_dir="out"),
    "const": Config(const=(0.0, 1e-7, 30.0), iterate="best", confidence=2.5, attack_draws=10),
    "search": Config(binary_search=True, initial_const=1 / 3, dataset="stl10", seed=2**32 - 1),
    "zoo": Config(attack=("zoo",), resize=(8, 14), importance_sampling=True, query_noise="common"),
    "targets": Config(image_class="8", target_class=("3", "9"), num_draws=(1, 5, 50)),
    "fractions": Config(attack=("pgd",), epsilon=(8 / 255, 2 / 255), step_size=1 / 255),
    "nothing": Config(attack=("none",), validation_fraction=0.0, attacks_dir="x/y"),
    "training": Config(weight_decay=0.0, learning_rate=1 / 30, dtype_policy="mixed_bfloat16"),
    "adam": Config(optimizer="adam", schedule="constant", retraining_epochs=7),
    "network": Config(model="cifar_cnn", init_noise=0.0, init_noise_at="second_conv"),
    "defenses": Config(
        defense=("ensemble_bagging+rse", "distillation"),
        members=3,
        rho=1 / 3,
        retraining_epsilon=(0.0, 0.7),
        gradient=("member", "mean_loss"),
        temperature=7.0,
        member_noise=0.3,
        substitute="ensemble_mixed",
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_as_flags_give_an_equal_config_again(name: str, tmp_path: pathlib.Path) -> None:
    first = CONFIGS[name]
    assert parse(*first.as_flags()) == first
    # As in the flags.txt of a run.
    (tmp_path / "flags.txt").write_text("\n".join(first.as_flags()) + "\n")
    assert parse(f"--flagfile={tmp_path}/flags.txt") == first


# Defaults.


@pytest.mark.parametrize(
    ("dataset", "model", "expected"),
    [
        ("mnist_5k", None, ("mnist_cnn", 0.4, 0.1, 8, 0.05, "one_cycle", "none")),
        ("mnist", None, ("mnist_cnn", 0.4, 0.1, 8, 0.05, "one_cycle", "none")),
        # Table 1 and section 4 of the paper.
        ("cifar10", None, ("vgg16", 0.4, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("cifar10", "vgg16", ("vgg16", 0.4, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("cifar10", "resnext29", ("resnext29", 0.1, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("stl10", None, ("model_a", 0.4, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("stl10", "model_a", ("model_a", 0.4, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("svhn_cropped", None, ("cifar_cnn", 0.1, 0.1, 200, 0.1, "paper", "crop_flip")),
        ("my/own.npz", None, ("cifar_cnn", 0.1, 0.1, 200, 0.1, "paper", "crop_flip")),
    ],
)
def test_network_and_training_follow_the_data_set(
    dataset: str, model: str | None, expected: tuple[object, ...]
) -> None:
    run = Config(dataset=dataset, model=model)
    found = (
        run.model,
        run.init_noise,
        run.inner_noise,
        run.epochs,
        run.learning_rate,
        run.schedule,
        run.augmentation,
    )
    assert found == expected
    assert (run.batch_size, run.weight_decay, run.num_draws) == (128, 5e-4, (50,))
    assert (run.optimizer, run.members, run.rho, run.image_noise) == ("sgd", 10, 0.5, 0.05)
    assert (run.attack, run.gradient, run.attack_draws) == (
        ("carlini_wagner",),
        ("mean_probability",),
        1,
    )
    for point in run.attack_points("carlini_wagner"):
        assert (point["iterate"], point["steps"], point["confidence"]) == ("last", 300, 0)


@pytest.mark.parametrize(
    ("dataset", "number", "const", "rate", "fgsm", "bim"),
    [
        # Strauss et al.: FGSM 0.3 and BIM 0.2 on MNIST, 0.03 and 0.02 on CIFAR-10.
        ("mnist_5k", 100, (1.0, 3.0, 10.0), 1e-2, 0.3, 0.2),
        ("mnist", 100, (1.0, 3.0, 10.0), 1e-2, 0.3, 0.2),
        ("cifar10", 200, (0.01, 0.03, 0.06, 0.1, 0.2), 1e-3, 0.03, 0.02),
        ("stl10", 200, (0.1, 0.4, 1.0, 4.0), 1e-3, 0.03, 0.02),
        ("svhn_cropped", 200, (0.1, 0.4, 1.0, 4.0), 1e-3, 0.03, 0.02),
    ],
)
def test_the_strength_of_each_attack_follows_the_data_set(
    dataset: str, number: int, const: tuple[float, ...], rate: float, fgsm: float, bim: float
) -> None:
    run = Config(dataset=dataset, attack=("carlini_wagner", "fgsm", "bim"))
    assert run.num_images == number
    assert run.const is run.epsilon is run.attack_steps is None  # every attack has its own
    points = run.attack_points("carlini_wagner")
    assert [(p["const"], p["learning_rate"], p["steps"]) for p in points] == [
        (c, rate, 300) for c in const
    ]
    assert run.attack_points("fgsm") == [{"epsilon": fgsm}]
    (point,) = run.attack_points("bim")
    assert point == {"epsilon": bim, "step_size": pytest.approx(bim / 8), "steps": 8}


@pytest.mark.parametrize(
    ("dataset", "temperature", "epsilon"),
    [("mnist_5k", 10, 0.3), ("mnist", 10, 0.3), ("cifar10", 40, 0.03), ("stl10", 40, 0.03)],
)
def test_what_the_defenses_are_set_to_follows_the_data_set(
    dataset: str, temperature: float, epsilon: float
) -> None:
    run = Config(dataset=dataset, members=7, epochs=5, retraining_epsilon=(0.0, 0.5))
    assert (run.members, run.rho, run.image_noise) == (7, 0.5, 0.05)
    assert run.make_defense("distillation").settings() == {"temperature": temperature}
    assert run.make_defense("ensemble_bagging+adversarial_training").settings() == {
        "training_epsilon": epsilon,
        "rho": 0.5,
    }
    assert run.make_defense("adversarial_retraining").settings() == {
        "retraining_epsilon": (0.0, 0.5),
        "retraining_epochs": 8,
    }
    assert run.training_settings().epochs == 5 and run.training_settings().optimizer == "sgd"


@pytest.mark.parametrize("dataset", [*DATASETS, "svhn_cropped"])
def test_what_is_given_beats_every_default(dataset: str) -> None:
    given = {
        "model": "cifar_cnn",
        "init_noise": 0.0,
        "inner_noise": 0.0,
        "epochs": 1,
        "learning_rate": 0.7,
        "schedule": "paper",
        "augmentation": "none",
        "num_images": 5,
        "workdir": "here",
        "temperature": 3.0,
        "training_epsilon": 0.9,
        "member_noise": 0.0,
        "retraining_epochs": 2,
    }
    attack = {"const": (7.0,), "attack_learning_rate": 0.3, "attack_steps": 6, "iterate": "best"}
    run = Config(dataset=dataset, **given, **attack)
    assert {name: getattr(run, name) for name in given} == given
    assert run.attack_points("carlini_wagner") == [
        {"const": 7.0, "learning_rate": 0.3, "steps": 6, "iterate": "best", "confidence": 0.0}
    ]


@pytest.mark.parametrize(
    ("given", "workdir", "models_dir"),
    [
        ({}, "runs/mnist_5k-mnist_cnn-carlini_wagner", "runs/models"),
        ({"dataset": "cifar10", "attack": ("bim",)}, "runs/cifar10-vgg16-bim", "runs/models"),
        ({"attack": ("bim", "fgsm")}, "runs/mnist_5k-mnist_cnn-bim+fgsm", "runs/models"),
        ({"dataset": "some/where/my.npz"}, "runs/my-cifar_cnn-carlini_wagner", "runs/models"),
        ({"workdir": "a/b"}, "a/b", "a/models"),
        ({"workdir": "a/b", "models_dir": "m"}, "a/b", "m"),
    ],
)
def test_folders_follow_the_data_set_and_network(
    given: dict[str, Any], workdir: str, models_dir: str
) -> None:
    run = Config(**given)
    assert (run.workdir, run.models_dir) == (workdir, models_dir)
    assert run.attacks_dir == f"{workdir}/attacks"
    assert Config(**given, attacks_dir="here").attacks_dir == "here"


def test_a_path_may_begin_with_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    paths = ("workdir", "models_dir", "attacks_dir", "export_dir")
    run = parse(*(f"--{name}=~/a" for name in paths), "--dataset=~/b.npz")
    assert {getattr(run, name) for name in paths} == {"/home/me/a"}
    assert run.dataset == "/home/me/b.npz"
    assert parse("--dataset=cifar10", "--data_dir=~/c").data_dir == "/home/me/c"
    assert parse("--workdir=~").models_dir == "/home/models"
    assert parse("--workdir=a/~b").workdir == "a/~b"

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from rse_tf import config
from rse_tf.config import Config, ConfigError
from rse_tf.defaults import DATASET_DEFAULTS


def parse(*arguments: str) -> Config:
    return config.parse(["program", *arguments], "A program.")


# Mistakes.

MISTAKES = [
    ("--bogus", "Unknown command line flag 'bogus'"),
    ("--epoch=3", "Unknown command line flag 'epoch'"),
    ("stray", "flags look like --name=value. Received: stray"),
    ("--epochs=3 defense none", "flags look like --name=value. Received: defense none"),
    ("--epochs", "--epochs"),
    ("--flagfile=nowhere.flags", "nowhere.flags"),
    ("--flagfile=/", "/"),
    # Of the wrong type.
    ("--epochs=many", "many"),
    ("--epochs=2.5", "2.5"),
    ("--learning_rate=fast", "fast"),
    ("--targeted=perhaps", "perhaps"),
    ("--const=0.1,much", "--const must be numbers. Received: 0.1,much"),
    ("--epsilon=x --attack=fgsm", "--epsilon must be numbers. Received: x"),
    # No such choice.
    ("--model=vgg19", "--model must be one of cifar_cnn, mnist_cnn, model_a, resnext29, vgg16. "
     "Received: 'vgg19'"),
    ("--defense=none,magic", "--defense must be one of none, rse, "),
    ("--attack=fgm", "--attack must be one of bim, carlini_wagner, "),
    ("--noise_distribution=cauchy", "--noise_distribution must be one of gaussian, "),
    ("--init_noise_at=third_conv", "--init_noise_at must be one of first_conv, second_conv"),
    ("--schedule=constant", "--schedule must be one of paper, one_cycle"),
    ("--augmentation=mixup", "--augmentation must be one of none, crop_flip"),
    ("--dtype_policy=float16", "--dtype_policy must be one of float32, mixed_bfloat16"),
    ("--strategy=tpu", "--strategy must be one of auto, one_device, mirrored"),
    ("--iterate=first", "--iterate must be one of last, best"),
    ("--activation=rely", "--activation must be brelu or the name of a Keras activation"),
    ("--activation=get", "--activation must be brelu or the name of a Keras activation"),
    # Lists.
    ("--defense=", "--defense must be one or several values, each of them once. Received: ()"),
    ("--defense=rse,rse", "--defense must be one or several values, each of them once"),
    ("--const=", "--const must be one or several values, each of them once"),
    ("--const=1,1.0", "--const must be one or several values, each of them once"),
    # Out of range.
    *[(f"--{name}=0", f"--{name} must be at least 1. Received: 0") for name in (
        "epochs", "batch_size", "attack_steps", "attack_draws", "num_images",
        "attack_batch_size", "num_draws", "eval_seeds")],
    ("--dataset=cifar10 --image_size=0", "--image_size must be at least 1"),
    ("--binary_search --binary_search_steps=0", "--binary_search_steps must be at least 1"),
    ("--binary_search --initial_const=0", "--initial_const must be greater than 0. Received: 0.0"),
    ("--learning_rate=0", "--learning_rate must be greater than 0"),
    ("--learning_rate=inf", "--learning_rate must be greater than 0"),
    ("--attack_learning_rate=-1", "--attack_learning_rate must be greater than 0"),
    ("--attack=bim --step_size=0", "--step_size must be greater than 0"),
    *[(f"--{name}={value}", f"--{name} must be 0 or greater. Received: {value}") for name in (
        "init_noise", "inner_noise", "weight_decay", "confidence") for value in ("-0.5", "nan")],
    ("--seed=-1", "--seed must be from 0 to 2"),
    ("--seed=4294967296", "--seed must be from 0 to 2"),
    ("--const=0.1,-1", "--const must be 0 or greater. Received: (0.1, -1.0)"),
    ("--const=inf", "--const must be 0 or greater"),
    ("--attack=fgsm --epsilon=-0.1", "--epsilon must be 0 or greater"),
    ("--attack=cleverhans_pgd --epsilon=0", "--epsilon must be greater than 0 for --attack="),
    *[(f"--validation_fraction={value}", "--validation_fraction must be between 0 and 1")
      for value in ("0", "1", "-0.1", "nan")],
    # What does not go together.
    ("--attack=fgsm --const=1", "--const does not apply to --attack=fgsm, which has --epsilon"),
    ("--attack=fgsm --attack_steps=3", "--attack_steps does not apply to --attack=fgsm"),
    ("--attack=fgsm --confidence=0", "--confidence does not apply to --attack=fgsm"),
    ("--attack=bim --binary_search", "--binary_search does not apply to --attack=bim, which has "
     "--epsilon, --step_size, --attack_steps"),
    ("--attack=bim --attack_learning_rate=1", "--attack_learning_rate does not apply to"),
    ("--epsilon=0.1", "--epsilon does not apply to --attack=carlini_wagner"),
    ("--step_size=0.1", "--step_size does not apply to --attack=carlini_wagner"),
    ("--binary_search --const=1", "--const does not go with --binary_search"),
    ("--binary_search --iterate=best", "--iterate does not go with --binary_search"),
    ("--initial_const=1", "--initial_const needs --binary_search"),
    ("--binary_search_steps=3", "--binary_search_steps needs --binary_search"),
    ("--image_size=32", "--image_size does not apply to --dataset=mnist_5k"),
    ("--image_size=32 --dataset=my.npz", "--image_size does not apply to --dataset=my.npz"),
]  # fmt: skip


@pytest.mark.parametrize(("flags", "message"), MISTAKES, ids=[flags for flags, _ in MISTAKES])
def test_a_mistake_is_a_config_error_of_one_line(flags: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        parse(*flags.split())
    assert "\n" not in str(raised.value)


def test_an_unreadable_flag_file_is_a_config_error(tmp_path: pathlib.Path) -> None:
    (tmp_path / "picture.flags").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(ConfigError):
        parse(f"--flagfile={tmp_path}/picture.flags")


def test_a_config_made_in_python_is_checked_like_the_flags() -> None:
    with pytest.raises(ConfigError, match="--num_draws must be at least 1. Received: 0"):
        Config(num_draws=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]


# Flags to Config and back.


@pytest.mark.parametrize(
    ("flags", "field", "value"),
    [
        ("--const=0.1,1", "const", (0.1, 1.0)),
        ("--defense=rse", "defense", ("rse",)),
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
    assert (both.epochs, both.seed, both.num_draws) == (2, 3, 7)
    assert parse("--flagfile=row.flags", "--epochs=5").epochs == 5
    assert parse("--epochs=5", "--flagfile=row.flags").epochs == 2


CONFIGS = {
    "defaults": Config(),
    "fgsm": Config(attack="fgsm", epsilon=(0.1, 1 / 3), defense=("rse",)),
    "bim": Config(attack="bim", epsilon=(0.02, 0.0), attack_steps=3),
    "bim step": Config(attack="bim", step_size=1 / 7, targeted=True),
    "pgd": Config(attack="cleverhans_pgd", dataset="cifar10", image_size=16, data_dir="/a b/c"),
    "mim": Config(attack="cleverhans_mim", dataset="emnist/letters"),
    "fgm": Config(attack="cleverhans_fgm", dataset="path/to/my.npz", export_dir="out"),
    "const": Config(const=(0.0, 1e-7, 30.0), iterate="best", confidence=2.5, attack_draws=10),
    "search": Config(binary_search=True, initial_const=1 / 3, dataset="stl10", seed=2**32 - 1),
    "training": Config(weight_decay=0.0, learning_rate=1 / 30, dtype_policy="mixed_bfloat16"),
    "network": Config(model="cifar_cnn", init_noise=0.0, init_noise_at="second_conv"),
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
    found = (run.model, run.init_noise, run.inner_noise, run.epochs, run.learning_rate,
             run.schedule, run.augmentation)  # fmt: skip
    assert found == expected
    assert (run.batch_size, run.weight_decay, run.num_draws) == (128, 5e-4, 50)
    assert (run.attack, run.iterate, run.attack_steps, run.attack_draws) == (
        "carlini_wagner", "last", 300, 1)  # fmt: skip


@pytest.mark.parametrize(
    ("dataset", "number", "const", "rate", "epsilon"),
    [
        ("mnist_5k", 100, (1.0, 3.0, 10.0), 1e-2, (0.1, 0.2, 0.3)),
        ("cifar10", 200, (0.01, 0.03, 0.06, 0.1, 0.2), 1e-3, (0.02,)),
        ("stl10", 200, (0.1, 0.4, 1.0, 4.0), 1e-3, (0.02,)),
        ("svhn_cropped", 200, (0.1, 0.4, 1.0, 4.0), 1e-3, (0.02,)),
    ],
)
def test_the_strength_of_the_attack_follows_the_data_set(
    dataset: str, number: int, const: tuple[float, ...], rate: float, epsilon: tuple[float, ...]
) -> None:
    run = Config(dataset=dataset)
    assert (run.num_images, run.const, run.attack_learning_rate) == (number, const, rate)
    assert run.epsilon is None
    run = Config(dataset=dataset, attack="bim")
    assert (run.const, run.attack_steps, run.epsilon) == (None, 8, epsilon)
    assert Config(dataset=dataset, attack="fgsm").attack_steps is None


@pytest.mark.parametrize("dataset", [*DATASET_DEFAULTS, "svhn_cropped"])
def test_what_is_given_beats_every_default(dataset: str) -> None:
    given = {"model": "cifar_cnn", "init_noise": 0.0, "inner_noise": 0.0, "epochs": 1,
             "learning_rate": 0.7, "schedule": "paper", "augmentation": "none", "const": (7.0,),
             "attack_learning_rate": 0.3, "num_images": 5, "workdir": "here"}  # fmt: skip
    run = Config(dataset=dataset, **given)
    assert {name: getattr(run, name) for name in given} == given


@pytest.mark.parametrize(
    ("given", "workdir", "models_dir"),
    [
        ({}, "runs/mnist_5k-mnist_cnn-carlini_wagner", "runs/models"),
        ({"dataset": "cifar10", "attack": "bim"}, "runs/cifar10-vgg16-bim", "runs/models"),
        ({"dataset": "some/where/my.npz"}, "runs/my-cifar_cnn-carlini_wagner", "runs/models"),
        ({"workdir": "a/b"}, "a/b", "a/models"),
        ({"workdir": "a/b", "models_dir": "m"}, "a/b", "m"),
    ],
)
def test_folders_follow_the_data_set_and_network(
    given: dict[str, str], workdir: str, models_dir: str
) -> None:
    run = Config(**given)  # type: ignore[arg-type]
    assert (run.workdir, run.models_dir) == (workdir, models_dir)

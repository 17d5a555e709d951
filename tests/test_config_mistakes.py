"""Flags that cannot be, alone or beside the others: one line each, before any work."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest

from rse_tf import flags
from rse_tf.config import Config, ConfigError


def parse(*arguments: str) -> Config:
    return flags.parse(["program", *arguments], "A program.")


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
    (
        "--model=vgg19",
        "--model must be one of cifar_cnn, mnist_cnn, model_a, resnext29, vgg16. Received: 'vgg19'",
    ),
    ("--defense=none,magic", "--defense must be one of adversarial_retraining, "),
    *[
        (f"--defense={name}", "--defense must be one of ")
        for name in (
            "ensemble",
            "rse+ensemble_bagging",
            "ensemble_bagging+magic",
            "ensemble_bagging+",
            "+rse",
            "ensemble_bagging+ensemble_mixed",
            "ensemble_mixed+rse+rse",
        )
    ],
    ("--attack=fgm", "--attack must be one of none, apgd, "),
    ("--noise_distribution=cauchy", "--noise_distribution must be one of gaussian, "),
    ("--init_noise_at=third_conv", "--init_noise_at must be one of first_conv, second_conv"),
    ("--attack=bim,fgm", "--attack must be one of none, apgd, "),
    ("--gradient=grad1", "--gradient must be one of member, mean_loss, mean_probability"),
    ("--optimizer=rmsprop", "--optimizer must be one of sgd, adam"),
    ("--schedule=linear", "--schedule must be one of paper, one_cycle, constant"),
    ("--attack=pgd --norm=l1", "--norm must be one of linf, l2"),
    ("--attack=zoo --solver=sgd", "--solver must be one of adam, newton"),
    ("--attack=zoo --query_noise=none", "--query_noise must be one of fresh, common"),
    ("--substitute=magic", "--substitute must be a defense. Received: 'magic'"),
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
    ("--attack=", "--attack must be one or several values, each of them once. Received: ()"),
    ("--attack=bim,bim", "--attack must be one or several values, each of them once"),
    ("--attack=bim,none", "--attack must be none, or one or several attacks"),
    ("--num_draws=5,5", "--num_draws must be one or several values, each of them once"),
    ("--num_draws=5,many", "--num_draws must be numbers. Received: 5,many"),
    ("--num_draws=2.5", "--num_draws must be numbers. Received: 2.5"),
    ("--attack=zoo --resize=8,x", "--resize must be numbers. Received: 8,x"),
    ("--retraining_epsilon=0.1", "--retraining_epsilon must be two numbers, the smaller one"),
    ("--retraining_epsilon=0.3,0.1", "--retraining_epsilon must be two numbers, the smaller one"),
    ("--retraining_epsilon=0.1,0.2,0.3", "--retraining_epsilon must be two numbers"),
    # Out of range.
    *[
        (f"--{name}=0", f"--{name} must be at least 1. Received: 0")
        for name in (
            "epochs",
            "batch_size",
            "attack_draws",
            "num_images",
            "attack_batch_size",
            "eval_seeds",
            "members",
            "retraining_epochs",
        )
    ],
    ("--num_draws=5,0", "--num_draws must be at least 1. Received: (5, 0)"),
    *[
        (
            f"--attack={attack} --{name}=0",
            f"--{name} must be an integer of at least 1, for --attack={attack}. Received: 0",
        )
        for attack, name in (("pgd", "restarts"), ("zoo", "coordinates"), ("bim", "attack_steps"))
    ],
    (
        "--attack=zoo --resize=0,8",
        "--resize must be rising positive integers, for --attack=zoo. Received: (0, 8)",
    ),
    ("--temperature=0", "--temperature must be greater than 0. Received: 0.0"),
    ("--dataset=cifar10 --image_size=0", "--image_size must be at least 1"),
    ("--binary_search --binary_search_steps=0", "--binary_search_steps must be an integer of at"),
    ("--binary_search --initial_const=0", "--initial_const must be a finite number > 0"),
    ("--learning_rate=0", "--learning_rate must be greater than 0"),
    ("--learning_rate=inf", "--learning_rate must be greater than 0"),
    ("--attack_learning_rate=-1", "--attack_learning_rate must be a finite number > 0"),
    ("--attack=bim --step_size=-1", "--step_size must be a finite number >= 0"),
    *[
        (f"--{name}={value}", f"--{name} must be 0 or greater. Received: {value}")
        for name in (
            "init_noise",
            "inner_noise",
            "weight_decay",
            "member_noise",
            "image_noise",
            "training_epsilon",
        )
        for value in ("-0.5", "nan")
    ],
    ("--seed=-1", "--seed must be from 0 to 2"),
    ("--seed=4294967296", "--seed must be from 0 to 2"),
    ("--retraining_epsilon=-1,1", "--retraining_epsilon must be 0 or greater. Received: (-1.0,"),
    ("--attack=rand_fgsm --random_step=0.4 --epsilon=0.3", "--random_step must be at most epsilon"),
    ("--attack=rand_fgsm --random_step=0.4", "--random_step must be at most epsilon, 0.3"),
    *[
        (f"--attack={attack} --norm=l2", "--epsilon must be given beside norm=l2")
        for attack in ("apgd", "pgd")
    ],
    ("--attack=apgd --num_targets=3", "--num_targets must be None but for loss=dlr_targeted"),
    ("--attack=rand_fgsm --random_step=-1", "--random_step must be a finite number >= 0"),
    *[(f"--rho={value}", "--rho must be from 0 to 1") for value in ("-0.1", "1.1", "nan")],
    (
        "--const=0.1,-1",
        "--const must be a finite number >= 0, for --attack=carlini_wagner. Received: (0.1, -1.0)",
    ),
    ("--const=inf", "--const must be a finite number >= 0"),
    ("--attack=fgsm --epsilon=-0.1", "--epsilon must be a finite number >= 0"),
    ("--attack=cleverhans_pgd --epsilon=0", "--epsilon must be a finite number > 0, for --att"),
    ("--attack=bim,cleverhans_fgm --epsilon=0,1", "--epsilon must be a finite number > 0"),
    *[
        (f"--validation_fraction={value}", "--validation_fraction must be 0 or greater and below 1")
        for value in ("1", "-0.1", "nan")
    ],
    # Grey levels of 255 where pixels lie in [0, 1].
    (
        "--attack=pgd --epsilon=8",
        "--epsilon must be at most 1, for pixels lie in [0, 1]; 8 of 255 "
        "levels is 8/255, for --attack=pgd. Received: (8.0,)",
    ),
    ("--attack=pgd,bim --norm=l2 --epsilon=2,4", "2 of 255 levels is 2/255, for --attack=bim. Rec"),
    ("--attack=bim --step_size=2", "--step_size must be at most 1, for pixels lie in [0, 1]; 2 of"),
    ("--attack=rand_fgsm --random_step=2 --epsilon=1", "--random_step must be at most epsilon"),
    ("--training_epsilon=8", "--training_epsilon must be at most 1, for pixels lie in [0, 1]; 8"),
    ("--retraining_epsilon=0.1,8", "--retraining_epsilon must be at most 1, for pixels lie in"),
    ("--attack=pgd --norm=l2 --epsilon=2 --training_epsilon=2", "--training_epsilon must be at"),
    # No fractions.
    *[(f"--learning_rate={value}", value) for value in ("1/0", "1/", "/3", "1/2/3", "a/b")],
    *[
        (
            f"--attack=fgsm --epsilon=0.1,{value}",
            f"--epsilon must be numbers. Received: 0.1,{value}",
        )
        for value in ("1/0", "1/", "/3", "1/2/3", "a/b")
    ],
    ("--epochs=6/2", "6/2"),
    # What does not go together.
    ("--attack=fgsm --const=1", "--const does not apply to --attack=fgsm, which has --epsilon"),
    ("--attack=fgsm --attack_steps=3", "--attack_steps does not apply to --attack=fgsm"),
    ("--attack=fgsm --confidence=0", "--confidence does not apply to --attack=fgsm"),
    (
        "--attack=bim --binary_search",
        "--binary_search does not apply to --attack=bim, which has "
        "--attack_steps, --epsilon, --step_size",
    ),
    ("--attack=bim --attack_learning_rate=1", "--attack_learning_rate does not apply to"),
    ("--attack=fgsm,bim --const=1", "--const does not apply to --attack=fgsm,bim, which has "),
    (
        "--attack=deepfool --epsilon=1",
        "--epsilon does not apply to --attack=deepfool, which has --attack_steps",
    ),
    ("--attack=bim --restarts=2", "--restarts does not apply to --attack=bim"),
    ("--solver=newton", "--solver does not apply to --attack=carlini_wagner"),
    ("--attack=deepfool --targeted", "--attack=deepfool has no targets"),
    ("--attack=bim,deepfool --image_class=1 --target_class=3", "--attack=deepfool has no targets"),
    ("--attack=zoo --resize=16,8", "--resize must be rising positive integers"),
    ("--target_class=3", "--target_class needs --image_class, and not --targeted"),
    ("--target_class=3 --image_class=4 --targeted", "--target_class needs --image_class, and not"),
    ("--target_class=3,4 --image_class=4", "--target_class must be other classes than"),
    ("--attack=cleverhans_pgd --epsilon=0.1 --step_size=0.2", "--step_size must be at most"),
    ("--epsilon=0.1", "--epsilon does not apply to --attack=carlini_wagner"),
    ("--step_size=0.1", "--step_size does not apply to --attack=carlini_wagner"),
    ("--binary_search --const=1", "--const must be left out with binary_search"),
    ("--binary_search --iterate=best", "--iterate must be left out with binary_search"),
    ("--initial_const=1", "--initial_const must be left out without binary"),
    ("--binary_search_steps=3", "--binary_search_steps must be left out"),
    ("--image_size=32", "--image_size does not apply to --dataset=mnist_5k"),
    ("--image_size=32 --dataset=my.npz", "--image_size does not apply to --dataset=my.npz"),
]


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
    with pytest.raises(ConfigError, match=r"--num_draws must be at least 1. Received: \(0,\)"):
        Config(num_draws=(0,))
    with pytest.raises(ConfigError, match="--attack must be a tuple. Received: 'bim'"):
        Config(attack="bim")  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().seed = 1  # type: ignore[misc]

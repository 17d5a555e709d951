"""The folders of attacked images, under which runs of earlier versions are found again."""

from __future__ import annotations

import pathlib
from typing import Any

import keras
import pytest

from rse_tf import data
from rse_tf.config import Config
from rse_tf.evaluation import attack_runner
from rse_tf.models import AveragedEnsemble
from rse_tf.training.device_pool import DevicePool

# The flags of a run, and its folders on a model without noise and on one with noise.
FOLDERS: list[tuple[dict[str, Any], str, str]] = [
    ({"attack": ("apgd",)}, "b356c226a3266dfb", "18d373595b9a12cb"),
    ({"attack": ("arc",)}, "35b71be6ebb28ff1", "f169abb6507d54ed"),
    ({"attack": ("bim",)}, "3f29688d5dcb45a8", "a6e5271c0b5756e9"),
    (
        {"attack": ("carlini_wagner",)},
        "039f722afa33d96c 930a08e282ea2044 aeff4440b2042420",
        "c4c3c3c534d877b0 d6435dbbd5d72b63 091510bb75e83e34",
    ),
    ({"attack": ("cleverhans_fgm",)}, "620c3313fd3ce41e", "162ad47a8c7917a0"),
    ({"attack": ("cleverhans_mim",)}, "c4bffcd3888376c8", "73c6b04b37626ede"),
    ({"attack": ("cleverhans_pgd",)}, "2dea5cb8de24e898", "097ef623dc16cacd"),
    ({"attack": ("deepfool",)}, "73aa2ffcd351a3d1", "e9642c7be14b2b87"),
    ({"attack": ("ddn",)}, "ed2391406802e7c0", "6c2b2f2126383339"),
    ({"attack": ("fgsm",)}, "5915d442163d325a", "cc66ce6961feb968"),
    ({"attack": ("fmn",)}, "8242bc91a4ec1a2e", "71e042aa76cf942b"),
    (
        {"attack": ("fmn",), "norm": "l2", "levels": 256, "selection_draws": 5},
        "4ee6e373bd1e231d",
        "e7ea6835ea5bfb5b",
    ),
    ({"attack": ("mim",)}, "54685ddc5a55bb7a", "5fe4137e26c3b2ab"),
    ({"attack": ("pgd",)}, "d9c48e0d6a31e0f9", "ab735af57d624ec4"),
    ({"attack": ("rand_fgsm",)}, "2f9fa6e649dafa7a", "0682b2bcbceb61b3"),
    ({"attack": ("square",)}, "004b53bd7314db97", "ff427fd92322fe81"),
    (
        {"attack": ("zoo",)},
        "246e47851f9092e0 f94121e241e3c881 13a7de1d9dffe09b",
        "13684724c71eb20e 8a5835ab66a30b6c ffc5d25762468707",
    ),
    (
        {"attack": ("carlini_wagner", "zoo"), "binary_search": True},
        "706523c74a928545 a7663dbfee5b4fde",
        "3501e588deeca528 7baa81a9914f46eb",
    ),
    (
        {"attack": ("pgd",), "epsilon": (2.0,), "norm": "l2", "restarts": 2, "seed": 5},
        "a98f6fba32990163",
        "8ab55382ccc3b17a",
    ),
    (
        {
            "attack": ("zoo",),
            "query_noise": "common",
            "resize": (8, 14),
            "importance_sampling": True,
            "dataset": "cifar10",
            "const": (0.1,),
        },
        "033f0637123d0147",
        "5ef5841cc075e8e5",
    ),
    (
        {"attack": ("rand_fgsm",), "random_step": 0.01, "dataset": "stl10"},
        "7ebe33936ea0ba85",
        "8043d31cc37c0c0c",
    ),
    (
        {"attack": ("bim", "fgsm", "carlini_wagner"), "dataset": "cifar10"},
        "c727505cb1fd3bc9 8d7af3aef0373b41 b1bbab72009f2214 fb4014464278b3be "
        "aed2d0dde5d923e9 87d58dbcc316f61d a50666f8a4c27a22",
        "3f315761a85919c7 b4a528cf5811b68b 6a826b60a688dec1 c52681b2edeb15c2 "
        "eb717331976019be 11f05dca81803b88 e3b8d848ecaea73a",
    ),
]


class Model(keras.Model):
    """Two facts instead of a network."""

    def get_config(self) -> dict[str, Any]:
        return {"name": "x", "layers": 3}


@pytest.mark.parametrize(("flags", "plain", "noisy"), FOLDERS, ids=[str(f) for f, *_ in FOLDERS])
def test_what_was_attacked_before_is_found_again(
    flags: dict[str, Any], plain: str, noisy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack_runner, "weights_digest", lambda model: "weights")
    split: Any = None  # nothing is attacked
    dataset: data.Dataset = split
    for random, folders in ((False, plain), (True, noisy)):
        monkeypatch.setattr(attack_runner, "is_random", lambda model, answer=random: answer)
        settings = Config(**flags).evaluation_settings()
        run = attack_runner.AttackRunner(settings, Model(), dataset, split, "", DevicePool())
        found = [run._folder(setting, Model()) for setting in run.settings()]
        assert [pathlib.Path(folder).name for folder in found] == folders.split()


def test_gradients_have_folders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_runner, "weights_digest", lambda model: "weights")
    names = ("mean_loss", "mean_probability", "mean_logits", "reweighted")
    model = AveragedEnsemble([Model(), Model()])
    split: Any = None
    run = Config(attack=("fgsm",), gradient=names).evaluation_settings()
    runner = attack_runner.AttackRunner(run, model, split, split, "", DevicePool())
    folders = [runner._folder(setting, Model()).name for setting in runner.settings()]
    assert len(set(folders)) == len(names)
    # By mean_loss and mean_probability an attack is found under the names of earlier versions.
    assert folders[:2] == ["31fe898728d7860e", "5915d442163d325a"]

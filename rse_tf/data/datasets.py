"""The data sets that the package knows, and what a run does on each where its flags say nothing."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from rse_tf.data.loaders import Arrays, load_mnist_5k, npz_shape


@dataclasses.dataclass(frozen=True)
class DatasetEntry:
    """One data set.

    Attributes:
        load: returns its arrays; `None` for a set of TensorFlow Datasets.
        defaults: values of flags, and of options by their `by_dataset`. What is not here is as
            for any other data set.
        by_model: further ones that hold for one network, by its name.
    """

    load: Callable[[], Arrays] | None = None
    defaults: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    by_model: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)


# The defaults of any data set, but for those that an option states itself. Noise and training are
# of Liu et al. (2018), Table 1 and section 4; `const` is a part of the values of their Figure 6,
# at their learning rate and number of steps.
ANY_DATASET: Mapping[str, Any] = {
    "model": "cifar_cnn",
    "init_noise": 0.1,
    "inner_noise": 0.1,
    "epochs": 200,
    "const": (0.1, 0.4, 1.0, 4.0),
    "single_step_epsilon": 0.03,
    "epsilon": 0.02,
    "attack_learning_rate": 1e-3,
    "num_images": 200,
}

# Strauss et al. (2017), section 4: epsilon 0.3 for FGSM and 0.2 for BIM, temperature 10. Madry et
# al. (2017) train with 40 steps of 0.01 within 0.3, as their published settings for MNIST say. The
# noise, the short training and the faster attack for digits are ours: neither paper runs RSE on
# them.
_DIGITS: Mapping[str, Any] = {
    "model": "mnist_cnn",
    "init_noise": 0.4,
    "inner_noise": 0.1,
    "epochs": 8,
    "learning_rate": 0.05,
    "schedule": "one_cycle",
    "augmentation": "none",
    "temperature": 10.0,
    "training_epsilon": 0.3,
    "training_steps": 40,
    "training_step_size": 0.01,
    "const": (1.0, 3.0, 10.0),
    "single_step_epsilon": 0.3,
    "epsilon": 0.2,
    "attack_learning_rate": 1e-2,
    "num_images": 100,
}

# A crop that moves an image by 4 pixels leaves too little of a smaller one.
_SMALLEST_TO_CROP = 24
_CAREFUL = ("model", "learning_rate", "schedule", "augmentation")
# What the network of the digits sees in its epochs.
_DIGIT_IMAGES = 36_000

# Any other name is looked up in TensorFlow Datasets.
DATASETS: dict[str, DatasetEntry] = {
    "mnist_5k": DatasetEntry(load_mnist_5k, _DIGITS),
    "mnist": DatasetEntry(defaults=_DIGITS),
    "cifar10": DatasetEntry(
        defaults={"model": "vgg16", "init_noise": 0.4, "const": (0.01, 0.03, 0.06, 0.1, 0.2)},
        # Liu et al. (2018), Table 1: less noise than for VGG16.
        by_model={"resnext29": {"init_noise": 0.1}},
    ),
    "stl10": DatasetEntry(defaults={"model": "model_a", "init_noise": 0.4}),
}


def comes_from_tfds(name: str) -> bool:
    """Whether a data set is one of TensorFlow Datasets, by its name."""
    return not name.endswith(".npz") and DATASETS.get(name, DatasetEntry()).load is None


def described(name: str) -> str:
    """Returns a name of `DATASETS`, and whether that data set needs no network."""
    return name if comes_from_tfds(name) else f"{name} (needs no network)"


def file_defaults(shape: tuple[int, ...] | None) -> dict[str, Any]:
    """Returns the defaults of a file of images that follow from their shape.

    Grey images are taken for something like digits. Small ones in colour get the network and the
    training of the digits as well, but not the strengths of the attacks. Both are trained by as
    many steps as the digits are. Larger ones in colour have the defaults of any data set.

    Args:
        shape: of the training images, `[number, height, width(, channels)]`, or `None` if it is
            not known.
    """
    if shape is None or len(shape) not in (3, 4) or not all(shape):
        return {}
    is_grey = len(shape) == 3 or shape[3] == 1
    if not is_grey and min(shape[1:3]) >= _SMALLEST_TO_CROP:
        return {}
    own = _DIGITS if is_grey else {name: _DIGITS[name] for name in _CAREFUL}
    epochs = math.ceil(_DIGIT_IMAGES / shape[0])
    return {**own, "epochs": min(max(epochs, _DIGITS["epochs"]), ANY_DATASET["epochs"])}


def dataset_defaults(name: str, model: str | None = None) -> dict[str, Any]:
    """Returns the defaults of a data set, as `DatasetEntry` has them.

    Args:
        name: of the data set; one that is not in `DATASETS` has those of any. Those of a file
            follow its images, see `file_defaults`.
        model: the network that is trained on it, or `None` for the data set's own.
    """
    entry = DATASETS.get(name, DatasetEntry())
    of_images = file_defaults(npz_shape(name)) if name.endswith(".npz") else {}
    defaults = {**ANY_DATASET, **of_images, **entry.defaults}
    return defaults | dict(entry.by_model.get(model or defaults["model"], {}))

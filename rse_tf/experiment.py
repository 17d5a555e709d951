"""The one road of a run: data, model, defense, attack, score, report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import platform
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import rse_tf
from rse_tf import data
from rse_tf.attacks import ATTACKS, AttackResult
from rse_tf.config import Config, ConfigError
from rse_tf.defenses import DEFENSES
from rse_tf.evaluation import Scorer, attack_in_batches, score
from rse_tf.files import atomic_write_text
from rse_tf.layers import noise_layers
from rse_tf.models import MODELS, NetworkSpec, SelfEnsemble
from rse_tf.reporting import Gallery, Row, format_table, write_report
from rse_tf.serving import export_classifier
from rse_tf.training import Trainer, TrainingSettings, use_gpus_politely

_GALLERY_IMAGES = 6
# Part of every attack's folder: raise it when the same settings no longer give the same images.
_FORMAT = 1


def run(config: Config, may_train: bool = True) -> list[Row]:
    """Trains every defense of a run, attacks it, and writes the report.

    Whatever is there already, from an earlier run that was killed or from another one with
    the same training settings, is not done again.

    Args:
        config: the run. Its `workdir` receives `flags.txt`, `result.json`, `result.csv`, the
            plots, and a folder `attacks` with what is needed to go on.
        may_train: whether a network that is not there yet is trained, or an error.

    Returns:
        One row for each defense and attack setting.
    """
    dataset = load_data(config)
    flags = "\n".join(config.as_flags()) + "\n"
    atomic_write_text(pathlib.Path(str(config.workdir)) / "flags.txt", flags)
    models = {name: train_defense(config, name, dataset, may_train) for name in config.defense}
    rows: list[Row] = []
    galleries: list[Gallery] = []
    for defense, model in models.items():
        new_rows, gallery = evaluate_defense(config, defense, model, dataset)
        rows += new_rows
        galleries.append(gallery)
    report(config, rows, galleries)
    return rows


def train(config: Config) -> None:
    """Trains every defense of a run and says where the networks are."""
    dataset = load_data(config)
    for defense in config.defense:
        train_defense(config, defense, dataset)
    print(f"trained networks: {config.models_dir}")


def evaluate(config: Config) -> list[Row]:
    """Does what `run` does, but only with networks that are trained already.

    Raises:
        NotTrainedError: if one is not.
    """
    return run(config, may_train=False)


def export(config: Config) -> None:
    """Writes the trained defense of a run as a SavedModel, averaged over `num_draws` draws.

    Raises:
        ConfigError: if the run has several defenses, or no `export_dir`.
        NotTrainedError: if the defense is not trained.
    """
    if len(config.defense) != 1 or config.export_dir is None:
        raise ConfigError("rse_tf.export needs --export_dir=DIR and one --defense")
    if pathlib.Path(config.export_dir).exists():
        raise ConfigError(f"--export_dir must be a new folder. Received: {config.export_dir}")
    dataset = load_data(config)
    model = train_defense(config, config.defense[0], dataset, may_train=False)
    classifier = Scorer(model, config.num_draws).classifier
    export_classifier(classifier, dataset.image_shape, config.export_dir)
    print(f"SavedModel: {config.export_dir}")


def load_data(config: Config) -> data.Dataset:
    """Loads the data of a run: its first use of TensorFlow's devices."""
    use_gpus_politely()
    return data.load(
        config.dataset,
        config.data_dir,
        config.seed,
        config.validation_fraction,
        config.image_size,
    )


def train_defense(
    config: Config, defense: str, dataset: data.Dataset, may_train: bool = True
) -> keras.Model:
    """Trains a defense, or looks it up; returns its classifier in float32."""
    fields = [field.name for field in dataclasses.fields(TrainingSettings)]
    settings = {name: getattr(config, name) for name in fields if hasattr(config, name)}
    trainer = Trainer(
        dataset,
        TrainingSettings(**settings),
        pathlib.Path(str(config.models_dir)),
        config.strategy,
        may_train,
    )
    return DEFENSES[defense](network_spec(config, dataset), trainer)


def network_spec(config: Config, dataset: data.Dataset) -> NetworkSpec:
    """The network of a run, with the noise of RSE.

    Raises:
        ConfigError: if the images are too small for it.
    """
    name, (height, width, _) = str(config.model), dataset.image_shape
    smallest = MODELS[name].smallest
    if min(height, width) < smallest:
        raise ConfigError(
            f"--model={name} needs images of at least {smallest} x {smallest} pixels. "
            f"Received: --dataset={config.dataset} with {height} x {width}"
        )
    return NetworkSpec(
        name=name,
        input_shape=dataset.image_shape,
        num_classes=dataset.num_classes,
        init_noise=float(config.init_noise or 0.0),
        inner_noise=float(config.inner_noise or 0.0),
        distribution=config.noise_distribution,
        init_noise_at=config.init_noise_at,
        activation=config.activation,
    )


def evaluate_defense(
    config: Config, defense: str, model: keras.Model, dataset: data.Dataset
) -> tuple[list[Row], Gallery]:
    """Scores a classifier on clean images and under every setting of the attack."""
    test = dataset.test[: config.num_images]
    scorer = Scorer(model, config.num_draws, config.eval_seeds)
    if len(test) < int(config.num_images or 0):
        print(f"{config.dataset} has {len(test)} test images; all of them are attacked")
    label = f"{defense}: scoring"
    right_clean = scorer.right(test.images, test.labels, config.seed, 0, label=label)
    facts: dict[str, Any] = {
        "dataset": config.dataset,
        "model": _model_name(config),
        "defense": defense,
        "noise": _noise(config, model),
        "num_images": len(test),
        "num_draws": scorer.num_draws,
        "eval_seeds": len(scorer.seeds),
    }
    unharmed = score(test.images, test.images, right_clean, right_clean)
    rows = [Row(attack="none", parameters={}, seconds=0.0, **facts, **dataclasses.asdict(unharmed))]

    draws = config.attack_draws if scorer.is_random else 1
    attacked = SelfEnsemble(model, draws) if draws > 1 else model
    points = config.attack_points()
    attack = ATTACKS[config.attack](attacked, batch_size=config.attack_batch_size, **points[0])
    targets = None
    if config.targeted:
        shift = np.random.default_rng(config.seed).integers(1, dataset.num_classes, len(test))
        targets = (test.labels + shift) % dataset.num_classes
    for point in points:
        label = f"{defense}: {config.attack} {_strength(point)}"
        parameters = {**point, "targeted": config.targeted, "attack_draws": draws}
        result, seconds = attack_in_batches(
            dataclasses.replace(attack, **point),
            model,
            images=test.images,
            labels=test.labels,
            targets=targets,
            directory=_attack_folder(config, model, parameters),
            seed=config.seed,
            description=label,
        )
        scoring = f"{label}: scoring"
        right = scorer.right(result.adversarial, test.labels, config.seed, 1, label=scoring)
        marks = dataclasses.asdict(score(test.images, result.adversarial, right_clean, right))
        row = Row(attack=config.attack, parameters=parameters, seconds=seconds, **facts, **marks)
        print(f"{label}  accuracy {row.accuracy:.1%}  RMS L2 {row.rms_l2:.3f}", flush=True)
        rows.append(row)
    return rows, _gallery(defense, scorer, dataset, test, result, right_clean, config.seed)


def report(config: Config, rows: list[Row], galleries: list[Gallery]) -> None:
    """Writes the report of a run and prints its table and where everything is."""
    workdir = pathlib.Path(str(config.workdir))
    flags, versions_ = dataclasses.asdict(config), versions()
    paths = write_report(workdir, rows, galleries, flags=flags, versions=versions_)
    print(f"\n{format_table(rows)}\n")
    for path in paths:
        print(path)


def versions() -> dict[str, str]:
    """Versions of what the numbers of a run depend on."""
    return {
        "python": platform.python_version(),
        "rse_tf": rse_tf.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }


def _model_name(config: Config) -> str:
    # Another activation is another network, and none of the papers' own.
    plain = config.activation == "relu"
    return str(config.model) if plain else f"{config.model}+{config.activation}"


def _noise(config: Config, model: keras.Model) -> dict[str, Any]:
    if not any(layer.stddev for layer in noise_layers(model)):
        return {}
    return {
        "init_noise": config.init_noise,
        "inner_noise": config.inner_noise,
        "distribution": config.noise_distribution,
        "init_noise_at": config.init_noise_at,
    }


def _attack_folder(
    config: Config, model: keras.Model, parameters: dict[str, Any]
) -> pathlib.Path:
    """A folder for the batches of one attack setting, named after all they follow from."""
    digest = hashlib.sha256()
    for weights in model.get_weights():
        digest.update(np.ascontiguousarray(weights).data)
    # But for the model's name, which Keras numbers by what else the process has built.
    settings = {name: value for name, value in model.get_config().items() if name != "name"}
    facts = [_FORMAT, config.attack, parameters, config.seed, settings]
    digest.update(json.dumps(facts, sort_keys=True, default=str).encode())
    return pathlib.Path(str(config.workdir)) / "attacks" / digest.hexdigest()[:16]


def _strength(point: dict[str, Any]) -> str:
    name = next((name for name in ("const", "epsilon") if name in point), "binary_search_steps")
    return f"{name}={point[name]:g}"


def _gallery(
    defense: str,
    scorer: Scorer,
    dataset: data.Dataset,
    test: data.Split,
    result: AttackResult,
    right_clean: np.ndarray,
    seed: int,
) -> Gallery:
    """The first images that are right when clean, as the strongest setting left them."""
    chosen = np.flatnonzero(right_clean[0])[:_GALLERY_IMAGES]
    predicted = scorer.predictions(result.adversarial[chosen], seed, 2)
    names = dataset.class_names
    titles = [
        f"{names[label]} → {names[guess]}" for label, guess in zip(test.labels[chosen], predicted)
    ]
    return Gallery(defense, test.images[chosen], result.adversarial[chosen], titles)

"""The one road of a run: data, model, defense, attack, score, report."""

from __future__ import annotations

import dataclasses
import pathlib

import keras

from rse_tf import data, evaluation, reporting
from rse_tf.config import Config, ConfigError
from rse_tf.defenses import Ensemble
from rse_tf.evaluation import (
    Certificate,
    Evaluator,
    Gallery,
    Row,
    Scorer,
    Verdict,
    WorstCases,
)
from rse_tf.evaluation.attack_points import audit_ball
from rse_tf.evaluation.chance import warn_of_chance
from rse_tf.evaluation.input_noise import own_stddev
from rse_tf.evaluation.model_facts import model_digest
from rse_tf.experiment.environment import versions
from rse_tf.experiment.networks import network_spec
from rse_tf.experiment.reports import report, report_comparison, worst_cases
from rse_tf.models import export_classifier
from rse_tf.training import NotTrainedError, Trainer, enable_memory_growth, make_strategy
from rse_tf.training.device_pool import DevicePool
from rse_tf.utils.files import atomic_folder, atomic_write_text
from rse_tf.utils.log import log
from rse_tf.utils.startup import without_notices


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
    pool = assemble(config)
    dataset = load_data(config)
    network_spec(config, dataset)  # a run that cannot be leaves no folder
    if pool.is_chief and may_train:
        _write_flags(config)
    models = {name: train_defense(config, name, dataset, may_train) for name in config.defense}
    for name, model in models.items():
        warn_of_chance(name, model, dataset)
    substitute = _train_substitute(config, dataset, may_train)
    if pool.is_chief and not may_train:
        _write_flags(config)
    settings, rows = config.evaluation_settings(), list[Row]()
    galleries, verdicts, cases = list[Gallery](), dict[str, Verdict](), list[WorstCases]()
    for defense, model in models.items():
        own = config.make_defense(defense).settings()
        training = {"epochs": config.epochs, **own}
        evaluator = Evaluator(settings, defense, model, dataset, substitute, pool, training)
        rows += evaluator.rows()
        galleries += evaluator.galleries()
        if evaluator.suite is not None:
            cases.append(worst_cases(config, defense, model, dataset, evaluator.suite))
        if config.audit and pool.is_chief:
            verdicts[defense] = audit(config, defense, model, dataset)
        elif evaluator.suite is not None:
            images = settings.test_images(dataset).images
            verdicts[defense] = evaluation.suite_verdict(evaluator.suite, images)
    if pool.is_chief:
        report(config, rows, galleries, verdicts, cases)
    pool.barrier()  # a worker that leaves early looks like one that died
    return rows


def _write_flags(config: Config) -> None:
    flags = "\n".join(config.as_flags()) + "\n"
    atomic_write_text(pathlib.Path(str(config.workdir)) / "flags.txt", flags)


def _train_substitute(
    config: Config, dataset: data.Dataset, may_train: bool = True
) -> keras.Model | None:
    """The network to attack in place of the defenses, or `None`."""
    if config.substitute is None or not (config.attacks or config.suite_epsilons):
        return None
    # Trained from another seed: what an attacker without access to the defense has.
    other = dataclasses.replace(config, seed=(config.seed + 1) % 2**32)
    return train_defense(other, config.substitute, dataset, may_train)


def train(config: Config) -> None:
    """Trains every defense of a run, and its substitute, and says where the networks are."""
    assemble(config)
    dataset = load_data(config)
    for defense in config.defense:
        train_defense(config, defense, dataset)
    _train_substitute(config, dataset)
    log(f"trained networks: {config.models_dir}")


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
    if len(config.defense) != 1 or len(config.num_draws) != 1 or config.export_dir is None:
        raise ConfigError("rse_tf.export needs --export_dir=DIR, one --defense, one --num_draws")
    if pathlib.Path(config.export_dir).exists():
        raise ConfigError(f"--export_dir must be a new folder. Received: {config.export_dir}")
    pool = assemble(config)
    dataset = load_data(config)
    model = train_defense(config, config.defense[0], dataset, may_train=False)
    classifier = Scorer(model, *config.num_draws, stop_error=config.stop_error).classifier
    if pool.is_chief:
        with atomic_folder(config.export_dir) as unfinished:
            export_classifier(classifier, dataset.image_shape, unfinished)
    log(f"SavedModel: {config.export_dir}")
    pool.barrier()


def audit(config: Config, defense: str, model: keras.Model, dataset: data.Dataset) -> Verdict:
    """Attacks a defense once more, on the images of the run; says how far its accuracy holds."""
    norm, epsilon = audit_ball(config)
    numbers = config.evaluation_settings().image_numbers(dataset)
    test = dataset.test[numbers]
    path = pathlib.Path(str(config.workdir)) / "certificate.json"
    facts = defense, model_digest(model), config.values()
    return evaluation.audit(
        model,
        test.images,
        test.labels,
        epsilon=epsilon,
        norm=norm,
        num_draws=config.num_draws[-1],
        attack_draws=max(config.attack_draws, 10),
        seed=config.seed % 2**31,
        certificate=reporting.read_certificates(path, *facts, numbers),
    )


def certify(config: Config) -> list[Certificate]:
    """Certifies the trained defense of a run by randomised smoothing, and writes what is certain.

    The workdir receives `certificate.json`, `certificate.tsv`, `certified_accuracy.png`, and a
    folder `votes` with what is needed to go on after a kill.

    Raises:
        ConfigError: if the run has several defenses, or no certificate exists for this one.
        NotTrainedError: if the defense is not trained.
    """
    if len(config.defense) != 1:
        found = ",".join(config.defense)
        raise ConfigError(f"rse_tf.certify needs one defense: --defense=rse. Received: {found}")
    pool, (defense,) = assemble(config), config.defense
    dataset = load_data(config)
    model = train_defense(config, defense, dataset, may_train=False)
    settings = config.certification_settings()
    try:
        stddev = own_stddev(model) if settings.stddev is None else settings.stddev
    except ValueError as error:
        raise ConfigError(f"--defense={defense}: {error}") from error
    settings = dataclasses.replace(settings, stddev=stddev)
    workdir = pathlib.Path(str(config.workdir))
    numbers = config.evaluation_settings().image_numbers(dataset, settings.skip)
    certificates = evaluation.certify(
        model,
        dataset.test.images[numbers],
        dataset.test.labels[numbers],
        stddev,
        n0=settings.n0,
        n=settings.n,
        alpha=settings.alpha,
        seed=config.seed,
        indices=numbers,
        directory=workdir / "votes" / f"{defense}-{config.model}-{config.activation}",
        pool=pool,
    )
    if pool.is_chief:
        paths = reporting.write_certificates(
            workdir,
            certificates,
            settings,
            defense=defense,
            network=model_digest(model),
            flags=config.values(),
            versions=versions(),
            formats=config.figure_format,
        )
        log(f"\n{reporting.format_certificates(certificates, settings)}\n")
        paths += report_comparison(config)
        for path in paths:
            log(path)
    pool.barrier()
    return certificates


def assemble(config: Config) -> DevicePool:
    """Returns all devices of a run: its first use of them.

    Raises:
        ConfigError: if this is to be one of several workers and nobody says which.
    """
    try:
        with without_notices():
            enable_memory_growth()
            return DevicePool(make_strategy(config.strategy))
    except ValueError as error:
        raise ConfigError(f"--strategy={config.strategy}: {error}") from error


def load_data(config: Config) -> data.Dataset:
    """Loads the images of a run.

    Raises:
        ConfigError: if they are too small for an attack.
        DataError: if they cannot be loaded, or have no class of a name in the flags.
    """
    dataset = data.load(
        config.dataset,
        config.data_dir,
        config.seed,
        config.validation_fraction,
        config.image_size,
    )
    side = min(dataset.image_shape[:2])
    if config.resize and config.resize[-1] >= side:
        raise ConfigError(
            f"--resize must be below the side of the images, {side}. "
            f"Received: {','.join(map(str, config.resize))}"
        )
    for name in (config.image_class, *(config.target_class or ())):
        if name is not None:
            dataset.class_index(name)
    return dataset


def train_defense(
    config: Config, defense: str, dataset: data.Dataset, may_train: bool = True
) -> keras.Model:
    """Trains a defense, or looks it up; returns its classifier in float32.

    Raises:
        NotTrainedError: if `may_train` is false and a network of it is not there.
    """
    trainer, spec = _trainer(config, dataset, may_train), network_spec(config, dataset)
    try:
        return config.make_defense(defense).train(spec, trainer)
    except NotTrainedError as error:
        raise NotTrainedError(f"{defense}: {error}") from error


def train_member(config: Config, defense: str, number: int, dataset: data.Dataset) -> None:
    """Trains one member of an ensemble, unless that is done, for later runs."""
    ensemble = config.make_defense(defense)
    assert isinstance(ensemble, Ensemble)
    ensemble.train_member(number, network_spec(config, dataset), _trainer(config, dataset))


def _trainer(config: Config, dataset: data.Dataset, may_train: bool = True) -> Trainer:
    models_dir = pathlib.Path(str(config.models_dir))
    return Trainer(dataset, config.training_settings(), models_dir, config.strategy, may_train)

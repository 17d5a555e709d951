"""The flags of a run that belong to no attack, defense, noise or training."""

from __future__ import annotations

import dataclasses

from rse_tf.attacks import ATTACKS
from rse_tf.attacks.facts import GRADIENTS
from rse_tf.data import DATASETS, described
from rse_tf.defenses import DEFENSES, ENSEMBLES, is_defense
from rse_tf.models import MODELS, is_activation, is_network
from rse_tf.reporting import FIGURE_FORMATS
from rse_tf.training import STRATEGIES
from rse_tf.utils import rules
from rse_tf.utils.options import flag_field
from rse_tf.utils.rules import AT_LEAST_1, Rule

DATA, NETWORK, DEFENSE, TRAINING = "Data", "Network", "Defense", "Training"
ATTACK, SCORING, CERTIFICATION, RUN = "Attack", "Scoring", "Certification", "Run"


@dataclasses.dataclass(frozen=True, init=False)
class RunFields:
    """The fields of a `Config` but for its options; each is a flag of the same name."""

    dataset: str = flag_field(
        DATA,
        "mnist_5k",
        lambda: (
            f"{', '.join(map(described, DATASETS))}, another name of "
            "TensorFlow Datasets, or path/to/file.npz"
        ),
    )
    data_dir: str | None = flag_field(DATA, None, "TensorFlow Datasets directory")
    image_size: int | None = flag_field(
        DATA, None, "resize TensorFlow Datasets images to this size", rule=AT_LEAST_1
    )
    validation_fraction: float = flag_field(
        DATA,
        0.1,
        "share of the training images held out; with 0 the last epoch is kept",
        rule=rules.SHARE_BELOW_1,
    )

    model: str | None = flag_field(
        NETWORK,
        None,
        "network, or path/to/model.keras of your own",
        lambda: sorted(MODELS),
        rule=Rule(is_network, "one of these, or a file"),
    )
    activation: str = flag_field(
        NETWORK,
        "relu",
        "activation: relu, brelu, or a Keras name",
        rule=Rule(is_activation, "brelu or the name of a Keras activation"),
    )

    defense: tuple[str, ...] = flag_field(
        DEFENSE,
        ("none", "rse"),
        "one or several, with commas; an ensemble goes with any way to "
        "train its members: ensemble_bagging+rse; rse with the loss of another: "
        "rse+fast_training",
        lambda: sorted(DEFENSES | ENSEMBLES),
        rule=Rule(is_defense, "a defense"),
    )

    strategy: str = flag_field(TRAINING, "auto", "devices; auto: all GPUs here", lambda: STRATEGIES)

    attack: tuple[str, ...] = flag_field(
        ATTACK,
        ("carlini_wagner",),
        "one or several, with commas; none: clean images only",
        lambda: ("none", *sorted(ATTACKS)),
    )
    targeted: bool = flag_field(ATTACK, False, "aim at a random other class")
    target_class: tuple[str, ...] | None = flag_field(
        ATTACK, None, "aim at each of these classes in turn, by name"
    )
    image_class: str | None = flag_field(ATTACK, None, "attack images of this class only, by name")
    gradient: tuple[str, ...] = flag_field(
        ATTACK,
        ("mean_probability",),
        "of an ensemble: of a member (Grad. 1), of the members' "
        "mean loss (Grad. 2), probability or logits; reweighted: of those not fooled",
        lambda: GRADIENTS,
    )
    attack_draws: int = flag_field(
        ATTACK,
        1,
        "noise draws that the attacker averages at each step (the paper: 1)",
        rule=AT_LEAST_1,
    )
    substitute: str | None = flag_field(
        ATTACK,
        None,
        "transfer: a defense, trained from another seed, to attack instead",
        rule=Rule(is_defense, "a defense"),
    )
    num_images: int | None = flag_field(ATTACK, None, "test images to attack", rule=AT_LEAST_1)
    attack_batch_size: int = flag_field(ATTACK, 100, "images attacked at a time", rule=AT_LEAST_1)

    num_draws: tuple[int, ...] = flag_field(
        SCORING,
        (50,),
        "noise draws that the defense averages; several: rows for each",
        rule=AT_LEAST_1,
    )
    stop_error: float | None = flag_field(
        SCORING,
        None,
        "draw no more for an image once a change of its class is this unlikely",
        rule=rules.PROBABILITY,
    )
    eval_seeds: int = flag_field(
        SCORING, 3, "times each accuracy is measured, with fresh noise", rule=AT_LEAST_1
    )
    regularity: bool = flag_field(SCORING, False, "input gradient and Hessian of the clean loss")
    audit: bool = flag_field(SCORING, False, "attack again; say how far to trust the numbers")

    seed: int = flag_field(RUN, 0, "everything random follows from it", rule=rules.SEED)
    workdir: str | None = flag_field(
        RUN, None, "folder of this run; default runs/<data>-<model>-<attack>"
    )
    export_dir: str | None = flag_field(RUN, None, "rse_tf.export: where the SavedModel goes")
    models_dir: str | None = flag_field(RUN, None, "trained models; default beside the workdir")
    attacks_dir: str | None = flag_field(RUN, None, "attacked images; default inside the workdir")
    figure_format: tuple[str, ...] = flag_field(
        RUN, ("png",), "of the pictures", lambda: FIGURE_FORMATS
    )

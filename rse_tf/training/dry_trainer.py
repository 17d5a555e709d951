"""What a defense would train, without training it."""

from __future__ import annotations

import dataclasses

import keras

from rse_tf.models import NetworkSpec
from rse_tf.training.objectives import CrossEntropy, Objective
from rse_tf.training.trainer import Trainer


@dataclasses.dataclass(frozen=True)
class PlannedTraining:
    """One network that a defense needs.

    Attributes:
        name: of its folder.
        is_done: whether it is trained already.
        passes: passes of one image through the network that its training takes; a forward pass
            counts as 1, a pass back as 2.
    """

    name: str
    is_done: bool
    passes: float


@dataclasses.dataclass(frozen=True)
class DryTrainer(Trainer):
    """Trains nothing: notes what is asked of it, and returns untrained networks.

    Attributes:
        planned: what was asked, in order and each network once.
    """

    planned: dict[str, PlannedTraining] = dataclasses.field(default_factory=dict)

    def fit(
        self,
        spec: NetworkSpec,
        objective: Objective = CrossEntropy(),
        start: keras.Model | None = None,
    ) -> keras.Model:
        directory = self.directory(spec, objective, start)
        # The name of a network that follows from an untrained one is not known yet.
        is_own = spec.is_trained and start is None and objective == CrossEntropy()
        is_done = is_own or (directory / "model.keras").exists()
        passes = self.settings.epochs * len(self.dataset.train) * objective.passes
        planned = PlannedTraining(directory.name, is_done, 0.0 if is_done else float(passes))
        self.planned.setdefault(directory.name, planned)
        if is_done and not is_own:
            return keras.models.load_model(directory / "model.keras")
        return spec.build(dtype="float32")

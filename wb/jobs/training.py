"""Training of one architecture from scratch to a model file; the same call continues after an interruption."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from wb.core.architecture import Architecture
from wb.core.files import clear
from wb.core.progress import Progress
from wb.core.readings import Reading
from wb.data import Dataset
from wb.data import load as load_data
from wb.foreign.reading import load
from wb.jobs.config import TrainConfig
from wb.jobs.inputs import read_architecture
from wb.jobs.output import MODELS, check_ending, check_free
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, Step, save
from wb.models.network import Network
from wb.spaces.spaces import space_for
from wb.tasks.known import task_of
from wb.training.choose import recipe_for
from wb.training.fit import Recipe, pick_device
from wb.training.train import check_fits, score, train


@dataclass(frozen=True)
class Training:
    """What is trained, as `config` says, and where it goes."""

    config: TrainConfig
    out: Path
    force: bool = False

    def recipe(self, network: Architecture, data: Dataset) -> Recipe:
        """How it is trained."""
        config, parameters = self.config, count_parameters(network).value
        return recipe_for(
            config.training,
            parameters,
            data,
            config.epochs,
            learning_rate=config.learning_rate,
            batch=config.batch,
            convolutions=network.has_maps,
        )

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file, kept until training ends."""
        return self.out.with_name(self.out.name + ".checkpoint")

    def check(self) -> None:
        """Raises `BadOption` if the model cannot be written to `out`."""
        check_ending(self.out, MODELS)
        check_free(self.out, force=self.force)

    def data(self) -> Dataset:
        """The data."""
        return load_data(self.config.data, image_size=self.config.image_size, limit=self.config.limit)

    def network(self, data: Dataset) -> Architecture:
        """What is trained; of a given architecture no weights are taken, so that its classes are those of the data."""
        given = read_architecture(self.config.architecture) if self.config.architecture else None
        chosen = given or space_for(data, preset=self.config.preset).usual()
        return chosen.with_labels(data.classes) if chosen.head.classes == len(data.classes) else chosen

    def __call__(self, progress: Progress) -> tuple[Model, dict[str, Reading]]:
        """Trains and writes the model; returns it and its accuracies on the validation and test split.

        Raises:
            BadArtefact: `architecture` is neither an architecture nor a model.
            BadData: the data are damaged, or of another shape or number of classes.
            BadOption: an output that is no name for a model file, or exists already.
            StorageFailed: the file cannot be written.
            TrainingDiverged: the loss is NaN or infinite.
        """
        self.check()
        torch.set_num_threads(self.config.threads)
        progress("reading the data", 0, 0)
        data = self.data()
        chosen = self.network(data)
        teacher = self._teacher(data)
        progress("training", 0, self.config.epochs)
        model = train(
            chosen,
            data,
            self.recipe(chosen, data),
            seed=self.config.seed,
            checkpoint=self.checkpoint,
            report=lambda epoch, of, loss: progress(f"training, loss {loss:.3f}", epoch, of),
            teacher=teacher,
        )
        network = model.network(pick_device())
        splits = {"validation": data.validation, "test": data.test}
        readings = {name: score(network, split, task_of(chosen), pick_device()) for name, split in splits.items()}
        counted = {"params": count_parameters(chosen), "macs": count_macs(chosen)}
        model = model.then(Step(name="score", readings={**readings, **counted}))
        clear(self.checkpoint)
        clear(self.out)
        save(model, self.out, force=self.force)
        self.checkpoint.unlink(missing_ok=True)
        return model, readings

    def _teacher(self, data: Dataset) -> Network | None:
        """The network of the teacher, in eval mode; classes are those of the data, in their order."""
        if self.config.teacher is None:
            return None
        model = load(self.config.teacher)
        check_fits(model.architecture, data)
        return model.network(pick_device()).eval()

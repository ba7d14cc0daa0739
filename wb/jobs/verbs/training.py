"""Training of one architecture from scratch, or of a trained model further, to a model file.

The same call continues after an interruption.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadData
from wb.core.measures.metrics import METRICS, Metric
from wb.core.measures.readings import Reading
from wb.core.system.files import clear
from wb.data import Dataset
from wb.data import load as load_data
from wb.foreign.reading import load
from wb.jobs.frame.config import TrainConfig
from wb.jobs.frame.output import MODELS, check_ending, check_free
from wb.jobs.inputs import Say, read_architecture
from wb.jobs.verbs.start import read_start
from wb.models.counting import count_macs, count_parameters
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, Step, save
from wb.models.network import Network
from wb.scale.team import ALONE, Team
from wb.spaces.spaces import space_for
from wb.tasks.known import task_of
from wb.tasks.names import check_task
from wb.tasks.suited import check_fits
from wb.training.fit import Recipe, Report, pick_device
from wb.training.head import MUON, NewHead
from wb.training.kept import Kept, kept_beside
from wb.training.recipes.choose import gentle, recipe_for
from wb.training.train import Finetune, Keep, score, train


def _writing(architecture: Architecture, data: Dataset) -> Architecture:
    """The architecture for the vocabulary of `data`, where both are of texts: no weights are taken, so that it may be any."""
    if data.train.vocabulary is None or architecture.input.usual_tokens is None:
        return architecture
    return architecture.model_copy(update={"input": data.text})


class Begun(NamedTuple):
    """What is trained on `data`: `architecture` from scratch, or from the weights of `model`, all or all but the head.

    `known` is what the model makes of the validation split with its own head; None where it gets a new one.
    """

    architecture: Architecture
    data: Dataset
    model: Model | None = None
    known: Reading | None = None

    @property
    def new_head(self) -> bool:
        """Whether the head of the model is another than its own."""
        return self.model is not None and self.known is None


@dataclass(frozen=True)
class Training:
    """What is trained, as `config` says, and where it goes. Of the processes of a `team` the first one writes."""

    config: TrainConfig
    out: Path
    force: bool = False
    team: Team = ALONE

    def recipe(self, begun: Begun) -> Recipe:
        """How it is trained."""
        config, finetune = self.config, begun.model is not None
        recipe = recipe_for(
            config.training,
            count_parameters(begun.architecture).value,
            begun.data,
            config.passes(begun.data),
            finetune=finetune,
            learning_rate=config.learning_rate,
            batch=config.batch,
            convolutions=begun.architecture.has_maps,
        )
        if not finetune or config.freeze or config.learning_rate is not None:
            return recipe
        return gentle(recipe, max(stage.embed for stage in begun.architecture.stages))

    @property
    def checkpoint(self) -> Path:
        """The checkpoint file, kept until training ends."""
        return self.out.with_name(self.out.name + ".checkpoint")

    def check(self) -> None:
        """Raises `BadOption` if the model cannot be written to `out`."""
        check_ending(self.out, MODELS)
        if self.team.leads:
            check_free(self.out, force=self.force)

    def begin(self, say: Say) -> Begun:
        """The network and the data; `say` tells what becomes of the head of a trained model. Raises as the call does."""
        if self.config.model is not None:
            start = read_start(self.config, say)
            network = start.model.architecture.with_classes(start.data.classes)
            return Begun(network, start.data, start.model, start.known)
        data = load_data(self.config.data, image_size=self.config.image_size, limit=self.config.limit)
        given = read_architecture(self.config.architecture) if self.config.architecture else None
        chosen = given or space_for(data, preset=self.config.preset).usual()
        check_task(chosen, data)
        if chosen.head.classes != len(data.classes):  # no weights are taken, so that the head may be any
            own = f"{self.config.architecture} has {chosen.head.classes} classes"
            say(f"{own}, and {data.spec} {len(data.classes)}: those are learned")
        return Begun(_writing(chosen.with_classes(data.classes), data), data)

    def __call__(self, progress: Progress, say: Say) -> tuple[Model, dict[str, Reading]]:
        """Trains and writes the model; returns it and its accuracies on the validation and test split.

        Raises:
            BadArtefact: a file is neither an architecture nor a model.
            BadData: the data are damaged, or of another shape or number of classes.
            BadOption: an output that is no name for a model file, or exists already.
            ProcessLost: another process of the team has ended.
            StorageFailed: the file cannot be written.
            TrainingDiverged: the loss is NaN or infinite.
        """
        self.check()
        torch.set_num_threads(self.config.threads)
        progress("reading the data", 0, 0)
        begun = self.begin(say)
        teacher = self._teacher(begun.data)
        start = None if begun.model is None else self._start(begun, begun.model, progress, say)
        progress("training", 0, self.config.passes(begun.data))
        kept = Kept(kept_beside(self.out), begun.data) if self.config.keep_checkpoints else None
        if kept is not None and not self.checkpoint.exists():
            kept.clear(force=self.force)
        model = self._trained(
            begun, start, teacher, kept, lambda epoch, of, loss: progress(f"training, loss {loss:.3f}", epoch, of)
        )
        network = model.network(pick_device())
        splits = {"validation": begun.data.validation, "test": begun.data.test}
        task = task_of(model.architecture)
        readings = {name: score(network, split, task, pick_device(), team=self.team) for name, split in splits.items()}
        before = start.history[-1].readings.get("validation") if start is not None and begun.new_head else begun.known
        if before is not None:
            self._warn(before, readings["validation"], METRICS[task.metric], say)
        counted = {"params": count_parameters(model.architecture), "macs": count_macs(model.architecture)}
        model = model.then(Step(name="score", readings={**readings, **counted}))
        if self.team.leads:
            clear(self.checkpoint)
            clear(self.out)
            save(model, self.out, force=self.force)
            self.checkpoint.unlink(missing_ok=True)
        return model, readings

    def _start(self, begun: Begun, model: Model, progress: Progress, say: Say) -> Model:
        """The model with the head that it is trained with; `say` tells what a new one knows of the data."""
        if not begun.new_head:
            return model
        progress("fitting the new head", 0, 0)
        muon = self.recipe(begun).optimizer == "muon" and not self.config.freeze
        start = NewHead(begun.data, self.config.seed, MUON if muon else 1.0)(model)
        title = METRICS[task_of(start.architecture).metric].title
        known = start.history[-1].readings["validation"].text()
        say(f"the new head: {title} {known} on the validation {begun.data.validation.noun} before training")
        return start

    def _warn(self, before: Reading, after: Reading, metric: Metric, say: Say) -> None:
        """Says where training made the model worse, by more than the validation split leaves open."""
        if metric.cost(after) > metric.cost(before) and not after.overlaps(before):
            ways = "fewer --epochs or a lower --learning-rate change" + (
                " less" if self.config.freeze else " less, --freeze trains the head alone"
            )
            say(f"training made it worse: {metric.title} {before.text()} before, {after.text()} after; {ways}")

    def _trained(
        self, begun: Begun, start: Model | None, teacher: Network | None, keep: Keep | None, report: Report
    ) -> Model:
        """The trained model."""
        recipe, seed = self.recipe(begun), self.config.seed
        if start is None or begun.model is None:
            return train(
                begun.architecture,
                begun.data,
                recipe,
                seed=seed,
                checkpoint=self.checkpoint,
                report=report,
                teacher=teacher,
                keep=keep,
                team=self.team,
            )
        tuned = Finetune(
            begun.data,
            recipe,
            teacher,
            seed,
            report,
            self.checkpoint,
            identity=f", from {begun.model.fingerprint()}, new head {begun.new_head}, freeze {self.config.freeze}",
            freeze=self.config.freeze,
            keep=keep,
            team=self.team,
        )
        return tuned(start)

    def _teacher(self, data: Dataset) -> Network | None:
        """The network of the teacher, in eval mode; classes are those of the data, in their order."""
        if self.config.teacher is None:
            return None
        model = load(self.config.teacher)
        check_fits(model.architecture, data)
        own = data.train.vocabulary
        if own is not None and (
            tokenizer_of(model.history) != own.text or int(model.architecture.layout.shape[0]) < own.length
        ):
            raise BadData(
                f"the teacher {self.config.teacher} reads texts by another tokenizer, or shorter ones, so that the same ids are "
                "other words to it; train both with one --tokenizer FILE"
            )
        return model.network(pick_device()).eval()

"""A job that changes a model in stages, from start to end: a pass, fine-tuning, then the next; final readings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from torch import Tensor

from wb.compress.staged.record import Epoch, Name, Stage, StagedRecord
from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.precision import TRAINED, precisions, with_precisions
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.counting.count import energy_by_part
from wb.export.graph import export
from wb.hardware.device import parse_device
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import measured
from wb.jobs.frame.job import Job
from wb.jobs.frame.tune import Tuning, recipes, signed, tuned, tuning
from wb.models.model import Model, check_weights, load, save
from wb.models.passes.base import Pass, apply
from wb.tasks.suited import check_fits
from wb.training.fit import pick_device
from wb.training.recipes.recipe import Recipe
from wb.training.train import Finetune

S = TypeVar("S", bound=StagedRecord[Any])


class Settings(Tuning, Protocol):
    """What configurations of such jobs say: epochs after each stage, how they are trained, where readings are taken."""

    seed: int
    device: str
    threads: int


class StagedJob(Job[S]):
    """One such job: model, data and record; `out` is the model file to write, its ONNX graph comes beside it."""

    def __init__(
        self, record: S, out: Path, progress: Progress, model: Model, data: Dataset, *, force: bool = False
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.model, self.data = model, data

    @property
    @abstractmethod
    def names(self) -> Sequence[Name]:
        """The stages in order."""

    @abstractmethod
    def step(self, name: Name) -> Pass:
        """The pass of a stage."""

    @property
    def settings(self) -> Settings:
        """The settings of the job."""
        return cast(Settings, self.record.config)

    def recipe(self, name: Name, architecture: Architecture) -> Recipe:
        """How the network of a stage is fine-tuned."""
        del name
        return tuning(self.settings, architecture, self.data)

    def noted(self, name: Name, prepared: Model) -> dict[str, object]:
        """What the record says of the converted model of a stage beside its readings, by field."""
        del name, prepared
        return {}

    def make(self) -> None:
        """Makes every stage, then takes the final readings."""
        models: dict[str, Model] = {}
        model = self.model
        for number, name in enumerate(self.names):
            with self.timed(name):
                model = models[name] = self._stage(number, name, model)
        with self.timed("final readings"):
            changes = self._conclude(models)
        self.note(**changes)

    def files(self) -> Mapping[str, Path]:
        """The model and its graph."""
        return {self._staged.with_suffix(".onnx").name: self.out.with_suffix(".onnx"), self._staged.name: self.out}

    @cached_property
    def teacher(self) -> Callable[[Tensor], Tensor]:
        """The original network, which every stage is distilled from."""
        return self.model.network(pick_device())

    @cached_property
    def assess(self) -> Assessor:
        """The assessor that reads whole models."""
        config = self.settings
        return Assessor(parse_device(config.device, threads=config.threads), self.record.pace, seed=config.seed)

    def _stage(self, number: int, name: Name, model: Model) -> Model:
        """The fine-tuned model of a stage; if it is in `work` already, it is read back."""
        if (self.work / f"stage-{number}.safetensors").exists():
            return load(self.work / f"stage-{number}.safetensors")
        model = self._prepared(number, name, model)
        return self._tuned(number, name, model) if self.settings.finetune else model

    def _prepared(self, number: int, name: Name, model: Model) -> Model:
        """The converted model of a stage before fine-tuning; the stage and its readings are in the record afterwards."""
        path = self.work / f"prepared-{number}.safetensors"
        if not path.exists():
            self.progress(f"{name}, converting", 0, 0)
            save(apply(self.step(name), model), path, force=True)
        prepared = load(path)
        if len(self.record.stages) == number:
            self.progress(f"{name}, reading", 0, 0)
            stage = Stage(
                name=name,
                architecture=prepared.architecture,
                energy=energy_by_part(prepared.architecture),
                before=self.assess({name: prepared}, {self.record.quality: self.data.validation}, timed=False)[name],
            )
            self.note(stages=(*self.record.stages, stage), **self.noted(name, prepared))
        return prepared

    def _tuned(self, number: int, name: Name, model: Model) -> Model:
        recipe = self.recipe(name, model.architecture)

        def report(epoch: int, of: int, loss: float) -> None:
            self.progress(f"{name}, fine-tuning, loss {loss:.3f}", epoch, of)
            stage = self.record.stages[number]
            earlier = [one for one in stage.epochs if one.number < epoch]  # one may be trained again
            stage = stage.model_copy(update={"epochs": (*earlier, Epoch(number=epoch, loss=loss))})
            self.note(stages=(*self.record.stages[:number], stage))

        tune = Finetune(self.data, recipe, self.teacher, self.settings.seed, report)
        what = f"{name}, fine-tuning"
        return tuned(tune, model, self.work, f"stage-{number}", lambda: self.progress(what, 0, recipe.epochs))

    def _conclude(self, models: Mapping[str, Model]) -> dict[str, object]:
        """Reads all models together, then the test split; saves the result in `work` and returns the record's changes."""
        self.progress("final readings", 0, 0)
        *_, (last, final) = models.items()
        found = self.assess({"original": self.model, **models}, {self.record.quality: self.data.validation})
        ends = {"original": self.model, "final": final}
        read = self.assess(ends, {"test": self.data.test}, timed=False)
        tests = {name: readings["test"] for name, readings in read.items()}
        final = signed(final, {**found[last], "test": tests["final"]})
        save(final, self._staged, force=True)
        export(final, self._staged.with_suffix(".onnx"), force=True)
        return {
            "stages": tuple(stage.model_copy(update={"after": found[stage.name]}) for stage in self.record.stages),
            "original": found["original"],
            "original_test": tests["original"],
            "final_test": tests["final"],
            "model": self.out.name,
            "graph": self.out.with_suffix(".onnx").name,
        }

    @property
    def _staged(self) -> Path:
        """The file in `work` where the result waits to be published."""
        return self.work / f"result{self.out.suffix}"


def checked(model: Model, name: str, data: Dataset) -> Model:
    """The model that such a job works on: in floating point.

    A model kept in int8 or int4 has its weights in full precision, so it is read as fp32.

    Raises:
        BadArtefact: weights that are not finite.
        BadData: the data do not fit the model.
    """
    check_fits(model.architecture, data)
    check_weights(model.weights, name)
    quantized = {group for group, precision in precisions(model.architecture).items() if precision not in TRAINED}
    return Model(with_precisions(model.architecture, dict.fromkeys(quantized, "fp32")), model.weights, model.history)


def record_of(kind: type[S], config: Any, model: Model, name: str, data: Dataset, out: Path, progress: Progress) -> S:
    """The record of the job beside `out`, or a new one with the original's readings; nothing is written.

    Raises:
        BadArtefact: another job's files lie beside `out`.
    """
    record = taken_up(kind, config, {"model": model.fingerprint(), "data": data.fingerprint}, out)
    if record is not None:
        return record
    told = partial(progress, "measuring the original")
    fields, readings = measured(config, config.seed, model, data, told, timed=False)
    return kind(
        **fields,
        recipes=recipes(config, model.architecture, data),
        source=name,
        energy=energy_by_part(model.architecture),
        first=readings,
    )

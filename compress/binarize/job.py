"""`wb binarize` from start to end: hash attention, low-bit weights, fine-tuning after each, final readings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path

from torch import Tensor

from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.plan import stages_of, step_of
from wb.compress.binarize.record import Binarization, Epoch, Name, Stage
from wb.core.commands.progress import Progress
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.counting.count import energy_by_part
from wb.export.graph import export
from wb.hardware.device import parse_device
from wb.jobs.frame.job import Job
from wb.jobs.frame.tune import signed, tuned, tuning
from wb.models.model import Model, load, save
from wb.models.passes.base import Pass, apply
from wb.training.fit import pick_device
from wb.training.train import Finetune


class BinarizeJob(Job[Binarization]):
    """One binarization: model, data and record; `out` is the model file to write, its ONNX graph comes beside it."""

    record_type = Binarization
    page = "wb.compress.binarize.report:page"

    def __init__(
        self, record: Binarization, out: Path, progress: Progress, model: Model, data: Dataset, *, force: bool = False
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.model, self.data = model, data

    def make(self) -> None:
        """Makes every stage, then takes the final readings."""
        models: dict[str, Model] = {}
        model = self.model
        for number, name in enumerate(stages_of(self.config)):
            with self.timed(name):
                model = models[name] = self._stage(number, name, model)
        with self.timed("final readings"):
            changes = self._conclude(models)
        self.note(**changes)

    def files(self) -> Mapping[str, Path]:
        """The model and its graph."""
        return {self._staged.with_suffix(".onnx").name: self.out.with_suffix(".onnx"), self._staged.name: self.out}

    @property
    def config(self) -> BinarizeConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def teacher(self) -> Callable[[Tensor], Tensor]:
        """The original network, which every stage is distilled from."""
        return self.model.network(pick_device())

    @cached_property
    def assess(self) -> Assessor:
        """The assessor that reads whole models."""
        device = parse_device(self.config.device, threads=self.config.threads)
        return Assessor(device, self.record.pace, seed=self.config.seed)

    def _stage(self, number: int, name: Name, model: Model) -> Model:
        """The fine-tuned model of a stage; if it is in `work` already, it is read back."""
        if (self.work / f"stage-{number}.safetensors").exists():
            return load(self.work / f"stage-{number}.safetensors")
        model = self._prepared(number, name, model)
        return self._tuned(number, name, model) if self.config.finetune else model

    def _prepared(self, number: int, name: Name, model: Model) -> Model:
        """The converted model of a stage before fine-tuning; the stage and its readings are in the record afterwards."""
        path = self.work / f"prepared-{number}.safetensors"
        if not path.exists():
            self.progress(f"{name}, converting", 0, 0)
            save(apply(self._pass(name), model), path, force=True)
        prepared = load(path)
        if len(self.record.stages) == number:
            self.progress(f"{name}, reading", 0, 0)
            stage = Stage(
                name=name,
                architecture=prepared.architecture,
                energy=energy_by_part(prepared.architecture),
                before=self.assess({name: prepared}, {self.record.quality: self.data.validation}, timed=False)[name],
            )
            self.note(stages=(*self.record.stages, stage))
        return prepared

    def _pass(self, name: Name) -> Pass:
        def report(block: str, _: object) -> None:
            self.progress(f"{name}, converted {block}", 0, 0)

        return step_of(name, self.config, self.model.architecture, self.data, report)

    def _tuned(self, number: int, name: Name, model: Model) -> Model:
        recipe = tuning(self.config, model.architecture, self.data)

        def report(epoch: int, of: int, loss: float) -> None:
            self.progress(f"{name}, fine-tuning, loss {loss:.3f}", epoch, of)
            stage = self.record.stages[number]
            earlier = [one for one in stage.epochs if one.number < epoch]  # one may be trained again
            stage = stage.model_copy(update={"epochs": (*earlier, Epoch(number=epoch, loss=loss))})
            self.note(stages=(*self.record.stages[:number], stage))

        tune = Finetune(self.data, recipe, self.teacher, self.config.seed, report)
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

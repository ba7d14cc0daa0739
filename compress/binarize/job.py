"""`wb binarize` from start to end: hash attention, low-bit weights, fine-tuning after each, final readings.

Everything that is done is kept in a folder beside the output until the end, so that the same command continues what was
interrupted; the last thing is to write the results to their places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from wb.compress.binarize.plan import stages_of, step_of
from wb.compress.binarize.record import Config, Epoch, Name, Record, Stage
from wb.compress.binarize.report import write_report
from wb.core.errors import WbError
from wb.core.files import place
from wb.data import Dataset
from wb.export.assess import Assessor
from wb.export.counting.count import energy_by_part
from wb.export.graph import export
from wb.hardware.device import parse_device
from wb.jobs.job import Recorded
from wb.jobs.work import locked
from wb.models.model import Model, load, save
from wb.models.passes import Pass, apply
from wb.training.fit import Recipe, pick_device
from wb.training.train import Finetune

Report = Callable[[str, int, int], None]  # what is done, how much of it, of how much


@dataclass
class Job(Recorded[Record]):
    """One binarization with everything it needs; calling it does what is not done yet and gives the finished record.

    `out` is the model file to write; beside it come the ONNX graph, record and report and, while it lasts, the folder of
    what is done. `report` hears what is being done.
    """

    record: Record
    model: Model
    data: Dataset
    out: Path
    report: Report
    force: bool = False

    def __call__(self) -> Record:
        """Binarizes.

        Raises:
            BadArtefact: something else lies in the folder beside the output.
            BadOption: another process is at it, a file is in the way, or sizes of hash functions do not fit.
            ExportDiffers: a graph does not compute what its model does.
            StorageFailed: something could not be written; what is done stays.
            TrainingDiverged: the loss is NaN or infinite.
        """
        torch.set_num_threads(self.config.threads)
        abandon = self._open()
        with locked(self.work):
            self._note()
            try:
                if not self.record.finished:
                    self._make()
            except WbError:
                if not self.record.stages:  # there is nothing to continue
                    abandon()
                raise
            self._publish()
        return self.record

    @property
    def config(self) -> Config:
        """The settings."""
        return self.record.config

    @cached_property
    def teacher(self) -> Callable[[Tensor], Tensor]:
        """The original network, which every stage is distilled from."""
        return self.model.network(pick_device())

    @cached_property
    def assess(self) -> Assessor:
        """Reads whole models."""
        device = parse_device(self.config.device, threads=self.config.threads)
        return Assessor(device, self.record.pace, seed=self.config.seed)

    # ------------------------------------------------------------------------------------------------------- stages

    def _make(self) -> None:
        """Everything up to the result, which lies in the folder then."""
        models: dict[str, Model] = {}
        model = self.model
        for number, name in enumerate(stages_of(self.config)):
            with self._timed(name):
                model = models[name] = self._stage(number, name, model)
        with self._timed("final readings"):
            self._conclude(models)
        self._note()  # with the time it took

    def _stage(self, number: int, name: Name, model: Model) -> Model:
        """The model of a stage, fine-tuned; what is there already is read back."""
        path = self.work / f"stage-{number}.safetensors"
        if not path.exists():
            model = self._prepared(number, name, model)
            save(self._tuned(number, name, model) if self.config.finetune else model, path, force=True)
        return load(path)

    def _prepared(self, number: int, name: Name, model: Model) -> Model:
        """The model of a stage before fine-tuning, with the stage in the record, readings and all."""
        path = self.work / f"prepared-{number}.safetensors"
        if not path.exists():
            self.report(f"{name}, converting", 0, 0)
            save(apply(self._pass(name), model), path, force=True)
        prepared = load(path)
        if len(self.record.stages) == number:
            self.report(f"{name}, reading", 0, 0)
            stage = Stage(
                name=name,
                architecture=prepared.architecture,
                energy=energy_by_part(prepared.architecture),
                before=self.assess({name: prepared}, {"acc": self.data.validation}, timed=False)[name],
            )
            self._note(stages=(*self.record.stages, stage))
        return prepared

    def _pass(self, name: Name) -> Pass:
        def heard(block: str, _: object) -> None:
            self.report(f"{name}, converted {block}", 0, 0)

        return step_of(name, self.config, self.model.architecture, self.data, heard)

    def _tuned(self, number: int, name: Name, model: Model) -> Model:
        recipe = Recipe(epochs=self.config.finetune, learning_rate=self.config.learning_rate)

        def heard(epoch: int, of: int, loss: float) -> None:
            self.report(f"{name}, fine-tuning, loss {loss:.3f}", epoch, of)
            stage = self.record.stages[number]
            told = [one for one in stage.epochs if one.number < epoch]  # one may be trained again
            stage = stage.model_copy(update={"epochs": (*told, Epoch(number=epoch, loss=loss))})
            self._note(stages=(*self.record.stages[:number], stage))

        self.report(f"{name}, fine-tuning", 0, recipe.epochs)
        checkpoint = self.work / f"stage-{number}.checkpoint"
        return apply(Finetune(self.data, recipe, self.teacher, self.config.seed, heard, checkpoint), model)

    # ---------------------------------------------------------------------------------------------------------- end

    def _conclude(self, models: Mapping[str, Model]) -> None:
        """Reads all models together, then the test split; the record last: where that has a model, the files are there."""
        self.report("final readings", 0, 0)
        *_, (last, final) = models.items()
        found = self.assess({"original": self.model, **models}, {"acc": self.data.validation})
        ends = {"original": self.model, "final": final}
        read = self.assess(ends, {"test": self.data.test}, timed=False)
        tests = {name: readings["test"] for name, readings in read.items()}
        step = final.history[-1].model_copy(update={"readings": {**found[last], "test": tests["final"]}})
        signed = replace(final, history=(*final.history[:-1], step))
        save(signed, self._staged, force=True)
        export(signed, self._staged.with_suffix(".onnx"), force=True)
        self._note(
            stages=tuple(stage.model_copy(update={"after": found[stage.name]}) for stage in self.record.stages),
            original=found["original"],
            original_test=tests["original"],
            final_test=tests["final"],
            model=self.out.name,
            graph=self.out.with_suffix(".onnx").name,
        )

    @property
    def _staged(self) -> Path:
        """Where the result waits to be published."""
        return self.work / f"result{self.out.suffix}"

    def _publish(self) -> None:
        """Puts model, graph, record and report in their places; the folder goes last, in one step."""
        place(self._staged, self.out, force=self.force)
        place(self._staged.with_suffix(".onnx"), self.out.with_suffix(".onnx"), force=self.force)
        self._close(write_report)

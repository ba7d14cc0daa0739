"""The end of a fusion: fine-tuning with all parents as teachers, and readings of every model from its exported graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.core.statistics.verdict import worsened
from wb.core.system.files import scratch
from wb.data import Dataset, Split
from wb.export.assess import Assessor
from wb.export.counting.count import count_model
from wb.export.graph import export
from wb.export.run import BATCH, Runner
from wb.export.score import checked, score
from wb.foreign.reading import load
from wb.fusion.curve import point
from wb.fusion.forms.compatible import adapted, classes_ordered
from wb.fusion.forms.vocabularies import differ
from wb.fusion.job.record import COUNTED, Fusion, Kept, ParentRow
from wb.hardware.device import Device
from wb.jobs.frame.tune import signed, tuned, tuning
from wb.models.counting import count_macs, count_parameters
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, save
from wb.tasks.base import Grades, Task
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.train import Finetune

Votes = dict[str, NDArray[Any]]  # split -> votes (n, ...)


@dataclass(frozen=True)
class Scored:
    """The readings of a model, and for each split which examples it answers correctly; of passages, which are not right, none."""

    readings: Kept
    right: Mapping[str, Sequence[bool]]

    def against(self, other: Scored) -> Paired | None:
        """The paired comparison of this model and another on the same test images."""
        return Paired.of(self.right["test"], other.right["test"]) if self.right and other.right else None


class Parents:
    """The parents' files, read one at a time, with classes in the order of `like` and its normalisation of images.

    They read texts as the `tokenizer` of the anchor writes them.
    """

    def __init__(self, paths: Sequence[Path], like: Architecture, tokenizer: str | None = None) -> None:
        self.paths, self.like, self.tokenizer = paths, like, tokenizer

    def __iter__(self) -> Iterator[Model]:
        for path in self.paths:
            yield adapted(load(path), self.like, self.tokenizer)

    def as_they_are(self) -> Iterator[tuple[Model, str | None]]:
        """The parents with their own tokens, and the tokenizer where it is another than the anchor's."""
        for path in self.paths:
            model = load(path)
            own = tokenizer_of(model.history)
            if differ(own, self.tokenizer):
                yield classes_ordered(model, self.like), own
            else:
                yield adapted(model, self.like), None

    def __len__(self) -> int:
        return len(self.paths)


class Ensemble:
    """The ensemble of the parents on a batch (B, ...); the task combines their outputs."""

    def __init__(self, parents: Parents, device: torch.device) -> None:
        self.networks = [model.network(device) for model in parents]
        self.task = task_of(parents.like)

    def __call__(self, images: Tensor) -> Tensor:
        return self.task.together([network(images) for network in self.networks])


@dataclass(frozen=True)
class Finish:
    """What the end of a fusion needs; finished pieces are kept in the folder `work`.

    `staged` and `graph` are the files where the result waits to be published, as a model and as an ONNX graph.
    """

    parents: Parents
    data: Dataset
    work: Path
    staged: Path
    graph: Path
    device: Device
    progress: Progress

    def finetuned(self, record: Fusion) -> None:
        """Fine-tunes the fused model in `work`, unless that was done already or not asked for."""
        config = record.config
        if not config.finetune:
            return
        fused = load(self.work / "fused.safetensors")
        tune = Finetune(
            self.data,
            tuning(config, fused.architecture, self.data),
            Ensemble(self.parents, pick_device()),
            config.settings.seed,
            lambda epoch, of, loss: self.progress(f"fine-tuning, loss {loss:.3f}", epoch, of),
        )
        tuned(tune, fused, self.work, "tuned", lambda: self.progress("fine-tuning", 0, config.finetune))

    def conclude(self, record: Fusion) -> dict[str, Any]:
        """Reads all models, the test split for the first time, saves the result in `work` and returns the record's changes.

        Of the model as it was fused and as it was fine-tuned, the better one on validation examples is taken.

        Raises:
            BadArtefact: scores that are not finite.
            ExportDiffers: a graph does not compute what its model does.
        """
        rows, ensemble = self._parents()
        found: dict[str, Any] = {"ensemble": ensemble.readings}
        if (self.work / "average.safetensors").exists():
            self.progress("final readings, average", 0, 0)
            average = {"average": load(self.work / "average.safetensors")}
            found["average"] = Assessor(self.device)(average, {self._task.metric: self.data.validation}, timed=False)[
                "average"
            ]
        model = load(self.work / "fused.safetensors")
        final = one_shot = self._read("fused", model)
        found["one_shot"] = one_shot.readings
        if record.config.finetune:
            trained = load(self.work / "tuned.safetensors")
            tuned = self._read("fine-tuned", trained)
            found |= {"tuned": tuned.readings, "against_untuned": tuned.against(one_shot)}
            if record.points:
                share = 1 - record.parents[record.anchor].share
                found["points"] = {**record.points, "fine-tuned": point(trained, self.data.validation, share)}
            metric = self._task.metric
            if worsened({"": one_shot.readings[metric]}, {"": tuned.readings[metric]}):
                found["untuned"] = True
                export(model, self.graph, force=True)
            else:
                model, final = signed(trained, found["one_shot"], step=-2), tuned
        save(signed(model, final.readings), self.staged, force=True)
        parents = with_readings(record.parents, [row.readings for row in rows])
        found["parents"] = tuple(
            parent.model_copy(update={"paired": final.against(row)}) for parent, row in zip(parents, rows, strict=True)
        )
        found["against_ensemble"] = final.against(ensemble) if ensemble.right else None
        return found

    @property
    def _splits(self) -> dict[str, Split]:
        return {self._task.metric: self.data.validation, "test": self.data.test}

    def _written(self, architecture: Architecture, tokenizer: str | None) -> dict[str, Split]:
        """The splits as a parent with that tokenizer of its own reads them."""
        if tokenizer is None:
            return self._splits
        from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

        longest = int(architecture.layout.shape[0])
        own = Vocabulary(tokenizer, longest, architecture.input.usual_tokens or longest)
        return {name: split.written_by(own) for name, split in self._splits.items()}

    @property
    def _task(self) -> Task:
        return task_of(self.parents.like)

    def _read(self, name: str, model: Model) -> Scored:
        """The readings of a model from its exported graph; the last exported graph is the one to publish."""
        self.progress(f"final readings, {name}", 0, 0)
        export(model, self.graph, force=True)
        return self._of_graph(model, self.graph)[0]

    def _parents(self) -> tuple[list[Scored], Scored]:
        """The readings of each parent and of their ensemble."""
        if self.parents.like.head.foresees:
            return self._foreseeing()
        rows: list[Scored] = []
        total: Votes = {}
        for i, (model, tokenizer) in enumerate(self.parents.as_they_are()):
            self.progress("final readings, parents", i, len(self.parents))
            with scratch() as folder:
                path = folder / "parent.onnx"
                export(model, path)
                scored, votes = self._of_graph(model, path, self._written(model.architecture, tokenizer))
            rows.append(scored)
            total = {name: total.get(name, 0) + part for name, part in votes.items()}
        if len(rows) < 2:
            return rows, Scored({}, {})
        return rows, self._scored(total, _sums([row.readings for row in rows]))

    def _foreseeing(self) -> tuple[list[Scored], Scored]:
        """The same of networks that foresee tokens: their scores, for every token, are too many to be held."""
        with scratch() as folder:
            paths, rows = list[Path](), list[Scored]()
            for i, model in enumerate(self.parents):
                self.progress("final readings, parents", i, len(self.parents))
                paths.append(folder / f"{i}.onnx")
                export(model, paths[-1])
                rows.append(self._of_graph(model, paths[-1])[0])
            if len(rows) < 2:
                return rows, Scored({}, {})
            found = {name: self._together(paths, split) for name, split in self._splits.items()}
        return rows, Scored({**_sums([row.readings for row in rows]), **found}, {})

    def _together(self, paths: Sequence[Path], split: Split) -> Reading:
        """The reading of an ensemble of graphs, some passages at a time."""
        runs, each = [Runner(path, self.device) for path in paths], []
        for index in split.together(BATCH):
            votes = [self._task.votes(run(split.feed(index))) for run in runs]
            each.append(self._task.grade(np.log(np.mean(votes, axis=0)), split.labels[index]).each)
        return self._task.reading(Grades(np.concatenate(each), split.labels), self.device.here.text)

    def _of_graph(self, model: Model, path: Path, splits: Mapping[str, Split] | None = None) -> tuple[Scored, Votes]:
        """The readings of the graph of `model` at `path`, and its votes in the ensemble, but for those on passages.

        `splits` are as the model reads them, None: as the fused one does.
        """
        if model.architecture.head.foresees:
            readings = {name: score(path, split, self._task, self.device) for name, split in self._splits.items()}
            return Scored({**count_model(model.architecture, path), **readings}, {}), {}
        read = splits or self._splits
        found = {name: checked(path, split, self._task, self.device) for name, split in read.items()}
        scored = self._scored(found, count_model(model.architecture, path))
        return scored, {name: self._task.votes(given) for name, given in found.items()}

    def _scored(self, outputs: Mapping[str, NDArray[Any]], readings: Kept) -> Scored:
        """`readings` together with those of the outputs (n, ...) for each split."""
        grades = {name: self._task.grade(given, self._splits[name].labels) for name, given in outputs.items()}
        found = {name: self._task.reading(grade, self.device.here.text) for name, grade in grades.items()}
        return Scored({**readings, **found}, {name: grade.each.tolist() for name, grade in grades.items()})


def counted(architecture: Architecture) -> Kept:
    """The readings that need no data: parameters and MACs."""
    return {"params": count_parameters(architecture), "macs": count_macs(architecture)}


def with_readings(parents: Sequence[ParentRow], rows: Sequence[Kept]) -> tuple[ParentRow, ...]:
    """`parents` with their readings."""
    return tuple(one.model_copy(update={"readings": row}) for one, row in zip(parents, rows, strict=True))


def _sums(rows: Sequence[Kept]) -> dict[str, Reading]:
    """The costs of all parents together, as the ensemble's."""
    return {
        name: rows[0][name].model_copy(update={"value": sum(row[name].value for row in rows)})
        for name in (*COUNTED, "size")
    }

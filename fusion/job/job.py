"""`wb fuse` from start to end: fusing, curves between the parents, fine-tuning, final readings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, reason
from wb.data import Dataset, Split
from wb.export.graph import export
from wb.foreign.reading import load, read_header
from wb.fusion.curve import interpolate, point
from wb.fusion.fuse import Fused, fuse
from wb.fusion.job.config import CALIBRATION, FuseConfig
from wb.fusion.job.finish import Finish, Parents, counted, with_readings
from wb.fusion.job.record import Fusion, Line, ParentRow
from wb.fusion.job.verdict import remarks
from wb.fusion.plans import thinned
from wb.fusion.settings import Settings
from wb.hardware.device import Device, parse_device
from wb.jobs.frame.job import Job
from wb.jobs.frame.tune import signed
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, save
from wb.tasks.known import task_of
from wb.training.fit import pick_device
from wb.training.refit.judged import Refit
from wb.training.refit.keep import HELD, fitted_on, nearer


class FuseJob(Job[Fusion]):
    """One fusion: parents, data and record; `out` is the model file to write, its graph comes beside it.

    `parents` are the models' files; `data` has its classes in the order of the anchor's.
    """

    record_type = Fusion
    page = "wb.fusion.job.report:page"

    def __init__(
        self,
        record: Fusion,
        out: Path,
        progress: Progress,
        parents: Sequence[Path],
        data: Dataset | None,
        *,
        force: bool = False,
    ) -> None:
        super().__init__(record, out, progress, force=force)
        self.parents, self.data = parents, data

    def make(self) -> None:
        """Fuses, reads the curves between the parents, and reads all models."""
        if self.record.architecture is None:
            self._fuse()
        if self.data is None:
            self._count()
        else:
            self._read(self.data)

    def files(self) -> Mapping[str, Path]:
        """The model and its graph; a job begun by an older version has no graph."""
        graph = self.record.graph
        return {**({} if graph is None else {self._graph.name: self.out.parent / graph}), self.staged.name: self.out}

    @property
    def config(self) -> FuseConfig:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """The runtime that accuracies are read with."""
        return parse_device(self.config.device, threads=self.config.threads)

    @cached_property
    def _models(self) -> Parents:
        """The parents, adapted to the anchor's classes, images and tokens."""
        _, history = read_header(self.parents[self.record.anchor])
        return Parents(self.parents, self.record.parents[self.record.anchor].architecture, tokenizer_of(history))

    @property
    def staged(self) -> Path:
        """The file in `work` where the result waits to be published."""
        return self.work / f"result{self.out.suffix}"

    @property
    def _graph(self) -> Path:
        """The file in `work` where the result's graph waits to be published."""
        return self.work / "result.onnx"

    def _count(self) -> None:
        """The end without data: the result is saved already, and only counted metrics are read."""
        rows = [counted(parent.architecture) for parent in self.record.parents]
        if self.record.architecture is not None:
            one_shot = counted(self.record.architecture)
            self.note(parents=with_readings(self.record.parents, rows), one_shot=one_shot, **self._results)

    def _read(self, data: Dataset) -> None:
        """The end with data: fine-tuning, and final readings of all models."""
        finish = Finish(self._models, data, self.work, self.staged, self._graph, self.device, self.progress)
        if self.config.finetune:
            with self.timed("fine-tuning"):
                finish.finetuned(self.record)
        with self.timed("final readings"):
            changes = finish.conclude(self.record)
        verdicts = tuple(remark.text for remark in remarks(self.record.model_copy(update=changes)))
        self.note(**changes, verdicts=verdicts, **self._results)

    @property
    def _results(self) -> dict[str, str]:
        """The names of the published files."""
        return {"model": self.out.name, "graph": self.out.with_suffix(".onnx").name}

    def _fuse(self) -> None:
        """Fuses and, with data, reads the curves; the record is written last, so that a recorded fusion has its files."""
        parents = [parent.architecture for parent in self.record.parents]
        images = calibration(self.config, self.data, parents)
        fusion, refit = self._kept(self.fusion(self.config.settings, images, self.config.to), parents)
        _check(fusion.model)
        self.took(fusion.seconds)
        self._save(fusion)
        notes = [*self.record.notes, *fusion.notes]
        if self.config.calib is not None and not fusion.looked:
            notes.append("no image was looked at, for the models have a common origin, which says what goes with what")
        changes: dict[str, Any] = {
            "architecture": fusion.model.architecture,
            "parents": _described(self.record.parents, fusion),
            "images": fusion.looked,
            "notes": tuple(notes),
            "refit": refit,
        }
        if self.data is not None and len(self.parents) > 1:
            split, plain = self.data.validation, self.config.settings.method == "vanilla"
            with self.timed("curves"):
                changes["points"] = {"one shot": point(fusion.model, split, 1 - fusion.shares[fusion.anchor])}
                lines = [self._line("vanilla" if plain else "aligned", fusion, split)]
                del fusion  # before the parents are read again
                ends = enumerate(self._models)
                changes["ends"] = tuple(point(model, split, float(i != self.record.anchor)) for i, model in ends)
                changes["lines"] = (*([] if plain or not self.comparable else [self._vanilla(split)]), *lines)
        self.note(**changes)

    def _kept(self, fusion: Fused, parents: Sequence[Architecture]) -> tuple[Fused, Refit | None]:
        """The fusion, without its correction if that is no nearer to the parents' ensemble on images held out; and what it did.

        Nothing decides where --samples asks for all images, or there are none.
        """
        held = held_out(self.config, self.data, parents)
        if held is None or fusion.average.weights is fusion.model.weights:
            return fusion, None
        self.progress("judging the correction", 0, 0)
        task, networks = task_of(self._models.like), [parent.network(pick_device()) for parent in self._models]

        def ensemble(x: Tensor) -> Tensor:
            return task.together([network(x) for network in networks])

        found, refit = nearer(fusion.average, fusion.model, held, ensemble)
        if refit.kept:
            return fusion, refit
        *before, last = fusion.model.history
        last = last.model_copy(update={"arguments": {**last.arguments, "corrected": False}})
        model = replace(found, history=(*before, last))
        return replace(fusion, model=model, average=model), refit

    def _save(self, fusion: Fused) -> None:
        """Saves the fused model, and the average if they differ; without data the fused model is the result."""
        if self.data is None:
            self.progress("exporting", 0, 0)
            model = signed(fusion.model, counted(fusion.model.architecture))
            export(model, self._graph, force=True)
            save(model, self.staged, force=True)
            return
        save(fusion.model, self.work / "fused.safetensors", force=True)
        if fusion.average.weights is not fusion.model.weights:
            save(fusion.average, self.work / "average.safetensors", force=True)

    def fusion(self, settings: Settings, images: Tensor | None = None, target: Architecture | None = None) -> Fused:
        """Fuses the parents with these settings. Raises as `wb.fusion.fuse.fuse`, and `BadArtefact` if numbers overflow."""
        names = [parent.name for parent in self.record.parents]
        models = (load(path) for path in self.parents)
        keep = self.data is not None and len(self.parents) > 1
        with overflow_named():
            return fuse(models, names, settings, images, target=target, keep=keep, progress=self.progress)

    def _vanilla(self, split: Split) -> Line:
        """The curve of averages without any alignment."""
        shares = tuple(parent.share for parent in self.record.parents)
        settings = Settings(method="vanilla", anchor=self.record.anchor + 1, weights=shares)
        return self._line("vanilla", self.fusion(settings), split)

    def _line(self, name: Literal["vanilla", "aligned"], fusion: Fused, split: Split) -> Line:
        what = f"looking between the parents, {name}"
        curve = interpolate(fusion.between, split, lambda done, of: self.progress(what, done, of))
        if not all(math.isfinite(one.loss) for one in curve.points):
            raise BadArtefact(
                "between the parents the loss is no number; look for huge weights in them, or train them again"
            )
        return Line(name=name, points=tuple(curve.points))

    @property
    def comparable(self) -> bool:
        """Whether the parents can be averaged without alignment: all architectures and the target are the same."""
        architectures = [parent.architecture for parent in self.record.parents]
        first = architectures[0]
        same = {a.with_labels(first.head.labels).model_copy(update={"input": first.input}) for a in architectures}
        return len(same) == 1 and self.config.to in (None, architectures[self.record.anchor])


@contextmanager
def overflow_named() -> Iterator[None]:
    """Raises `BadArtefact` instead of the errors of decompositions and assignments on overflowed numbers."""
    try:
        yield
    except (torch.linalg.LinAlgError, ValueError) as error:  # type: ignore[attr-defined]  # torch does not list it
        if isinstance(error, ValueError) and "numeric entries" not in str(error):  # any other ValueError is a bug
            raise
        raise BadArtefact(
            f"the models' numbers overflow ({reason(error)}); look for huge weights in them, or train them again"
        ) from error


def calibration(config: FuseConfig, data: Dataset | None, parents: Sequence[Architecture]) -> Tensor | None:
    """Random training images, or texts, without labels, for calibration, as networks take them; None if nothing uses them."""
    if data is None or not config.looks(parents):
        return None
    return torch.from_numpy(data.train.inputs(np.sort(_drawn(config, data)[: _looked_at(config, data)])))


def held_out(config: FuseConfig, data: Dataset | None, parents: Sequence[Architecture]) -> Split | None:
    """Other random training images, which judge what was fitted to those of `calibration`; None if none are left."""
    if data is None or not config.looks(parents):
        return None
    drawn = _drawn(config, data)[_looked_at(config, data) :][:HELD]
    return data.train.take(np.sort(drawn)) if len(drawn) else None


def _drawn(config: FuseConfig, data: Dataset) -> NDArray[np.int64]:
    """The training examples in a random order."""
    return np.random.default_rng(config.settings.seed).permutation(len(data.train))


def _looked_at(config: FuseConfig, data: Dataset) -> int:
    """How many of the examples are looked at: those that were asked for, or as many as leave some to judge."""
    return config.calib or fitted_on(len(data.train), CALIBRATION)


def _described(parents: Sequence[ParentRow], fusion: Fused) -> tuple[ParentRow, ...]:
    """`parents` with distances, plans and matches of their alignments."""
    found = []
    for parent, alignment in zip(parents, fusion.alignments, strict=True):
        update: dict[str, Any] = {}
        if alignment is not None:
            update = {
                "before": alignment.before,
                "costs": alignment.costs,
                "plans": thinned(alignment.plans),
                "match": alignment.match,
                "matched_by": alignment.by,
            }
        found.append(parent.model_copy(update=update))
    return tuple(found)


def _check(model: Model) -> None:
    """Raises `BadArtefact` if fused weights are not finite."""
    broken = [name for name, weight in model.weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise BadArtefact(
            f"the fused model has NaN or infinite weights, first in {broken[0]}; look for huge weights in the models, or take "
            "--method orth"
        )
    model.check()

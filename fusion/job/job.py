"""`wb fuse` from start to end: fusing, curves between the parents, fine-tuning, final readings.

Everything that is done is kept in a folder beside the output until the end, so that the same command continues what was
interrupted; the last thing is to write the results to their places.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, WbError, reason
from wb.core.files import place
from wb.data import Dataset, Split
from wb.export.graph import export
from wb.fusion.fuse import Fusion, Report, fuse
from wb.fusion.job.curve import interpolate, point
from wb.fusion.job.finish import Finish, Parents, counted, signed, with_readings
from wb.fusion.job.record import CALIBRATION, Config, Line, ParentRow, Record
from wb.fusion.job.report import write_report
from wb.fusion.job.verdict import remarks
from wb.fusion.plans import kept
from wb.fusion.settings import Settings
from wb.hardware.device import Device, parse_device
from wb.jobs.job import Recorded
from wb.jobs.work import locked
from wb.models.model import Model, load, save


@dataclass
class Job(Recorded[Record]):
    """One fusion with everything it needs; calling it does what is not done yet and gives the finished record.

    `files` are the parents', and `data` have their classes in the order of the anchor's. `out` is the model file to write;
    beside it come record and report and, while it lasts, the folder of what is done. `report` hears what is being done.
    """

    record: Record
    files: Sequence[Path]
    data: Dataset | None
    out: Path
    report: Report
    force: bool = False

    def __call__(self) -> Record:
        """Fuses.

        Raises:
            BadArtefact: weights or scores that are not finite.
            BadData: images that the models do not read.
            BadOption: another process is at it, a file is in the way, or options do not fit.
            StorageFailed: something could not be written; what is done stays.
            Unsupported: models that cannot be aligned.
        """
        torch.set_num_threads(self.config.threads)
        abandon = self._open()
        with locked(self.work):
            if not self._kept.exists():  # somebody else finished and took it away
                self.record = self.record.model_copy(update={"architecture": None, "model": None})
            self._note()
            try:
                if self.record.model is None:
                    self._make()
            except WbError:
                if self.record.architecture is None:  # there is nothing to continue
                    abandon()
                raise
            self._publish()
        return self.record

    @property
    def config(self) -> Config:
        """The settings."""
        return self.record.config

    @cached_property
    def device(self) -> Device:
        """The runtime that accuracies are read with."""
        return parse_device(self.config.device, threads=self.config.threads)

    @property
    def _parents(self) -> Parents:
        """In the order of the fused model's classes."""
        return Parents(self.files, self.record.parents[self.record.anchor].architecture)

    @property
    def staged(self) -> Path:
        """Where the result waits to be published."""
        return self.work / f"result{self.out.suffix}"

    @property
    def _graph(self) -> Path:
        """Where its graph waits."""
        return self.work / "result.onnx"

    @property
    def _kept(self) -> Path:
        """The fused model in the folder, without data the result."""
        return self.staged if self.data is None else self.work / "fused.safetensors"

    def _make(self) -> None:
        """Everything up to the result, which lies in the folder then."""
        if self.record.architecture is None:
            self._fuse()
        if self.data is None:
            self._count()
        else:
            self._read(self.data)

    def _count(self) -> None:
        """The end without data: the result is there already."""
        rows = [counted(parent.architecture) for parent in self.record.parents]
        if self.record.architecture is not None:
            one_shot = counted(self.record.architecture)
            self._note(parents=with_readings(self.record.parents, rows), one_shot=one_shot, **self._results)

    def _read(self, data: Dataset) -> None:
        """The end with data: fine-tuning, and readings of all models."""
        finish = Finish(self._parents, data, self.work, self.staged, self._graph, self.device, self.report)
        if self.config.finetune:
            with self._timed("fine-tuning"):
                finish.finetuned(self.record)
        with self._timed("final readings"):
            changes = finish.conclude(self.record)
        verdicts = tuple(remark.text for remark in remarks(self.record.model_copy(update=changes)))
        self._note(**changes, verdicts=verdicts, **self._results)

    @property
    def _results(self) -> dict[str, str]:
        """The names of the files that are the result."""
        return {"model": self.out.name, "graph": self.out.with_suffix(".onnx").name}

    # ------------------------------------------------------------------------------------------------------- fusing

    def _fuse(self) -> None:
        """Fuses and, with data, looks between the parents; the record last: where that has it, the models are there."""
        parents = [parent.architecture for parent in self.record.parents]
        images = calibration(self.config, self.data, parents)
        fusion = self.fusion(self.config.settings, images, self.config.to)
        _check(fusion.model)
        self._took(fusion.seconds)
        self._save(fusion)
        notes = [*self.record.notes, *fusion.notes]
        if self.config.calib is not None and not fusion.looked:
            notes.append("no image was looked at, for the models have a common origin, which says what goes with what")
        changes: dict[str, Any] = {
            "architecture": fusion.model.architecture,
            "parents": _described(self.record.parents, fusion),
            "images": fusion.looked,
            "notes": tuple(notes),
        }
        if self.data is not None and len(self.files) > 1:
            split, plain = self.data.validation, self.config.settings.method == "vanilla"
            with self._timed("curves"):
                changes["points"] = {"one shot": point(fusion.model, split, 1 - fusion.shares[fusion.anchor])}
                lines = [self._line("vanilla" if plain else "aligned", fusion, split)]
                del fusion  # before the parents are read again
                ends = enumerate(self._parents)
                changes["ends"] = tuple(point(model, split, float(i != self.record.anchor)) for i, model in ends)
                changes["lines"] = (*([] if plain or not self.comparable else [self._vanilla(split)]), *lines)
        self._note(**changes)

    def _save(self, fusion: Fusion) -> None:
        """Writes what came of it; without data that is the result."""
        if self.data is None:
            self.report("exporting", 0, 0)
            model = signed(fusion.model, counted(fusion.model.architecture))
            export(model, self._graph, force=True)
            save(model, self.staged, force=True)
            return
        save(fusion.model, self.work / "fused.safetensors", force=True)
        if fusion.average.weights is not fusion.model.weights:
            save(fusion.average, self.work / "average.safetensors", force=True)

    def fusion(self, settings: Settings, images: Tensor | None = None, target: Architecture | None = None) -> Fusion:
        """The parents fused with these settings. Raises as `wb.fusion.fuse.fuse`, and `BadArtefact` where numbers overflow."""
        names = [parent.name for parent in self.record.parents]
        models = (load(path) for path in self.files)
        keep = self.data is not None and len(self.files) > 1
        with overflow_named():
            return fuse(models, names, settings, images, target=target, keep=keep, report=self.report)

    def _vanilla(self, split: Split) -> Line:
        """What the same average is without any alignment."""
        shares = tuple(parent.share for parent in self.record.parents)
        settings = Settings(method="vanilla", anchor=self.record.anchor + 1, weights=shares)
        return self._line("vanilla", self.fusion(settings), split)

    def _line(self, name: Literal["vanilla", "aligned"], fusion: Fusion, split: Split) -> Line:
        what = f"looking between the parents, {name}"
        curve = interpolate(fusion.between, split, lambda done, of: self.report(what, done, of))
        if not all(math.isfinite(one.loss) for one in curve.points):
            raise BadArtefact(
                "between the parents the loss is no number; look for huge weights in them, or train them again"
            )
        return Line(name=name, points=tuple(curve.points))

    @property
    def comparable(self) -> bool:
        """Whether the parents can be averaged as they are, into what they are."""
        architectures = [parent.architecture for parent in self.record.parents]
        first = architectures[0]
        same = {a.model_copy(update={"input": first.input, "labels": first.labels}) for a in architectures}
        return len(same) == 1 and self.config.to in (None, architectures[self.record.anchor])

    # -------------------------------------------------------------------------------------------------- what is kept

    def _publish(self) -> None:
        """Puts model, graph, record and report in their places; the folder goes last, in one step."""
        place(self.staged, self.out, force=self.force)
        if self.record.graph is not None:  # what an older version left half done has none
            place(self._graph, self.out.parent / self.record.graph, force=self.force)
        self._close(write_report)


@contextmanager
def overflow_named() -> Iterator[None]:
    """Makes a `BadArtefact` of what decompositions and assignments say where numbers overflowed."""
    try:
        yield
    except (torch.linalg.LinAlgError, ValueError) as error:  # type: ignore[attr-defined]  # torch does not list it
        if isinstance(error, ValueError) and "numeric entries" not in str(error):  # anything else is a mistake of ours
            raise
        raise BadArtefact(
            f"the models' numbers overflow ({reason(error)}); look for huge weights in them, or train them again"
        ) from error


def calibration(config: Config, data: Dataset | None, parents: Sequence[Architecture]) -> Tensor | None:
    """Training images without their labels, drawn at random: (n, channels, height, width); None where nothing looks at any."""
    if data is None or not config.looks(parents):
        return None
    number = config.calib or CALIBRATION
    drawn = np.random.default_rng(config.settings.seed).permutation(len(data.train))[:number]
    return torch.from_numpy(data.train.pixels(np.sort(drawn)))


def _described(parents: Sequence[ParentRow], fusion: Fusion) -> tuple[ParentRow, ...]:
    """`parents` with what their alignments say."""
    found = []
    for parent, alignment in zip(parents, fusion.alignments, strict=True):
        update: dict[str, Any] = {}
        if alignment is not None:
            update = {
                "before": alignment.before,
                "costs": alignment.costs,
                "plans": kept(alignment.plans),
                "match": alignment.match,
                "matched_by": alignment.by,
            }
        found.append(parent.model_copy(update=update))
    return tuple(found)


def _check(model: Model) -> None:
    """Raises `BadArtefact` where the fused weights are not finite, whatever they were made of."""
    broken = [name for name, weight in model.weights.items() if not torch.isfinite(weight).all()]
    if broken:
        raise BadArtefact(
            f"the fused model has NaN or infinite weights, first in {broken[0]}; look for huge weights in the models, or take "
            "--method orth"
        )
    model.check()

"""The beginning of a fusion: all checks, before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadData, BadOption
from wb.data import Dataset
from wb.export.refusal import check_exportable
from wb.foreign.reading import load
from wb.fusion.forms.compatible import check_together
from wb.fusion.forms.vocabularies import differ
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.job import FuseJob
from wb.fusion.job.record import Fusion, ParentRow, worked_on
from wb.fusion.settings import anchor_of, shares_of
from wb.hardware.device import parse_device
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import described
from wb.jobs.frame.output import MODELS, Output
from wb.jobs.frame.record import origin
from wb.jobs.frame.tune import recipes
from wb.jobs.reading import taken
from wb.models.files.history import tokenizer_of
from wb.models.model import Step
from wb.tasks.known import task_of
from wb.tasks.suited import fitted

Files = Sequence[tuple[str, Path]]  # name and file of each parent

OUTPUT = Output("fuse", "fused.safetensors", MODELS, "{path} is one of the files that are fused")


@dataclass(frozen=True)
class Checked:
    """The result of all checks: the parents, the index of the anchor, the data in the anchor's order of classes, notes.

    `tokenizers` are those of parents that read texts, None where one is not known.
    """

    parents: tuple[ParentRow, ...]
    anchor: int
    data: Dataset | None
    notes: tuple[str, ...]
    tokenizers: tuple[str | None, ...]

    @property
    def architecture(self) -> Architecture:
        """The anchor's architecture."""
        return self.parents[self.anchor].architecture


def files_of(out: Path) -> list[Path]:
    """The files that a fusion writes, the model last."""
    return [*(out.with_suffix(ending) for ending in (".html", ".json", ".onnx")), out]


def begin(
    config: FuseConfig, files: Files, data: Dataset | None, out: Path, progress: Progress, *, force: bool
) -> FuseJob:
    """The job, new or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: a file is no model; or another fusion's files lie beside `out`.
        BadData: the data do not fit the models.
        BadOption: options that do not fit the models, or classes that differ.
        Unsupported: models that cannot be aligned, or that no graph computes.
    """
    found = checked(config, files, data, progress)
    same = worked_on([parent.key for parent in found.parents], data.fingerprint if data else None)
    record = taken_up(Fusion, config, same, out) or Fusion(
        **origin(config.device),
        config=config,
        quality=task_of(found.architecture).metric,
        recipes=recipes(config, found.architecture, data),
        data=described(data) if data else {},
        parents=found.parents,
        anchor=found.anchor,
        notes=found.notes,
    )
    return FuseJob(record, out, progress, [path for _, path in files], found.data, force=force)


def checked(config: FuseConfig, files: Files, data: Dataset | None, progress: Progress) -> Checked:
    """Reads the models one by one. Raises as `begin` does."""
    _check_options(config, len(files))
    shares = shares_of(config.settings, len(files))
    parents, histories = [], list[tuple[Step, ...]]()
    for i, ((name, path), share) in enumerate(zip(files, shares, strict=True)):
        progress(f"reading {name}", i, len(files))
        model = load(path)
        check_exportable(model.architecture)
        parents.append(ParentRow(name=name, key=model.fingerprint(), architecture=model.architecture, share=share))
        histories.append(model.history)
        del model  # before the next one is read
    architectures = [parent.architecture for parent in parents]
    anchor = anchor_of(config.settings, architectures)
    words = [tokenizer_of(history) for history in histories]
    check_together(architectures, [parent.name for parent in parents], anchor, words)
    notes: list[str] = []
    if data is not None:
        for parent, history, own in zip(parents, histories, words, strict=True):
            if differ(own, words[anchor]):  # it is scored on texts as it reads them, in the end
                _check_read(parent, history, data)
        data = taken(data, architectures[anchor], histories[anchor])
        data, notes = fitted(data, architectures[anchor], parents[anchor].name, by_index=config.by_index)
        if config.calib is not None and config.calib > len(data.train):
            notes.append(
                f"there are {len(data.train)} training {data.train.noun} for --samples {config.calib}: all of them are looked at"
            )
        device = parse_device(config.device, threads=config.threads)
        if device != device.here:
            raise BadOption(f"fusion times nothing, and scores on this machine: leave --device {config.device} out")
    if config.calib is not None and not config.looks(architectures):
        raise BadOption(
            f"{config.settings.method} of these models looks at no images; leave out --samples, or take --method regress"
        )
    return Checked(tuple(parents), anchor, data, tuple(notes), tuple(words))


def _check_read(parent: ParentRow, history: Sequence[Step], data: Dataset) -> None:
    """Raises `BadData` where the parent reads the texts of `data` with a tokenizer of its own, and some are too long for it."""
    try:
        taken(data, parent.architecture, history)
    except BadData as error:
        raise BadData(f"{parent.name}: {error}") from error


def _check_options(config: FuseConfig, parents: int) -> None:
    """Raises `BadOption` for options that do not go with this number of models, or that need data."""
    if parents < (1 if config.to else 2):
        raise BadOption(
            "one model cannot be fused; give two or more, or one with --to and the architecture to bring it to"
        )
    settings = config.settings
    if config.data is None and settings.needs_images:
        what = (
            "--method regress"
            if settings.method == "regress"
            else "--repair"
            if settings.repair
            else "comparing activations"
        )
        raise BadOption(f"{what} looks at images; name data with --data, or take --method orth, which needs none")
    if config.to is not None and settings.method in ("vanilla", "ot"):
        raise BadOption(f"--method {settings.method} cannot fuse into another architecture; take perm, orth or regress")

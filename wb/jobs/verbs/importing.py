"""Import of a checkpoint of another library as a model file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.core.records import TextInput
from wb.data.spec import resolved
from wb.foreign.agreement import agreement
from wb.foreign.given import Given
from wb.foreign.hub import fetched
from wb.foreign.importing import read_checkpoint
from wb.foreign.reading import is_ours
from wb.jobs.frame.output import MODELS as ENDINGS
from wb.jobs.frame.output import check_ending, check_free
from wb.jobs.kinds import MODELS, need
from wb.jobs.reading import load_sized
from wb.jobs.verbs.untold import tried_out
from wb.models.counting import count_macs, count_parameters
from wb.models.files.history import tokenizer_of
from wb.models.model import Model, save

SOURCE = "a folder with config.json and weights, or a state dict (.safetensors, .pt, .pth or .bin)"


@dataclass(frozen=True)
class Found:
    """What was imported: the model, what it was recognised as, its costs, and what was inferred, assumed or left out."""

    model: Model
    family: str
    readings: dict[str, Reading]
    notes: tuple[str, ...]

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "family": self.family,
            "architecture": self.model.architecture.model_dump(mode="json"),
            "readings": {name: reading.model_dump(mode="json") for name, reading in self.readings.items()},
            "notes": list(self.notes),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """What was recognised, in words."""
        a = self.model.architecture
        if isinstance(a.input, TextInput):
            return (f"{self.family}: {self._text(a, a.input)}", self._counts)
        depth = " + ".join(str(len(stage.blocks)) for stage in a.stages)
        widths = ", ".join(str(stage.embed) for stage in a.stages)
        rows, columns = a.layout.shape
        named = f" ({', '.join(a.head.labels[:4])}{', …' if len(a.head.labels) > 4 else ''})" if a.head.labels else ""
        image = f"{a.image.channels}x{a.image.height}x{a.image.width}"
        return (
            f"{self.family}: images of {image}, {rows}x{columns} tokens, {depth} blocks of width {widths}, "
            f"{a.head.classes} classes{named}",
            self._counts,
        )

    @property
    def _counts(self) -> str:
        return f"{self.readings['params'].text()} parameters, {self.readings['macs'].text()} multiply-accumulates"

    def _text(self, a: Architecture, given: TextInput) -> str:
        """What a network of texts is, in words."""
        blocks = f"{len(a.stages[0].blocks)} blocks of width {a.stages[0].embed}"
        answers = f"{a.head.classes} classes" if a.head.classes else "the next token"
        told = "with its tokenizer" if tokenizer_of(self.model.history) is not None else "without a tokenizer"
        return f"texts of at most {given.length:,} of {given.vocabulary:,} tokens, {told}, {blocks}, {answers}"


def import_file(source: Path, out: Path, given: Given, *, compare: bool, force: bool, data: str | None = None) -> Found:
    """Reads `source`, a path or a name on the Hugging Face hub, and writes it as the model file `out`.

    With `compare` the logits of its library are compared, if that is there. With `data` the notes say how it scores on them, and
    how it would if what nothing says of it were otherwise (`wb.jobs.verbs.untold`).

    Raises:
        BadArtefact: no checkpoint, or a damaged one, or one that contradicts itself.
        BadData: `data` are damaged or do not fit.
        MissingExtra: a name, and the library that fetches it is not installed.
        BadOption: an option that is missing or does not fit, or an output that is no name for a model or exists already.
        Disagreement: the library gives other logits.
        Unsupported: a family that is not known, or a part that no record has.
    """
    source = fetched(source)
    kind = need(source, *MODELS, expected=SOURCE)
    check_ending(out, ENDINGS)
    check_free(out, force=force)
    if kind == "model" or (kind == "torch" and is_ours(source)):
        raise BadOption(f"{source} is a model file of wb's already; every command takes it as it is")
    imported = read_checkpoint(source, given)
    notes = [*imported.notes, *([agreement(imported, source)] if compare else [])]
    a = imported.model.architecture
    if data is not None and isinstance(a.input, TextInput):
        raise BadOption(
            f"--data is for what files of images do not say, and those of {source} say all; `wb measure` scores the model"
        )
    if data is not None:
        read = load_sized(resolved(data), a, str(source), notes.append)
        notes += tried_out(source, given, imported, read)
    save(imported.model, out, force=force)
    readings = {"params": count_parameters(a), "macs": count_macs(a)}
    return Found(imported.model, imported.family.title, readings, tuple(notes))

"""The header of a model file: architecture and history, without the weights. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from wb.core.architecture import Architecture, explain
from wb.core.errors import BadArtefact, printable, reason
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.system.files import regular
from wb.models.exits.record import Exits, read_exits

FORMAT = 2  # 1 had another form of the architecture (`wb.core.upgrade`) and the same weights
READ = (1, 2)
MAX_STEPS = 2000  # steps of a history
ORIGIN = "origin"  # an argument of an import: the files that the model came in; for programs, and long
TOKENIZER = "tokenizer"  # an argument of a training on texts: the tokenizer as JSON; for programs, and long
EXPECTED = "a model file (.safetensors or .pt) that `wb` wrote"


class Step(Frozen):
    """One step of a model's history: the pass, its arguments and seed, and the readings taken after it."""

    name: str
    arguments: Mapping[str, JsonValue] = Field(default_factory=dict)
    seed: int | None = None
    readings: Mapping[str, Reading] = Field(default_factory=dict)
    version: str = ""


_HISTORY = TypeAdapter(Annotated[tuple[Step, ...], Field(max_length=MAX_STEPS)])


def described(metadata: Mapping[str, str], path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history in the metadata of the model file at `path`.

    Raises:
        BadArtefact: there are none, they are damaged, or of another format.
    """
    if "wb.architecture" not in metadata:
        raise BadArtefact(f"{path} holds weights but no architecture; expected a model file that `wb` wrote")
    if metadata.get("wb.format") not in {str(number) for number in READ}:
        given = printable(str(metadata.get("wb.format")))
        raise BadArtefact(f"{path} has format {given}; this version reads formats {' and '.join(map(str, READ))}")
    history = read_history(metadata.get("wb.history", "[]"), path)
    try:
        return Architecture.from_json(metadata["wb.architecture"]), history
    except BadArtefact as error:
        raise BadArtefact(f"{path}: {error}") from error


def read_header(path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history of a .safetensors model, without reading its weights.

    Raises:
        BadArtefact: the file is no model of the workbench, or is damaged (a missing end shows, wrong weights do not).
    """
    return described(metadata_in(path), path)


def read_early(path: Path) -> Exits | None:
    """The record of early exits in a .safetensors model; None if it has none. Raises `BadArtefact` as `read_header` does."""
    return read_exits(metadata_in(path), str(path))


def metadata_in(path: Path) -> dict[str, str]:
    """The metadata of a .safetensors file. Raises `BadArtefact` where there is none, or it is damaged."""
    regular(path, EXPECTED)
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtefact(
            f"{path} is no safetensors file or is damaged ({reason(error)}); expected {EXPECTED}"
        ) from error


def read_history(text: str, path: Path) -> tuple[Step, ...]:
    """The history as JSON in the file at `path`. Raises `BadArtefact` if it is damaged or too long."""
    try:
        return _HISTORY.validate_json(text)
    except ValidationError as error:
        raise BadArtefact(f"the history in {path} is damaged: {explain(error)}") from error
    except ValueError as error:  # broken UTF-8
        raise BadArtefact(f"the history in {path} is damaged: {reason(error)}") from error

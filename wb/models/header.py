"""What a model file says of itself besides its weights: the architecture and the history. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field, JsonValue, ValidationError
from safetensors import SafetensorError, safe_open

from wb.core.architecture import Architecture, explain
from wb.core.errors import BadArtefact, reason
from wb.core.readings import Reading
from wb.core.records import Record

FORMAT = 1


class Step(Record):
    """One line of a model's history: which pass, with what arguments and seed, and what was read afterwards."""

    name: str
    arguments: Mapping[str, JsonValue] = Field(default_factory=dict)
    seed: int | None = None
    readings: Mapping[str, Reading] = Field(default_factory=dict)
    version: str = ""


def described(metadata: Mapping[str, str], path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history in the metadata of the model file at `path`.

    Raises:
        BadArtefact: there are none, they are damaged, or of another format.
    """
    if "wb.architecture" not in metadata:
        raise BadArtefact(f"{path} holds weights but no architecture; expected a model file that `wb` wrote")
    if metadata.get("wb.format") != str(FORMAT):
        raise BadArtefact(f"{path} has format {metadata.get('wb.format')}; this version reads format {FORMAT}")
    history = read_history(metadata.get("wb.history", "[]"), path)
    return Architecture.from_json(metadata["wb.architecture"]), history


def read_header(path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history of a .safetensors model, without reading its weights.

    Raises:
        BadArtefact: the file is no model of the workbench, or is damaged (a missing end shows, wrong weights do not).
    """
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise BadArtefact(f"{path} is no safetensors file or is damaged ({error}); expected a model file") from error
    return described(metadata, path)


def read_history(text: str, path: Path) -> tuple[Step, ...]:
    """The steps in the JSON that the file at `path` carries. Raises `BadArtefact` if it is damaged."""
    try:
        return tuple(Step.model_validate(step) for step in json.loads(text))
    except (TypeError, ValueError) as error:
        why = explain(error) if isinstance(error, ValidationError) else reason(error)
        raise BadArtefact(f"the history in {path} is damaged: {why}") from error

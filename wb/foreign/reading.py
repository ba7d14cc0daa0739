"""Any model that a command names: a file of ours, or a checkpoint of another library."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from wb.core.architecture import Architecture
from wb.foreign.importing import read_checkpoint, recognised
from wb.models import model as models
from wb.models.files import header
from wb.models.files.header import Step
from wb.models.files.torchfile import read_torch
from wb.models.model import Model

EITHER = "a model file that `wb` wrote, or a state dict of another library"


def load(path: Path) -> Model:
    """The model at `path`: in a file that `wb` wrote, or in a checkpoint of a family that is read.

    Raises:
        BadArtefact: neither, or damaged.
        BadOption: the checkpoint needs options: `wb import` has them.
        Unsupported: a checkpoint of another family.
    """
    return models.load(path) if is_ours(path) else read_checkpoint(path).model


def read_header(path: Path) -> tuple[Architecture, tuple[Step, ...]]:
    """Architecture and history of the model at `path`, without reading weights where possible. Raises as `load` does."""
    if is_ours(path):
        if path.suffix == ".safetensors":
            return header.read_header(path)
        model = models.load(path)
        return model.architecture, model.history
    found = recognised(path)
    return found.architecture, (found.step({}),)


def is_ours(path: Path) -> bool:
    """Whether `wb` wrote the file, or it is so damaged that nobody can tell. Raises `BadArtefact` for a pickle of objects."""
    if path.is_dir():
        return False
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="numpy") as file:
                return "wb.architecture" in (file.metadata() or {})
        except (SafetensorError, OSError, ValueError):
            return True
    content = read_torch(path, EITHER)
    return isinstance(content, dict) and {"metadata", "weights"} <= content.keys()

"""Models and architectures that are given as files or by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from wb.cli._kinds import ARCHITECTURE, need

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from wb.core.architecture import Architecture
    from wb.data import Dataset
    from wb.models.model import Model


def given_data(data: str | None, background: str | None) -> str | None:
    """What `--data` says, with what `--background` says; None where neither is given.

    Raises:
        BadOption: no colour, or data that are no folder of images.
    """
    if background is None:
        return data
    from wb.data.spec import with_background

    return with_background(data, background)


def read_model(file: Path | None, data: Dataset, seed: int, progress: Progress, task: TaskID) -> Model:
    """The model in `file`, or without one the stock model of `data`, whose training on first use is told in `task`.

    Raises:
        BadArtefact: the file cannot be read or is no model.
        StorageFailed: the cache cannot be written.
        TrainingDiverged: the loss is NaN or infinite.
    """
    from wb.models.model import load
    from wb.spaces.stock import Stock

    if file is not None:
        return load(file)

    def report(epoch: int, of: int, loss: float) -> None:
        what = f"training the stock model once, loss {loss:.3f}"
        progress.update(task, description=what, completed=epoch, total=of)

    return Stock(data, seed)(report)


def read_architecture(path: Path) -> Architecture:
    """The architecture in a JSON file, or that of a model file, whose weights are ignored.

    Raises:
        BadArtefact: the file cannot be read, or is neither.
    """
    from wb.core.architecture import Architecture
    from wb.core.errors import BadArtefact
    from wb.core.files import read_text
    from wb.models.model import load

    if need(path, "architecture", "json", "model", "torch", expected=ARCHITECTURE) in ("model", "torch"):
        return load(path).architecture
    text = read_text(path, "an architecture as JSON, or a model file")
    try:
        return Architecture.from_json(text)
    except BadArtefact as error:
        raise BadArtefact(f"{path}: {error}; expected an architecture as JSON, or a model file") from error


def read_seeds(texts: Sequence[str]) -> tuple[Architecture | str, ...]:
    """What `--seed-architecture` was given: names stay names, files become their architectures.

    Raises:
        BadArtefact: a file is neither an architecture nor a model.
        BadOption: neither a name nor a file that exists.
    """
    from wb.core.errors import BadOption
    from wb.search.config import SEED_NAMES

    for text in texts:
        if text not in SEED_NAMES and not Path(text).is_file():
            raise BadOption(
                f"--seed-architecture {text!r} is no file; give {', '.join(SEED_NAMES)}, an architecture as JSON, or a "
                "model file (.safetensors or .pt)"
            )
    return tuple(text if text in SEED_NAMES else read_architecture(Path(text)) for text in texts)

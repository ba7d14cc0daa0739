"""Where the files of a job go, and the options it was given as a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from wb.core.architecture import explain
from wb.core.errors import BadOption
from wb.core.files import absolute
from wb.jobs.work import RECORD, work_of

C = TypeVar("C", bound=BaseModel)
MODELS = (".safetensors", ".pt")
GRAPHS = (".onnx",)


class Output(NamedTuple):
    """What a job calls its main file where no name is given, what that ends in, and what it says of a file of its inputs."""

    verb: str
    default: str
    endings: Sequence[str]
    given: str  # "{path} is the model that is pruned"

    def place(
        self, out: Path | None, inputs: Sequence[Path], files: Callable[[Path], Sequence[Path]], *, force: bool
    ) -> Path:
        """Where the main file goes, checked before any work; `files` are all that would be written with it.

        Raises:
            BadOption: a name that does not fit, that of an input, or that of something else without `force`.
        """
        if out is None:
            return Path("runs") / f"{self.verb}-{datetime.now():%Y%m%d-%H%M%S}" / self.default
        check_ending(out, self.endings)
        given = set(map(absolute, inputs))
        for path in files(out):
            if absolute(path) in given:
                raise BadOption(f"{self.given.format(path=path)}; choose another name")
        if (work_of(out) / RECORD).exists():  # what is there may be half of the results to come
            return out
        for path in files(out):
            check_free(path, force=force)
        return out


def check_ending(out: Path, endings: Sequence[str]) -> None:
    """Raises `BadOption` for a name that readers would not know."""
    if out.suffix not in endings:
        kind = "a model file" if endings == MODELS else "an ONNX graph"
        raise BadOption(f"{out.name} is no name for {kind}; end it in {' or '.join(endings)}")


def check_free(path: Path, *, force: bool) -> None:
    """Raises `BadOption` where something is in the way."""
    if path.is_dir():
        raise BadOption(f"{path} is a folder; choose another name")
    if path.exists() and not force:
        raise BadOption(f"{path} exists already; choose another name or say --force to replace it")


def config_of(kind: type[C], command: str, given: Mapping[str, Any]) -> C:
    """The options of a command as a configuration.

    Raises:
        BadOption: a value that does not fit.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        text = explain(error).replace("Value error, ", "").removeprefix("settings: ").removeprefix("settings.")
        raise BadOption(f"wrong option: {text}; see `wb {command} --help`") from error

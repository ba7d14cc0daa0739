"""The output of a job: where its files go, and its options as a configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from wb.core.commands.option import flat, located
from wb.core.errors import BadOption, printable
from wb.core.nearest import meant
from wb.core.system.files import absolute
from wb.jobs.frame.work import RECORD, work_of

C = TypeVar("C", bound=BaseModel)
MODELS = (".safetensors", ".pt")
GRAPHS = (".onnx",)
PAGES = (".html",)


class Output(NamedTuple):
    """The output of one kind of job: its verb, default file name, endings, and the message if it would overwrite an input."""

    verb: str
    default: str
    endings: Sequence[str]
    given: str  # "{path} is the model that is pruned"

    def place(
        self, out: Path | None, inputs: Sequence[Path], files: Callable[[Path], Sequence[Path]], *, force: bool
    ) -> Path:
        """The path of the main file, checked before any work; `files` lists everything that would be written with it.

        Raises:
            BadOption: an ending that does not fit, the name of an input, or an existing file without `force`.
        """
        if out is None:
            return Path("runs") / f"{self.verb}-{datetime.now():%Y%m%d-%H%M%S}" / self.default
        check_ending(out, self.endings)
        given = set(map(absolute, inputs))
        for path in files(out):
            if absolute(path) in given:
                raise BadOption(f"{self.given.format(path=path)}; choose another name")
        if (work_of(out) / RECORD).exists():  # an interrupted job may have published some of its files
            return out
        for path in files(out):
            check_free(path, force=force)
        return out


def check_ending(out: Path, endings: Sequence[str]) -> None:
    """Raises `BadOption` for an ending that readers do not know."""
    if out.suffix not in endings:
        kind = {MODELS: "a model file", PAGES: "a page"}.get(tuple(endings), "an ONNX graph")
        raise BadOption(f"{out.name} is no name for {kind}; end it in {' or '.join(endings)}")


def check_free(path: Path, *, force: bool) -> None:
    """Raises `BadOption` if a folder, or without `force` a file, is in the way."""
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
        for one in error.errors():
            if isinstance(cause := one.get("ctx", {}).get("error"), BadOption):  # a text that is none of its kind
                raise cause from None
        said = dict.fromkeys(_fault(kind, one) for one in error.errors()[:3])
        raise BadOption(f"wrong option: {'; '.join(said)}; see `wb {command} --help`") from error


def _fault(kind: type[BaseModel], error: Mapping[str, Any]) -> str:
    """`samples: Input should be greater than or equal to 1, not 0`."""
    place, message, given = error["loc"], error["msg"], error["input"]
    if error["type"] == "extra_forbidden":
        unknown = str(place[-1])
        return (
            f"there is none named {printable(repr(unknown), 80)}{meant(unknown, [name for _, _, name in flat(kind)])}"
        )
    name, text = located(kind, place), printable(message.removeprefix("Value error, "), 400)
    if isinstance(given, str | int | float) and message.startswith("Input should"):
        text += f", not {printable(repr(given), 80)}"
    return f"{printable(name)}: {text}" if name else text

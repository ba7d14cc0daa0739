"""Exceptions as the user sees them: one paragraph, an exit code, and how to continue."""

from __future__ import annotations

import signal
import traceback
from types import FrameType
from typing import NamedTuple

from rich.text import Text

from wb.cli.frame import output
from wb.cli.frame.text import paragraph
from wb.core.errors import WbError, out_of_memory, reason
from wb.core.system.files import of_path

INTERRUPTED = 128 + signal.SIGINT
STARTS_OVER = "nothing was written; the same command starts over"
MEMORY = (
    "there is not enough memory (or address space: see `ulimit -v`) for this; close other programs, raise the limit, or give "
    "a smaller model, fewer or smaller images"
)


class Terminated(KeyboardInterrupt):
    """A signal asked the process to end: it ends as after Ctrl-C, and keeps finished work."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Ending(NamedTuple):
    """The message of an error, the exit code, and the `word` before the colon."""

    text: str
    code: int
    word: str = "error"


def ending(error: BaseException) -> Ending:
    """The message and exit code for `error`."""
    if isinstance(error, Terminated):
        return Ending(STARTS_OVER, 128 + error.number, "terminated")
    if isinstance(error, KeyboardInterrupt):
        return Ending(STARTS_OVER, INTERRUPTED, "interrupted")
    if _of_memory(error):
        return Ending(MEMORY, 1)
    if isinstance(error, WbError):
        return Ending(str(error), error.exit_code)
    known = of_path(error)
    if known is not None:
        return Ending(known, 1)
    if isinstance(error, OSError):
        return Ending(f"{error}; check the path, the permissions and the space on the disk", 1)
    text = (
        f"{type(error).__name__}: {reason(error)}. This is a mistake of wb's; run it again with --debug and report it"
    )
    return Ending(text, 1)


def tell(error: BaseException, *, debug: bool) -> int:
    """Prints the message of `error`, with how to continue last; returns the exit code."""
    text, code, word = ending(error)
    notes = getattr(error, "__notes__", [])
    if debug:
        traceback.print_exc()
    if word != "error" and notes:  # the first note says more than the general text
        text, notes = notes[0], notes[1:]
    output.messages.print(
        Text.assemble((f"{word}:", "bold red" if word == "error" else "bold yellow"), " ", paragraph(text)),
        soft_wrap=True,
    )
    for note in notes:
        output.messages.print(paragraph(note), soft_wrap=True)
    return code


def end_like_interrupted() -> None:
    """Lets SIGTERM, and SIGHUP unless it is ignored (as by `nohup`), end like Ctrl-C; a second signal ends at once."""

    def terminate(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise Terminated(number)

    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


def _of_memory(error: BaseException) -> bool:
    """Whether memory ran out, in this error or in its cause."""
    if isinstance(error, WbError):
        return error.__cause__ is not None and _of_memory(error.__cause__)
    return out_of_memory(error)

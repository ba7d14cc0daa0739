"""Errors that a user sees: what was given, what was expected, what to do next.

WbError
├── BadArtefact     (ValueError)          a file that is not what it should be
├── BadData         (ValueError)          a data set that cannot be used
├── BadOption       (ValueError)          an option or a name that does not exist or does not fit
├── BudgetMissed    (ValueError)          a budget that cannot be met
├── MissingExtra    (ImportError)         an optional dependency that is not installed
├── NotInSpace      (ValueError)          an architecture or choice outside its space
├── StorageFailed   (OSError)             a file or database that could not be read or written
└── Unsupported     (NotImplementedError) a combination that this version cannot do
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-Z\\^_])")  # terminal codes: colours, or worse


class WbError(Exception):
    """Base of all errors for users; the command line prints them as one paragraph.

    `exit_code` is the exit code of the process: 1 for a failure, 2 for wrong use, 3 for a requirement that is not met.
    """

    exit_code = 1


class BadArtefact(WbError, ValueError):
    """A model, graph or run file that is missing, damaged, or of another kind."""


class BadData(WbError, ValueError):
    """A data set that is missing, broken, or does not fit the model."""


class BadOption(WbError, ValueError):
    """An option value or a name that does not exist."""

    exit_code = 2


class BudgetMissed(WbError, ValueError):
    """No network keeps the budget, or meets the requirements."""

    exit_code = 3


class MissingExtra(WbError, ImportError):
    """An optional dependency is needed here and is not installed."""


class NotInSpace(WbError, ValueError):
    """A choice or an architecture that its space does not contain."""

    exit_code = 2


class StorageFailed(WbError, OSError):
    """Reading or writing failed: a full disk, a missing permission, a locked database."""


class Unsupported(WbError, NotImplementedError):
    """A combination that is understood but cannot be done."""


_MEMORY = re.compile(
    r"allocate memory|not enough memory|bad[_ ]alloc|failed to map segment|out of memory|not create a primitive",
    re.IGNORECASE,
)


def out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory or address space ran out; each library reports that in its own words."""
    return isinstance(error, MemoryError) or (isinstance(error, Exception) and bool(_MEMORY.search(str(error))))


def reason(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty: for use inside another message."""
    lines = _ESCAPES.sub("", str(error)).strip().splitlines()
    return printable(lines[0]) if lines else type(error).__name__


def printable(text: str, most: int = 200) -> str:
    """Text from a file made safe for a message: no terminal codes, unprintable characters escaped, cut to `most` characters."""
    shown = _ESCAPES.sub("", text[: 4 * most])
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)
    return shown if len(shown) <= most else f"{shown[:most]}…"

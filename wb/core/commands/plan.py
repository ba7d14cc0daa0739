"""What a command would do, for `--dry-run`."""

from __future__ import annotations

from typing import NamedTuple


class Planned(NamedTuple):
    """One stage: its name, what it does, and about how many seconds it takes, extrapolated from a little of it."""

    name: str
    what: str
    seconds: float

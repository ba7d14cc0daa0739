"""How work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[
    [str, int, int], None
]  # what is being done, how much of it is done, of how much; 0 where that is unknown

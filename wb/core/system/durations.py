"""Durations as text, and back."""

from __future__ import annotations

import re

from wb.core.errors import BadOption

UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h)\s*")


def parse_duration(text: str) -> float:
    """`90s`, `10min`, `1h`, `1h 30min` -> seconds.

    Raises:
        BadOption: not of this form, or no time at all.
    """
    parts = _PART.findall(text.strip())
    whole = re.fullmatch(f"(?:{_PART.pattern})+", text.strip()) is not None
    seconds = sum(float(number) * UNITS[unit] for number, unit in parts) if whole else 0.0
    if seconds <= 0:
        raise BadOption(f"{text!r} is no duration; write for example 90s, 10min or 1h 30min")
    return seconds


def duration(seconds: float) -> str:
    """Formats seconds: `12 ms`, `3.4 s`, `42 s`, `2 min 5 s`, `25 min`, `2 h 35 min`, `3 d 4 h`; zero parts are left out."""
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 9.95:
        return f"{seconds:.2g} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 599.5:
        return _parts(round(seconds), 60, "min", "s")
    if seconds < 86370:
        return _parts(round(seconds / 60), 60, "h", "min")
    return _parts(round(seconds / 3600), 24, "d", "h")


def _parts(count: int, per: int, large: str, small: str) -> str:
    """Formats `count` small units in large and small ones; `per` small units make a large one."""
    whole, rest = divmod(count, per)
    return " ".join(f"{number} {unit}" for number, unit in ((whole, large), (rest, small)) if number)

"""Durations as text."""

from __future__ import annotations


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

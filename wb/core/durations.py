"""Times that people read."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """`45 s`, `3 min 20 s`, `2 h 35 min`, `3 d 4 h`: the two largest units; below a second `under 1 s`."""
    if seconds < 0.5:
        return "under 1 s"
    left = round(seconds)
    if left >= 86_400:
        left = 3600 * round(seconds / 3600)
    elif left >= 3600:
        left = 60 * round(seconds / 60)
    parts = []
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts)

"""Parts of a network that users name: by a name, or by what names begin with up to a dot."""

from __future__ import annotations

from collections.abc import Sequence

from wb.core.errors import BadOption


def within(one: str, name: str) -> bool:
    """Whether `name` is that of a part, or what it begins with: `s0.b3` of `s0.b3.mixer`."""
    return one == name or one.startswith(f"{name}.")


def among(given: Sequence[str], known: Sequence[str], what: str) -> list[str]:
    """Those of `known` that are given, or begin with what is; all where nothing is given.

    Raises:
        BadOption: one that fits none of them.
    """
    for name in given:
        if not any(within(one, name) for one in known):
            raise BadOption(f"no {what} named {name}; this model has {', '.join(known) or 'none'}")
    return [one for one in known if not given or any(within(one, name) for name in given)]

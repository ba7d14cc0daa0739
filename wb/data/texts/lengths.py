"""Lengths of texts in tokens: what a network may be asked to read, and what is said of texts that are longer than it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from wb.core.errors import BadData

LONGEST = 1 << 15  # tokens of a text that a network can be asked to read
ALIGN = 8  # lengths are multiples of it


class TooLong(NamedTuple):
    """Texts that are longer than a network reads: `which` these are, and what to do, the `ways` out."""

    which: str
    ways: str

    @classmethod
    def of(
        cls, counts: Mapping[str, Sequence[int]], length: int, *, own: str | None = None, prose: bool = False
    ) -> TooLong:
        """Of texts of so many tokens by what they are for, those that have more than `length`; there are some.

        `own` is the form of data from which the network is still to be made. Of `prose` the last token is only foreseen.
        """
        over = {what: [count for count in each if count > length] for what, each in counts.items()}
        told = " and ".join(
            f"{len(each):,} of {len(counts[what]):,} texts{f' for {what}' if what else ''}"
            for what, each in over.items()
            if each
        )
        longest = max(count for each in over.values() for count in each)
        needs, limit = aligned(longest), f"the {length:,} tokens that the network reads"
        if prose:
            needs, limit = longest - 1, f"the {length - 1:,} tokens of a passage and the one that follows"
        if own is None:
            other = "take a network that reads longer ones (or a longer length= in --data, if one stands there)"
        else:
            other = f"choose a longer length with {own},length={needs}:FILES" if needs <= LONGEST else "divide them"
        return cls(
            f"{told} are longer than {limit}, the longest has {longest:,}",
            f"give --truncate to read the beginning of each alone, or {other}",
        )

    def error(self) -> BadData:
        """For who would give them to a network."""
        return BadData(f"{self.which}; {self.ways}")

    def note(self) -> str:
        """For who only looks at them."""
        return f"{self.which}; commands that train refuse them: {self.ways}"


def aligned(count: int) -> int:
    """The length of a network for texts of so many tokens."""
    return -(-count // ALIGN) * ALIGN

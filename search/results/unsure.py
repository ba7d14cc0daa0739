"""What `front.json` says of a network that may be no better than another one of the front."""

from __future__ import annotations

from wb.core.records import Frozen
from wb.core.statistics.paired import Paired


class Unsure(Frozen):
    """Network `than` of the front is surely worse in nothing; `paired` counts validation examples that one of them has right."""

    than: int
    paired: Paired

    def text(self) -> str:
        """What the comparison says, as a sentence about the other network."""
        paired = self.paired
        return (
            f"what it is better in than network {self.than} may be noise: of {paired.n} validation examples, {paired.won} are "
            f"right only here and {paired.lost} only there"
        )

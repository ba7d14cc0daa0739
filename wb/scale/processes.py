"""How many processes a user asks for."""

from __future__ import annotations

from dataclasses import dataclass

from wb.core.errors import BadOption
from wb.scale.joining import beside, rank, started, world


@dataclass(frozen=True)
class Processes:
    """How many train together: as many as torchrun started around the command, else `asked`, which are started for the training.

    `sequence` of them share the tokens of each example.
    """

    asked: int = 1
    sequence: int = 1

    def check(self) -> None:
        """Raises `BadOption` if they cannot be split so."""
        for name, value in (("--torchrun", self.asked), ("--sequence-parallel", self.sequence)):
            if value < 1:
                raise BadOption(f"wrong option: {name} {value} is out of range; choose 1 or more")
        if started() and self.asked > 1:
            raise BadOption("torchrun started this command, and --torchrun would start it again; leave one of them out")
        if not started() and self.count % self.sequence:
            raise BadOption(
                f"{self.asked} processes cannot be split into groups of {self.sequence} that share tokens; give --torchrun a "
                "multiple of --sequence-parallel"
            )

    @property
    def count(self) -> int:
        """How many are to be started; tokens that are shared need one for each share."""
        return self.sequence if self.asked == 1 else self.asked

    def faster(self, places: int) -> float:
        """How many times as fast as one process they train at best, where `places` of them find cores on a machine.

        Limits: what they send each other takes no time here, which is right for networks that compute much more than that.
        """
        if not started():
            return float(max(1, min(self.count, places)))
        return max(1.0, world() * min(1.0, places / beside()))

    @property
    def follows(self) -> bool:
        """Whether this process only helps the first of those that torchrun started."""
        return rank() > 0


ONE = Processes()

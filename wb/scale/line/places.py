"""Which process has which place in a line of stages, each of several shares."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist

from wb.core.errors import BadOption
from wb.scale.line.loss import Lost
from wb.scale.line.sums import Sums
from wb.scale.team import Team


@dataclass(frozen=True)
class Places:
    """`stages` in a line, each computed by `shares` processes: process r is share r % shares of stage r // shares."""

    stages: int = 1
    shares: int = 1

    def check(self) -> None:
        """Raises `BadOption` for fewer than one of either."""
        for name, value in (("--pipeline", self.stages), ("--tensor", self.shares)):
            if value < 1:
                raise BadOption(f"wrong option: {name} {value} is out of range; choose 1 or more")

    def check_count(self, count: int) -> None:
        """Raises `BadOption` where torchrun started another number of processes."""
        if count != self.count:
            raise BadOption(
                f"torchrun started {count} processes, and --pipeline {self.stages} --tensor {self.shares} are {self.count}; "
                "start as many"
            )

    @property
    def count(self) -> int:
        """How many processes there are."""
        return self.stages * self.shares

    def stage(self, rank: int) -> int:
        """The stage of a process."""
        return rank // self.shares

    def share(self, rank: int) -> int:
        """Which share of its stage a process computes."""
        return rank % self.shares

    def before(self, rank: int) -> int | None:
        """The process that hands it batches; None for the first stage."""
        return rank - self.shares if self.stage(rank) else None

    def behind(self, rank: int) -> int | None:
        """The process that it hands batches on to; None for the last stage."""
        return rank + self.shares if self.stage(rank) + 1 < self.stages else None

    @property
    def answering(self) -> int:
        """The process whose outputs are those of all."""
        return (self.stages - 1) * self.shares

    def called(self, rank: int) -> str:
        """A process in words."""
        what = f"stage {self.stage(rank) + 1} of {self.stages}"
        return f"process {rank} ({what}{f', share {self.share(rank) + 1} of {self.shares}' if self.shares > 1 else ''})"

    def sums(self, team: Team) -> Sums:
        """The sums of a process's stage; all processes have to ask for theirs at the same time."""
        if self.shares == 1:
            return Sums()
        stages = [list(range(first, first + self.shares)) for first in range(0, self.count, self.shares)]
        try:
            groups = [dist.new_group(ranks) for ranks in stages]
        except RuntimeError as error:
            raise Lost(range(self.count), error) from error
        return Sums(tuple(stages[self.stage(team.rank)]), groups[self.stage(team.rank)])

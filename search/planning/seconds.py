"""What the parts of a search cost on this machine, and how many of them there are: what a plan is made from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from wb.core.records import Frozen


class Costs(Frozen):
    """Seconds that the parts of a search take on this machine, measured on a few networks of the space."""

    alone: float
    """One step of supernet training with the largest network alone."""
    sandwich: float
    """One step with all networks that a step trains."""
    tune: float
    """One step of training a candidate alone, without the teacher's answer."""
    teach: float
    """One answer of the teacher, which is remembered."""
    evaluation: float
    """One evaluation."""
    timing: float
    """The part of an evaluation that only one process does at a time."""
    score: float
    """Scoring one candidate at a rung."""
    light: float = 0.0
    """One step of training the smallest network alone."""
    heavy: float = 0.0
    """One step of training the largest network alone."""
    macs: float = 0.0
    """Multiply-accumulates of the largest network; 0 where these were not counted."""
    slope: float = 0.0
    """Seconds that a multiply-accumulate adds to the step of the smallest network where it adds least; 0: as in the largest."""

    def reached(self, step: float) -> int | None:
        """The multiply-accumulates of networks that are trained in `step` seconds a step; None if all are.

        From the smallest network on, the seconds grow with the multiply-accumulates, as little as in any network that was timed:
        dense convolutions take a third of the time of depthwise ones.
        """
        if not self.macs:
            return None
        most = (step - self.light) / (self.slope or (self.heavy - self.light) / self.macs)
        return None if step >= self.heavy or most >= self.macs else round(most)

    def up_to(self, macs: float) -> Costs:
        """The costs where no network has more multiply-accumulates: one in the middle takes half of what those take at most."""
        if not self.macs or macs >= self.macs:
            return self
        step = self.light + (self.heavy - self.light) * macs / self.macs
        return self.model_copy(update={"tune": min(self.tune, max(self.light, step / 2))})


class Size(NamedTuple):
    """What the costs are multiplied by: training steps of an epoch of the supernet, at rungs, of finalists; processes; networks
    beside the finalists; times that the supernet's steps are `faster`, as several processes train it; processes that train
    networks alone; how many times as long as before networks of the front are trained once more."""

    supernet: int
    ranking: int
    whole: int
    workers: int = 1
    beside: int = 0
    faster: float = 1.0
    hands: int = 1
    again: float = 0.0

    def of(self, part: float) -> Size:
        """The steps where the supernet and the rungs see that part of the images."""
        return self._replace(supernet=max(1, round(part * self.supernet)), ranking=max(1, round(part * self.ranking)))


BESIDE = 0.8  # of what a process does alone, what another one adds to it (assumed: they share caches and memory)


def speed_of(hands: int, networks: int) -> float:
    """How many times as fast so many processes train so many networks as one does."""
    return 1 + BESIDE * (max(1, min(hands, networks)) - 1)


def beside_itself(again: float, hands: int) -> float:
    """How many times as long a network takes that is trained once more, `again` times as long, beside itself if that can be."""
    return as_long([1.0, again], hands) if again else 1.0


def as_long(seconds: Sequence[float], hands: int) -> float:
    """The seconds that networks which take one process so many each take several: at least as many as the longest."""
    return max(max(seconds), sum(seconds) / speed_of(hands, len(seconds))) if seconds else 0.0

"""How many finalists the time that is left trains for long enough, once their own steps are timed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Generic, NamedTuple, TypeVar

from wb.search.fidelity.teacher import TEACHERS
from wb.search.planning.shares import DEAREST, LEAST, READ, TimePlan

ANSWER = 0.4  # the share of a training step that an answer of the teacher takes
Found = TypeVar("Found")


class Enough(NamedTuple, Generic[Found]):
    """Finalists by number, the epochs of each, and `dear`: the numbers of candidates that would take too much of the time."""

    finalists: Mapping[int, Found]
    epochs: int
    dear: frozenset[int]

    def settled(self, plan: TimePlan, there: int) -> TimePlan:
        """The plan with these; `there` is how many of its finalists there are candidates for, whatever the time."""
        count = plan.finalists if len(self.finalists) == there else len(self.finalists)
        kept = {"finalists": count, "finetune": self.epochs, "dear": tuple(sorted(self.dear)), "settled": True}
        return plan.model_copy(update=kept)


def enough(
    plan: TimePlan,
    seconds: float,
    choose: Callable[[int, Collection[int]], Mapping[int, Found]],
    epoch: Callable[[int], float],
) -> Enough[Found]:
    """The finalists, as many of the plan's as get its epochs that are enough, but its fewest at least; and their epochs.

    A network that would take too much of the time by itself gives way to another, as long as there are others. `choose` gives
    that many finalists by number, without some; `epoch` the seconds that the one with that number takes for an epoch.
    """
    without: set[int] = set()
    finalists = choose(plan.finalists, without)
    while True:
        dear = {number for number in finalists if epoch(number) * plan.enough > DEAREST * seconds}
        epochs = epochs_left([epoch(number) for number in finalists], seconds, plan.costs.evaluation)
        if dear and len(dear) < len(finalists):
            without |= dear
            finalists = choose(plan.finalists, without)
        elif epochs >= plan.enough or len(finalists) <= plan.fewest:
            return Enough(finalists, epochs, frozenset(without))
        else:
            finalists = choose(len(finalists) - 1, without)


def epochs_left(finalists: Collection[float], seconds: float, evaluation: float) -> int:
    """The epochs of fine-tuning that so many `seconds` are enough for, of finalists with these seconds of an epoch.

    An evaluation takes `evaluation` seconds. The two dearest finalists are counted as teachers of the others.
    """
    dearest = sorted(finalists)[-TEACHERS:] if len(finalists) > 1 else []
    each = sum(finalists) + ANSWER * sum(dearest)
    return max(LEAST["finetune"], int((seconds - READ * evaluation * len(finalists)) / each))

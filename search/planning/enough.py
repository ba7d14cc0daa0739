"""How many finalists the time that is left trains for long enough, once their own steps are timed, and how long each."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from statistics import fmean
from typing import Generic, NamedTuple, TypeVar

from wb.search.fidelity.forecast import SLOPE
from wb.search.planning.seconds import as_long, beside_itself
from wb.search.planning.shares import DEAREST, FIRST_MOST, LEAST, READ, TUNED_MOST, TimePlan, epochs_text

ANSWER = 0.4  # the share of a training step that an answer of the teacher takes
PARTS = (1, 2, 4)  # the largest finalist is one that gets the epochs it should, half of them, or a quarter
# In logarithms, how much errors fall where epochs are e times as many: between 40 and 160 epochs on photographs, of two networks
# of 5 and 17 MMAC (docs/results.md, `photographs animals`).
LONGER = -0.06
Found = TypeVar("Found")


class Epochs(NamedTuple):
    """Epochs of the largest finalist, which is trained first and teaches, and of each of the others."""

    first: int
    others: int


class Enough(NamedTuple, Generic[Found]):
    """Finalists by number, the largest of them, the epochs, and `dear`: the numbers of candidates that would take too much of
    the time."""

    finalists: Mapping[int, Found]
    largest: int
    epochs: Epochs
    dear: frozenset[int]

    def settled(self, plan: TimePlan, there: int) -> TimePlan:
        """The plan with these; `there` is how many of its finalists there are candidates for, whatever the time."""
        count = plan.finalists if len(self.finalists) == there else len(self.finalists)
        epochs = {"finetune": self.epochs.others, "longest": self.epochs.first}
        kept = {"finalists": count, "dear": tuple(sorted(self.dear)), "settled": True}
        return plan.model_copy(update={**epochs, **kept})

    @property
    def text(self) -> str:
        """`97 epochs for 18, the largest finalist, and 37 for each of the others`."""
        first, others = self.epochs
        if len(self.finalists) == 1:
            return f"{epochs_text(first)} for {self.largest}, the only finalist,"
        return f"{epochs_text(first)} for {self.largest}, the largest finalist, and {others} for each of the others"


def largest_first(numbers: Iterable[int], work: Callable[[int], float]) -> list[int]:
    """Finalists in the order in which they are trained: the first has most work, and teaches the others."""
    return sorted(numbers, key=lambda number: (-work(number), number))


def enough(
    plan: TimePlan,
    seconds: float,
    choose: Callable[[int, Collection[int]], Mapping[int, Found]],
    epoch: Callable[[int], float],
    work: Callable[[int], float],
    beside: int = 0,
    hands: int = 1,
    again: float = 0.0,
) -> Enough[Found]:
    """The finalists, as many of the plan's as get its epochs that are enough, but its fewest at least; and their epochs.

    `choose` gives that many finalists by number, without some; `epoch` the seconds that the one with that number takes for an
    epoch, and `work` its multiply-accumulates: the largest has most of them. So many networks `beside` them take as
    long as they do in the mean. So many `hands` train all but the largest. Where what is on the front is trained once more, and
    takes `again` times as long for it, there is a hand for that of the largest meanwhile, if there are several.
    Larger networks get fewer epochs; of several choices that one is taken whose largest is to be expected to be best.
    """
    found = [
        _within(max(1, plan.first // part), plan, seconds, choose, epoch, work, beside, hands, again) for part in PARTS
    ]

    def expected(one: Enough[Found]) -> float:
        """The logarithm of the errors of the largest finalist, but for what all have in common."""
        return SLOPE * math.log(work(one.largest)) + LONGER * math.log(one.epochs.first)

    return min(found, key=expected)


def _within(
    first: int,
    plan: TimePlan,
    seconds: float,
    choose: Callable[[int, Collection[int]], Mapping[int, Found]],
    epoch: Callable[[int], float],
    work: Callable[[int], float],
    beside: int,
    hands: int,
    again: float,
) -> Enough[Found]:
    """As `enough`, of networks that get `first` epochs in the largest's share of the time.

    One that does not gives way to another, as long as there are others.
    """
    without: set[int] = set()
    alone, twice = beside_itself(again, hands), 1 + again
    finalists = choose(plan.finalists, without)
    while True:
        largest = largest_first(finalists, work)[0]
        dear = {number for number in finalists if epoch(number) * alone * first > DEAREST * seconds}
        others = [epoch(number) * twice for number in finalists if number != largest]
        others += beside * [fmean([epoch(number) * twice for number in finalists])]
        left = seconds - READ * plan.costs.evaluation * (len(others) + 1)
        epochs = epochs_left(epoch(largest) * alone, as_long(others, hands), left)
        if dear and len(dear) < len(finalists):
            without |= dear
            finalists = choose(plan.finalists, without)
        elif epochs.others >= plan.enough or len(finalists) <= plan.fewest:
            return Enough(finalists, largest, epochs, frozenset(without))
        else:
            finalists = choose(len(finalists) - 1, without)


def epochs_left(first: float, others: float, seconds: float) -> Epochs:
    """The epochs that so many `seconds` of training are enough for, of finalists with these seconds of an epoch, others together.

    The first has its share, or as many epochs as the others where those would have more; what they need not is its own. While
    they are trained, it answers to each batch once.
    """
    if not others:
        alone = min(FIRST_MOST, max(LEAST["finetune"], int(seconds / first)))
        return Epochs(alone, alone)
    each = others + ANSWER * first
    all_alike = seconds / (first + each)
    shared = min(all_alike, TUNED_MOST, (1 - DEAREST) * seconds / each)
    rest = max(LEAST["finetune"], int(shared))
    return Epochs(max(rest, min(FIRST_MOST, int((seconds - rest * each) / first))), rest)

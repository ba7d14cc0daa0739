"""Which alternatives go together: an integer program keeps several choices within the limits, their true divergence decides.

Source: Bercovich et al., "Puzzle", 2024, for the program over replace-one scores; Molchanov et al., "LANA", 2022,
https://arxiv.org/abs/2107.10624, that scores do not quite add up, so that several diverse solutions are tried.
Limits: scores below the noise of the images that they are from rank nothing; among those the error of what a sub-layer gives
decides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.stats import kendalltau

from wb.core import program
from wb.core.errors import BudgetMissed
from wb.search.alternatives.costs import Costs, unreachable
from wb.search.alternatives.option import WHOLE
from wb.search.alternatives.scores import Choice, Divergence, Report, Scores

SOLUTIONS = 5  # of which the true divergence is measured
TIES = 1e-7  # of the error of what a sub-layer gives is added to its score: it decides where scores are alike
RANDOM = 30  # choices that show how far scores add up


class Pick(NamedTuple):
    """A choice, the sum of its scores, and its true divergence."""

    choice: dict[str, str]
    predicted: float
    divergence: Divergence


class Chooser:
    """Chooses among a library's alternatives, by their scores and by `costs` by metric."""

    def __init__(self, scores: Scores, costs: Mapping[str, Costs], report: Report) -> None:
        self.scores, self.costs, self.report = scores, costs, report

    def __call__(self, aims: Mapping[str, float]) -> Pick:
        """The choice whose predicted costs keep `aims` by metric and that has the least divergence of some.

        Raises:
            BudgetMissed: none keeps them.
        """
        room = {metric: self.costs[metric].room(aim) for metric, aim in aims.items()}
        best: Pick | None = None
        tried: list[dict[str, str]] = []
        while len(tried) < SOLUTIONS:
            self.report("measuring the divergence of choices", len(tried), SOLUTIONS)
            solution = program.solve(self.items, room, tried)
            if solution is None:
                break
            tried.append({slot: item.name for slot, item in solution.items()})
            found = self.picked(tried[-1])
            best = found if best is None or found.divergence.value < best.divergence.value else best
        if best is None:
            raise BudgetMissed(self.unreachable(aims))
        return best

    def picked(self, choice: Choice) -> Pick:
        """A choice with its divergence."""
        return Pick(dict(choice), self.predicted(choice), self.scores.true(choice))

    def predicted(self, choice: Choice) -> float:
        """The sum of a choice's scores."""
        return sum(self.divergences[item].value for item in choice.items())

    def random(self, seed: int) -> list[Pick]:
        """Random choices: of a random share of the sub-layers a random alternative each."""
        rng, found = np.random.default_rng(seed), []
        for i in range(RANDOM):
            self.report("measuring how scores add up", i, RANDOM)
            share = rng.random()
            choice = {}
            for slot, items in self.items.items():
                names = [item.name for item in items if item.name != WHOLE]
                replaced = rng.random() < share and names
                choice[slot] = names[rng.integers(len(names))] if replaced else WHOLE
            found.append(self.picked(choice))
        return found

    @cached_property
    def divergences(self) -> dict[tuple[str, str], Divergence]:
        """All scores, by slot and name."""
        return self.scores.make(self.report)

    @cached_property
    def items(self) -> dict[str, list[program.Item]]:
        """The alternatives of each sub-layer with errors and costs."""
        return {
            slot: [
                program.Item(
                    name,
                    self.divergences[slot, name].value + TIES * option.error,
                    {metric: costs.each[slot, name] for metric, costs in self.costs.items()},
                )
                for name, option in options.items()
                if (slot, name) in self.divergences
            ]
            for slot, options in self.scores.options.items()
        }

    def least(self, metric: str) -> float:
        """The least predicted cost that any choice has."""
        costs = self.costs[metric]
        return costs({slot: min(items, key=lambda i: i.costs[metric]).name for slot, items in self.items.items()})

    def unreachable(self, aims: Mapping[str, float]) -> str:
        """What to say of aims that no choice keeps."""
        whole = dict.fromkeys(self.scores.options, WHOLE)
        least = {metric: self.least(metric) for metric in aims}
        return unreachable(aims, least, {metric: self.costs[metric](whole) for metric in aims})


def agreement(picks: Sequence[Pick]) -> float | None:
    """Kendall's tau between summed scores and true divergences; None where it is not defined."""
    tau = float(kendalltau([one.predicted for one in picks], [one.divergence.value for one in picks]).statistic)
    return None if np.isnan(tau) else tau

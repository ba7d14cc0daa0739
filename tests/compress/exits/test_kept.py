"""The cheapest gates that keep the accuracy: against every combination by loops, and on images that they were not chosen on."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from tests.compress.exits.test_gates import SHARES, made
from wb.compress.exits.gates import Gates, Judged, left_at, parting
from wb.compress.exits.kept import Joint, kept
from wb.models.exits.module import ALWAYS, NEVER, sure


def right_of(judged: Judged, left: Tensor) -> Tensor:
    answers = torch.stack(judged.answers, dim=1)[torch.arange(len(left)), left]
    return answers.argmax(1) == judged.labels


def read(judged: Judged, gates: Gates) -> tuple[int, float]:
    """How many are right, and the mean cost."""
    left = left_at(gates, judged.answers)
    return int(right_of(judged, left).sum()), float(torch.tensor(SHARES, dtype=torch.float64)[left].mean())


@pytest.mark.parametrize("seed", range(3))
def test_what_is_said_of_a_combination_is_what_it_does(seed: int) -> None:
    judged = made(seed)
    joint = Joint(judged, SHARES)
    for i, gates in enumerate(joint.gates):
        right, cost = read(judged, gates)
        assert int(joint.right[i]) == right
        assert float(joint.cost[i]) == pytest.approx(cost)


@pytest.mark.parametrize("seed", range(3))
def test_none_of_all_combinations_is_cheaper_by_more_than_an_example(seed: int) -> None:
    judged = made(seed, 40)
    values = [[ALWAYS, *parting(sure(answer)), NEVER] for answer in judged.answers[:-1]]
    every = [read(judged, (a, b)) for a, b in product(*values)]
    joint = Joint(judged, SHARES)
    for least in (25, 30, 35, 38):
        possible = [cost for right, cost in every if right >= least]
        right, cost = read(judged, joint.cheapest(least))
        if possible:
            assert right >= least
            assert cost <= min(possible) + 1 / 40
        else:
            assert right == max(one for one, _ in every), "as many as can be"


def doubtful(seed: int, count: int) -> Judged:
    """Examples of which a fifth have another label, so that the end is wrong there as the exits are."""
    judged, generator = made(seed, count), torch.Generator().manual_seed(seed + 100)
    other = torch.randint(3, (count,), generator=generator)
    return judged._replace(labels=torch.where(torch.rand(count, generator=generator) < 0.2, other, judged.labels))


@pytest.mark.parametrize("seed", range(2))
def test_gates_save_and_keep_the_accuracy_on_others(seed: int) -> None:
    judged, others = doubtful(seed, 300), doubtful(seed + 20, 600)
    own = judged.answers[-1].argmax(1) == judged.labels
    found = kept(judged, own, SHARES, seed=0)
    assert int(right_of(judged, found.crossed).sum()) >= int(own.sum())
    right, cost = read(others, found.gates)
    whole = int((others.answers[-1].argmax(1) == others.labels).sum())
    assert cost < 0.9
    assert right > whole - 0.03 * 600
    again = kept(judged, own, SHARES, seed=0)
    assert (again.gates, again.crossed.tolist()) == (found.gates, found.crossed.tolist())


def test_where_no_way_keeps_the_accuracy_nothing_leaves() -> None:
    judged = doubtful(1, 80)
    found = kept(judged, torch.ones(80, dtype=torch.bool), SHARES, seed=0)
    right = int(right_of(judged, torch.full((80,), 2)).sum())
    assert right < 80
    assert found.gates == (NEVER, NEVER)
    assert found.crossed.tolist() == [2] * 80

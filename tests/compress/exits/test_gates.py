"""Ideal exits and gates: with beta 0 nothing leaves, the cost falls with beta, and who leaves is who can."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from wb.compress.exits.gates import LADDER, Candidates, Judged, crossed, left_at

SHARES = (0.3, 0.6, 1.0)


def made(seed: int, count: int = 80) -> Judged:
    """Examples of which half are easy: exits are sure and right there, and guess elsewhere; the end knows most."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    easy = torch.rand(count, generator=generator) < 0.5
    right = torch.nn.functional.one_hot(labels, 3).float()

    def answer(sure: float, hard: float) -> Tensor:
        noise = torch.randn(count, 3, generator=generator)
        return noise + right * torch.where(easy, sure, hard)[:, None]

    return Judged((answer(6.0, 0.0), answer(7.0, 1.0), answer(8.0, 6.0)), labels)


def ideal(regrets: Tensor, shares: Sequence[float], beta: float) -> Tensor:
    """The number of the ideal exit of each example, from regrets (n, exits + 1) and latencies as shares of the last: (n)."""
    sums = regrets + beta * torch.tensor(shares, dtype=regrets.dtype)
    deepest = sums.flip(1).argmin(dim=1)  # the first of equal ones
    return sums.shape[1] - 1 - deepest


@pytest.mark.parametrize("seed", range(3))
def test_the_ideal_exit_has_the_least_sum_and_is_the_deepest_of_equals(seed: int) -> None:
    regrets = made(seed).regrets()
    before = None
    for beta in LADDER:
        found = ideal(regrets, SHARES, beta)
        for row, k in zip(regrets.double().tolist(), found.tolist(), strict=True):
            sums = [regret + beta * share for regret, share in zip(row, SHARES, strict=True)]
            assert sums[k] <= min(sums) + 1e-6
        if beta == 0:
            assert found.tolist() == [2] * len(found)
        costs = torch.tensor(SHARES)[found]
        assert before is None or bool((costs <= before).all()), "of every single example"
        before = costs


@pytest.mark.parametrize("seed", range(2))
def test_with_beta_zero_nothing_leaves_and_the_cost_falls_with_beta(seed: int) -> None:
    judged, others = made(seed), made(seed + 10, 200)
    found = Candidates(judged, SHARES)
    assert left_at(found.best(0.0), others.answers).tolist() == [2] * 200, "whatever the examples"
    left = [left_at(found.best(beta), judged.answers) for beta in LADDER]
    costs = [float(torch.tensor(SHARES, dtype=torch.float64)[one].mean()) for one in left]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(costs))
    assert left_at(found.best(50.0), others.answers).tolist() == [0] * 200


def test_gates_let_the_easy_ones_leave_and_keep_what_is_right() -> None:
    judged, others = made(5, 300), made(6, 300)
    left = left_at(Candidates(judged, SHARES).best(0.1), others.answers)
    share = torch.tensor(SHARES)[left].mean()
    assert 0.3 < float(share) < 0.85
    answers = torch.stack(others.answers, 1)[torch.arange(300), left].argmax(1)
    whole = (others.answers[-1].argmax(1) == others.labels).float().mean()
    assert float((answers == others.labels).float().mean()) > float(whole) - 0.03


def test_what_is_told_of_validation_images_is_by_gates_that_did_not_see_them() -> None:
    judged = made(7)
    found = crossed(judged, SHARES, (0.0, 0.1), seed=0)
    assert found[0.0].tolist() == [2] * 80
    assert 0 < int((found[0.1] < 2).sum()) < 80
    again = crossed(judged, SHARES, (0.0, 0.1), seed=0)
    assert torch.equal(found[0.1], again[0.1])


def test_the_gate_of_a_single_exit_is_the_best_of_all() -> None:
    judged = Judged((made(8).answers[1], made(8).answers[2]), made(8).labels)
    shares, beta = (0.5, 1.0), 0.12
    candidates = Candidates(judged, shares, (beta,))
    regrets, sureness = judged.regrets().double(), judged.answers[0].softmax(1).amax(1)

    def total(gate: float) -> float:
        left = (sureness > gate).double()
        return float((left * (regrets[:, 0] + beta * 0.5) + (1 - left) * beta).mean())

    every = [-1.0, 2.0, *[float(value) for value in sureness]]
    assert total(candidates.best(beta)[0]) <= min(map(total, every)) + 2 / 80 * 0.5, (
        "but for what lies between those tried"
    )

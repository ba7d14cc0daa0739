"""Optimizer states that processes divide among them; what two processes do with them is in `tests/scale/test_pair.py`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wb.scale.team import ALONE, Team
from wb.training.optimizer import Optimizer
from wb.training.recipes.recipe import Recipe
from wb.training.shared import sharded
from wb.training.shared.sharded import Sharded, optimizer_of, shares


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=40), st.integers(1, 5))
def test_all_have_about_as_much_and_nothing_is_left(sizes: list[int], count: int) -> None:
    named = {str(number): size for number, size in enumerate(sizes)}
    owners = shares(named, count)
    assert owners.keys() == named.keys()
    loads = [sum(size for name, size in named.items() if owners[name] == one) for one in range(count)]
    assert max(loads) <= sum(sizes) / count + max(sizes)
    assert len(set(owners.values())) == min(count, len(sizes))


def test_small_states_and_those_of_one_process_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = dict(nn.Linear(3, 3).named_parameters())

    def kind(team: Team) -> type:
        return type(optimizer_of(team, weights, Recipe(), decayed=(), matrices={}))

    assert kind(Team(0, 2)) is Optimizer
    monkeypatch.setattr(sharded, "LARGE", 12)
    assert (kind(ALONE), kind(Team(0, 2)), kind(Team(0, 3))) == (Optimizer, Sharded, Optimizer)

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from wb.core.errors import BadOption
from wb.scale.joining import joined
from wb.scale.processes import Processes
from wb.scale.team import ALONE, Team


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3))
def test_the_parts_of_a_batch_are_all_of_it(size: int, groups: int, sequence: int) -> None:
    teams = [Team(rank, groups * sequence, sequence) for rank in range(groups * sequence)]
    parts = [team.rows(size) for team in teams]
    assert sum(share for _, share in parts) == pytest.approx(1)
    seen = [one for rows, share in parts for one in range(size)[rows] if share]
    assert sorted(seen) == sorted(list(range(size)) * sequence)
    assert all(range(size)[rows] for rows, _ in parts)  # nobody computes nothing


def test_one_process_alone_changes_nothing(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.ones(3))
    weight.grad = torch.ones(3)
    assert ALONE.reduce({"w": weight}, 1.0, 2.5) == 2.5
    assert weight.grad.tolist() == [1, 1, 1]
    assert ALONE.shared(lambda: b"it") == b"it"
    with ALONE.copied(tmp_path / "none") as path:
        assert path == tmp_path / "none"
    with joined() as team:
        assert team is ALONE


@pytest.mark.parametrize(
    ("asked", "sequence", "why"),
    [
        (0, 1, "--torchrun 0 is out of range"),
        (2, -1, "--sequence-parallel -1"),
        (3, 2, "multiple of --sequence-parallel"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(asked: int, sequence: int, why: str) -> None:
    with pytest.raises(BadOption, match=why):
        Processes(asked, sequence).check()


def test_tokens_that_are_shared_need_a_process_for_each_share() -> None:
    assert Processes(1, 3).count == 3
    assert Processes(4, 2).count == 4


def test_torchrun_is_not_started_within_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadOption, match="would start it again"):
        Processes(2).check()
    assert Processes().follows
    with pytest.raises(BadOption, match="3 processes cannot be split into groups of 2"), joined(2):
        pass

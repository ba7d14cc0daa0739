"""How many train together, and how much faster that is at best."""

from __future__ import annotations

import pytest

from wb.scale.processes import ONE, Processes


def test_processes_without_cores_of_their_own_make_nothing_faster() -> None:
    assert ONE.faster(8) == 1.0
    assert Processes(4).faster(8) == 4.0
    assert Processes(4).faster(2) == 2.0
    assert Processes(4).faster(0) == 1.0
    assert Processes(1, sequence=2).faster(2) == 2.0


def test_of_those_that_torchrun_started_all_machines_count(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {"RANK": 0, "WORLD_SIZE": 8, "LOCAL_WORLD_SIZE": 4, "MASTER_ADDR": "x", "MASTER_PORT": 1}
    for name, value in started.items():
        monkeypatch.setenv(name, str(value))
    assert ONE.faster(4) == 8.0
    assert ONE.faster(2) == 4.0, "two processes share a core"
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert ONE.faster(4) == 4.0, "all of them may be here"

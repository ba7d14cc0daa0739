"""The check of the latency table: the errors that it finds, and that it ends no search."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from wb.core.errors import StorageFailed
from wb.core.measures.readings import Reading
from wb.search.ending import tabled
from wb.search.ending.tabled import table_error

ONE: Any = object()


def ms(value: float) -> dict[str, Reading]:
    return {"latency": Reading(value=value, unit="ms", how="measured")}


def asked(networks: Any, said: list[str] | None = None) -> Any:
    how: Any = {"alone": nullcontext, "progress": lambda *_: None, "say": (said if said is not None else []).append}
    return table_error(networks, {3: ms(1.0), 4: ms(2.0)}, ONE, **how)


def test_errors_are_shares_of_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tabled, "estimate", lambda network, _: SimpleNamespace(value=network))
    found = asked({3: 1.5, 4: 2.2})
    assert found["max_relative_error"] == pytest.approx(0.5)
    assert found["median_relative_error"] == pytest.approx(0.3)
    assert [row["id"] for row in found["networks"]] == [3, 4]


def test_a_front_of_twins_in_8_bits_alone_has_none() -> None:
    assert asked({}) is None


def test_a_table_that_cannot_be_stored_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(tabled, "estimate", full)
    said: list[str] = []
    assert asked({3: ONE}, said) is None
    assert said == ["the per-block latency table was not checked: the disk is full"]

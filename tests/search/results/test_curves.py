"""Losses survive an end at any place, and each epoch is there once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from wb.core.errors import BadArtefact
from wb.search.results.curves import Curves, read_curves


def test_an_epoch_that_is_done_again_is_there_once(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    assert read_curves(path) == {}
    told: list[tuple[int, int, float]] = []
    for epoch, loss in ((1, 2.0), (2, 1.5), (3, 1.25)):
        Curves(path).of("supernet", lambda *what: told.append(what))(epoch, 5, loss)
    Curves(path).of("7")(1, 2, 0.5)
    Curves(path).of("supernet")(2, 5, 1.5)  # continued from a checkpoint, which reports its last epoch
    Curves(path).of("supernet")(3, 5, 1.0)
    assert read_curves(path) == {"supernet": ((1, 2.0), (2, 1.5), (3, 1.0)), "7": ((1, 0.5),)}
    assert told == [(1, 5, 2.0), (2, 5, 1.5), (3, 5, 1.25)]


def test_what_is_no_number_is_not_kept_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "curves.json"
    Curves(path).of("supernet")(4, 5, math.nan)
    assert not path.exists()
    path.write_text('{"supernet": [[0, 1]]}')
    with pytest.raises(BadArtefact, match=r"curves\.json is damaged"):
        read_curves(path)
    Curves(path).of("supernet")(1, 5, 2.0)  # training does not end for it
    assert read_curves(path) == {"supernet": ((1, 2.0),)}

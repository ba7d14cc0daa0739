"""Broken ONNX files from fixed seeds: every one gives a result, or one paragraph.

More of them: `mutated(seed)` for any other seeds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.mutate_onnx import BREAKS, mutated, plain
from wb.core.errors import WbError
from wb.export.foreign import trial
from wb.export.foreign.opening import file_size, metadata_of, open_graph
from wb.export.foreign.trial import try_out
from wb.export.graph import read_architecture
from wb.hardware.device import Device
from wb.models.model import read_history

LIMIT_S = 20.0  # for the few that are run: half a second each, and more on a busy machine


@pytest.fixture(autouse=True)
def _alone(alone: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_ask", alone)


def paragraph(error: WbError) -> None:
    text = str(error)
    assert text
    assert "\n" not in text
    assert len(text) < 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.onnx"


def opened(path: Path) -> bool:
    """Whether it opens; reads on the way what is read without running anything."""
    try:
        model = open_graph(path)
        file_size(path)
        for read in (read_architecture, lambda p: read_history(metadata_of(model).get("wb.history", "[]"), p)):
            try:
                read(path)
            except WbError as error:
                paragraph(error)
    except WbError as error:
        paragraph(error)
        return False
    return True


def test_the_file_that_is_broken_is_fine(path: Path) -> None:
    path.write_bytes(plain().SerializeToString())
    assert opened(path)
    assert try_out(path, Device()).readings["params"].value > 0


def test_broken_files_open_or_say_why(path: Path) -> None:
    fine = 0
    for seed in range(300):
        path.write_bytes(mutated(seed))
        fine += opened(path)
    assert 30 < fine < 270  # else the breaks break nothing, or everything


def test_broken_files_that_open_run_or_say_why(path: Path) -> None:
    tried, seed = 0, 1000
    while tried < 6:
        path.write_bytes(mutated(seed))
        seed += 1
        if opened(path):
            tried += 1
            try:
                try_out(path, Device(), limit_s=LIMIT_S)
            except WbError as error:
                paragraph(error)


def test_a_seed_gives_one_file() -> None:
    assert [mutated(seed) for seed in range(20)] == [mutated(seed) for seed in range(20)]
    assert len({mutated(seed) for seed in range(20)}) > 15
    assert len(BREAKS) >= 15

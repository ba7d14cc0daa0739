"""Tables of a device's blocks: of model files, and of the space of a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.export.devices.predict import predicted
from wb.export.timing import table as tables
from wb.export.timing.blocks import parts
from wb.hardware.device import parse_device
from wb.models.model import Model, save
from wb.search.recording import _of_run, record_table
from wb.search.run import Run


def test_the_blocks_of_a_model_are_timed_and_written(
    striped: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "user_cache_dir", lambda _: str(tmp_path / "cache"))
    model, out = tmp_path / "a.safetensors", tmp_path / "own.json"
    save(striped, model)
    seen: list[tuple[int, int]] = []

    def record(models: list[Path], *, force: bool = False) -> int:
        return record_table("cpu", out, models, None, 0, 1, lambda _, done, of: seen.append((done, of)), force=force)

    blocks = {part.key for part in parts(striped.architecture)}
    assert record([model]) == len(blocks)
    assert seen == [(0, len(blocks))]
    assert predicted(striped.architecture, parse_device(f"table:{out}")).how == "predicted"
    with pytest.raises(BadOption, match="exists; choose another file"):
        record([model])
    assert record([model], force=True) == len(blocks)
    assert len(seen) == 1  # nothing is timed again
    with pytest.raises(BadOption, match="no blocks to time"):
        record([], force=True)


def test_networks_of_a_run_are_its_ends_its_candidates_and_some_more(fabricate: Callable[..., Run]) -> None:
    found = list(_of_run(fabricate(trials=24).folder, 3))
    assert len(found) == 2 + 24 + 3
    assert found[0].key != found[1].key

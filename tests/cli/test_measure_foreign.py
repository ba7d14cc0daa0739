"""`wb measure` and `wb quantize` on ONNX files of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import helper
from typer.testing import Result

from tests.commands import succeeded, wb
from tests.compress.ptq.graphs import model as network
from tests.export.foreign_graphs import floats, linear, loop, model, save, save_beside
from wb.core.measures.readings import Reading
from wb.export.timing.measure import Latency
from wb.models.model import save as save_model

node = helper.make_node


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies are `tests/export/timing/test_measure.py`'s."""
    reading = Reading(value=1, unit="ms", how="measured")
    monkeypatch.setattr(
        "wb.export.timing.runs.measure_latency",
        lambda graphs, *_, **__: {name: Latency(reading, reading, 1, 0, 1) for name in graphs},
    )


def read(path: Path, *arguments: object) -> dict[str, dict[str, object]]:
    result = succeeded("measure", path, "--json", *arguments)
    found: dict[str, dict[str, object]] = json.loads(result.stdout)
    return found


def fails(words: str, *arguments: object) -> None:
    result = wb(*arguments)
    assert result.exit_code == 1, result.output
    (paragraph,) = [line for line in result.stderr.splitlines() if "error: " in line]
    assert words in paragraph
    assert "Traceback" not in result.output


def test_everything_that_a_file_stores_is_counted(tmp_path: Path) -> None:
    found = read(save_beside(linear(100, 50), tmp_path / "a.onnx"))
    beside = (tmp_path / "weights.bin").stat().st_size
    assert found["size"]["value"] == (tmp_path / "a.onnx").stat().st_size + beside
    assert found["params"]["value"] == found["macs"]["value"] == 5000


def test_a_fixed_batch_is_named_beside_what_is_of_it(tmp_path: Path) -> None:
    made = model([node("Conv", ["x", "w"], ["y"])], [floats("w", 5, 3, 3, 3)], {"x": [4, 3, 8, 8]})
    result = wb("measure", save(made, tmp_path / "a.onnx"))
    assert f"{4 * 5 * 36 * 27 / 1000:.4g} k" in _row(result, "macs")
    assert "macs: of one run, which takes 4 images" in result.stdout


def _row(result: Result, name: str) -> str:
    (found,) = [line for line in result.stdout.splitlines() if f" {name} " in line]
    return found


def test_so_is_the_batch_that_was_asked_for_of_our_own(tmp_path: Path) -> None:
    save_model(network(), tmp_path / "a.safetensors")
    one, two = read(tmp_path / "a.safetensors"), read(tmp_path / "a.safetensors", "--batch", 2)
    for name in ("macs", "energy"):
        assert two[name]["value"] == pytest.approx(2 * float(str(one[name]["value"])))
        assert "takes 2 images" in str(two[name]["note"])
        assert "images" not in str(one[name]["note"])
    assert {name: two[name] for name in ("size", "params")} == {name: one[name] for name in ("size", "params")}


def test_what_is_not_counted_has_no_number_and_says_why(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", ["x", "w"], ["h"]),
        node("Attention", ["h", "h", "h"], ["y"], q_num_heads=1, kv_num_heads=1),
    ]
    made = model(nodes, [floats("w", 4, 4)], {"x": ["n", 3, 4]})
    made.opset_import[0].version = 23
    made.ir_version = 10
    path = save(made, tmp_path / "a.onnx")
    found = read(path)["macs"]
    assert (found["value"], found["note"]) == (None, "Attention is an operator whose products are not counted")
    table = wb("measure", path).stdout
    assert "no macs: Attention is an operator whose products are not counted" in table


def test_a_file_that_carries_a_damaged_architecture_is_measured_like_any_other(tmp_path: Path) -> None:
    made = linear()
    helper.set_model_props(made, {"wb.architecture": "{}"})
    path = save(made, tmp_path / "a.onnx")
    result = succeeded("measure", path)
    assert "carries `wb.architecture`, but" in result.stdout
    assert "12" in _row(result, "macs")
    fails("carries `wb.architecture`, but", "show", path)


def test_a_loop_without_end_is_stopped(
    tmp_path: Path, alone: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wb.export.foreign.trial._ask", alone)
    path = save(loop(2**62), tmp_path / "a.onnx")
    fails("took more than 1 s to load and to run once", "measure", path, "--run-limit", 1)
    fails("took more than 1 s to load and to run once", "quantize", path, "-o", tmp_path / "q.onnx", "--run-limit", 1)
    assert list(tmp_path.iterdir()) == [path]


def test_a_history_that_is_none_is_found_before_any_work(tmp_path: Path) -> None:
    made = linear()
    helper.set_model_props(made, {"wb.history": "[" * 100_000})
    path = save(made, tmp_path / "a.onnx")
    fails("the history in", "quantize", path, "-o", tmp_path / "q.onnx")
    assert list(tmp_path.iterdir()) == [path]

"""Trying files out in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from tests.export.foreign_graphs import constant, floats, linear, loop, model, save, save_beside
from wb.core.errors import BadArtefact, Unsupported
from wb.export.counting.graph import count_graph
from wb.export.foreign import trial
from wb.export.foreign.trial import free_memory, try_out
from wb.hardware.device import Device


@pytest.fixture(autouse=True)
def _alone(alone: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_ask", alone)


def refuse(path: Path, words: str, limit_s: float = 30) -> None:
    with pytest.raises(BadArtefact, match=words) as caught:
        try_out(path, Device(), limit_s=limit_s)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_fine_file_is_counted(tmp_path: Path) -> None:
    path = save_beside(linear(), tmp_path / "a.onnx")
    found, counts = try_out(path, Device(), batch=3), count_graph(path, 3)
    assert (found.readings, found.missing) == (counts.readings, counts.missing)
    assert found.readings["macs"].value == 3 * 12


def test_a_loop_without_end_is_stopped(tmp_path: Path) -> None:
    refuse(save(loop(2**62), tmp_path / "a.onnx"), "took more than 2 s to load and to run once", limit_s=2)


@pytest.mark.skipif(free_memory() is None, reason="the system does not tell how much memory is free")
@pytest.mark.parametrize("op", ["ConstantOfShape", "Expand", "Tile"])
def test_memory_is_bounded(tmp_path: Path, op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "free_memory", lambda: 2**30)
    nodes = {
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["size"], ["big"])],
        "Expand": [helper.make_node("Expand", ["one", "size"], ["big"])],
        "Tile": [helper.make_node("Tile", ["one", "size"], ["big"])],
    }[op]
    nodes += [
        helper.make_node("ReduceMean", ["big"], ["mean"], keepdims=0),
        helper.make_node("Add", ["x", "mean"], ["y"]),
    ]
    made = model(nodes, [constant("size", [100_000, 10_000]), floats("one", 1, 1)])
    refuse(save(made, tmp_path / "a.onnx"), r"more than 0\.8 GiB of memory, 80 % of what is free here")


@pytest.mark.parametrize("code", [-11, -9, 3])
def test_a_process_that_ends_is_an_error(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\n{f'kill {code} $$' if code < 0 else f'exit {code}'}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    path = save(linear(), tmp_path / "a.onnx")
    words = "GiB of memory" if code == -9 and free_memory() is not None else rf"ends the process .*\(exit code {code}\)"
    refuse(path, words)


def test_a_process_that_does_not_start_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unsupported, match="could not start"):
        try_out(save(linear(), tmp_path / "a.onnx"), Device())


def test_what_a_library_says_is_one_line(tmp_path: Path) -> None:
    made = linear()
    made.graph.node[0].op_type = "Reshape"
    made.graph.initializer[0].CopyFrom(constant("w", [7, 7]))
    refuse(
        save(made, tmp_path / "a.onnx"),
        r"loads but fails on inputs \{'x': \[1, 4\]\}; export it again \(Non-zero status",
    )


def test_inputs_that_cannot_be_made_up_keep_their_error(tmp_path: Path) -> None:
    made = model([helper.make_node("Identity", ["x"], ["y"])], (), {"x": ["n", "m"]})
    with pytest.raises(Unsupported, match="only the first axis may be dynamic"):
        try_out(save(made, tmp_path / "a.onnx"), Device())


def test_nothing_is_imported_from_where_the_user_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    try_out(save(linear(), Path("a.onnx")), Device())
    assert not (tmp_path / "imported").exists()


def test_the_other_process_imports_no_torch() -> None:
    code = "import sys, wb.export.foreign.trial, wb.export.counting.graph; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("kind", [TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.UINT16])
def test_inputs_of_other_types_are_made(kind: int) -> None:
    from wb.hardware.device import example_inputs, session

    made = model([helper.make_node("Identity", ["x"], ["y"])], (), {"x": [-1, 4]}, kind=kind, out=kind)
    inputs = example_inputs(session(made.SerializeToString(), Device()), 3)
    assert inputs["x"].shape == (3, 4)
    assert inputs["x"].dtype == helper.tensor_dtype_to_np_dtype(kind)
    assert np.isfinite(inputs["x"]).all()

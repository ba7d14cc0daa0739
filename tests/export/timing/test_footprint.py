"""What graphs take beside time: memory follows weights, here and elsewhere; what a kernel does not say is missing, not 0."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from wb.core.errors import BadArtefact
from wb.export.timing import footprint as module
from wb.export.timing.footprint import footprint
from wb.hardware.device import Device
from wb.hardware.remote.runner import apart


def graph(path: Path, megabytes: int) -> Path:
    """One product with so many megabytes of weights."""
    weights = np.ones((1, megabytes * 250_000), np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", weights.shape[1]])
    body = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


@pytest.mark.parametrize("address", [None, "local"])
def test_memory_is_that_of_the_graph_alone(tmp_path: Path, address: str | None) -> None:
    """Its weights at least, and not Python's, the runtime's, or another graph's."""
    small, large = (graph(tmp_path / f"{size}.onnx", size) for size in (1, 8))
    found = [footprint(path, Device(address=address), processes=1).readings for path in (small, large)]
    assert all(one["load cold"].value > 0 < one["load warm"].value for one in found)
    less, more = (one["memory"].value for one in found)
    assert 8e6 <= more <= 64e6
    assert 0 < less <= more - 5e6
    assert {one.how for readings in found for one in readings.values()} == {"measured"}


class FakeBench:
    """A device that says that."""

    def __init__(self, said: str) -> None:
        self.said = said

    def apart(self, *_: object) -> str:
        return self.said


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def given(said: str) -> None:
        monkeypatch.setattr(module, "bench_of", lambda *_: FakeBench(said))

    return given


def answer(**changed: Any) -> str:
    about = {"before": 10_000_000, "whole": 17_000_000}
    return json.dumps({"cold_s": 0.5, "warm_s": 0.25, "first_run_s": 0.001, "bytes": about} | changed)


def test_what_a_kernel_does_not_say_is_missing(says: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    says(answer())
    monkeypatch.setattr(module, "PROCESSES", 3)
    readings, missing = footprint(Path("a.onnx"), Device())
    values = {name: (one.value, one.unit, one.n) for name, one in readings.items()}
    assert values == {
        "memory": (7e6, "B", 3),
        "load cold": (500, "ms", 3),
        "load warm": (250, "ms", 3),
        "first run": (1, "ms", 3),
    }
    assert not missing
    says(answer(bytes=None, cold_s=None))
    readings, missing = footprint(Path("a.onnx"), Device())
    assert list(readings) == ["load warm", "first run"]
    assert list(missing) == ["memory", "load cold"]


LIES = ({"before": 5}, {"before": 7, "whole": 6}, {"before": 5, "whole": 10**400}, 3)


@pytest.mark.parametrize(
    "said",
    [
        *("", "hello", "{}", "[" * 100_000, answer(warm_s=0), answer(warm_s=1e308), answer(warm_s=float("inf"))),
        *(answer(bytes=lie) for lie in LIES),
    ],
    ids=range(11),
)
def test_nonsense_is_no_reading(says: Callable[..., None], said: str) -> None:
    says(said)
    with pytest.raises(BadArtefact, match="what cannot be read"):
        footprint(Path("a.onnx"), Device())


def test_one_process_has_to_do_where_loading_takes_long(says: Callable[..., None]) -> None:
    says(answer(warm_s=module.LONG_S))
    assert footprint(Path("a.onnx"), Device(), processes=3).readings["memory"].n == 1


def test_a_script_that_fails_says_why_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    options = {"threads": 1, "provider": "CPUExecutionProvider"}
    listing = "import os, sys; print(sorted(os.listdir(os.path.dirname(sys.argv[1]))))"
    assert apart(listing, b"g", {}, options, 60) == "['graph.onnx', 'inputs.npz']\n"
    with pytest.raises(RuntimeError, match=r"^it took longer than 0\.5 s$"):
        apart("import time; time.sleep(60)", b"g", {}, options, 0.5)
    with pytest.raises(RuntimeError, match="it ended with -9; there may not be memory"):
        apart("import os; os.kill(os.getpid(), 9)", b"g", {}, options, 60)
    with pytest.raises(RuntimeError, match="ValueError: no such thing"):
        apart("raise ValueError('no such thing')", b"g", {}, options, 60)
    assert not list(tmp_path.iterdir())

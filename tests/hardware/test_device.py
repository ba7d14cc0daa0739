"""Devices: names, keys, sessions and the inputs made for a graph."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.hardware.device import (
    Device,
    example_inputs,
    parse_device,
    pinned,
    processor_name,
    session,
    usable_cores,
)
from wb.hardware.runtimes.failures import said

Input = tuple[str, int, Sequence[int | str | None]]


def graph(*inputs: Input, op: str = "Identity", domain: str = "", opset: int = 17) -> bytes:
    """A graph that gives back each input."""
    specs = [helper.make_tensor_value_info(*spec) for spec in inputs]
    outs = [helper.make_tensor_value_info(f"{name}_out", kind, shape) for name, kind, shape in inputs]
    nodes = [helper.make_node(op, [name], [f"{name}_out"], domain=domain) for name, *_ in inputs]
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    made = helper.make_graph(nodes, "g", specs, outs)
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString())


IMAGE: Input = ("pixel_values", TensorProto.FLOAT, ["batch", 1, 8, 8])


def test_the_default_is_one_thread_of_the_cpu() -> None:
    device = parse_device()
    assert (device.name, device.threads, device.runtime) == ("cpu", 1, "onnxruntime")
    assert device.processor == processor_name()
    assert all(part in device.text for part in (device.processor, device.version, "1 thread"))


def test_key_tells_apart_what_changes_a_latency_and_nothing_else() -> None:
    def key(**changes: object) -> str:
        return Device.model_validate({"processor": "p", "version": "1", **changes}).key

    big = key(cores=(2, 3), address="ssh:pi")
    keys = {key(), key(threads=2), key(processor="q"), key(version="2"), key(name="cuda"), big}
    assert len(keys) == 6
    assert key(cores=(0,)) == key() == key(address="ssh:pi")
    assert big != key(cores=(0, 1), address="ssh:pi")


def test_unknown_device_lists_those_there_are() -> None:
    with pytest.raises(BadOption, match=r"no device 'abacus' here; .* offer cpu"):
        parse_device("abacus")


@pytest.mark.parametrize("threads", [0, 10_000])
def test_threads_have_to_fit_the_machine(threads: int) -> None:
    with pytest.raises(BadOption, match=rf"threads={threads} .* 1\.\.{len(usable_cores())} cores"):
        parse_device(threads=threads)


@pytest.mark.parametrize("cores", [[], [99_999]])
def test_cores_have_to_exist(cores: list[int]) -> None:
    with pytest.raises(BadOption, match="not all usable"):
        parse_device(cores=cores)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs sched_setaffinity")
def test_pinned_restores_the_cores_even_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    seen = []

    def fail_inside() -> None:
        with pinned(sorted(before)[:1]):
            seen.append(os.sched_getaffinity(0))
            raise KeyError

    with pytest.raises(KeyError):
        fail_inside()
    assert seen == [{min(before)}]
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"not an onnx file", "is not an ONNX graph"),
        (b"", "is not an ONNX graph"),
        (graph(IMAGE)[:-20], "is not an ONNX graph"),
        (graph(IMAGE, op="Frobnicate"), "uses an operator that onnxruntime"),
        (graph(IMAGE, op="Frobnicate", domain="com.example"), "uses an operator that onnxruntime"),
        (graph(IMAGE, opset=99), "has operator set 99, and onnxruntime"),
    ],
    ids=["text", "empty", "cut", "operator", "domain", "opset"],
)
def test_what_is_no_graph_is_refused_by_name(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, message: str
) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(content)
    with pytest.raises(BadArtefact, match=message) as caught:
        session(file, parse_device())
    assert str(file) in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="is not a file"):
        session(tmp_path / "none.onnx", parse_device())


def test_a_file_and_its_bytes_compute_the_same(tmp_path: Path) -> None:
    file = tmp_path / "x.onnx"
    file.write_bytes(graph(IMAGE, op="Sigmoid"))
    loaded = [session(source, parse_device()) for source in (file, file.read_bytes())]
    made = example_inputs(loaded[0], batch=3)
    (first,), (second,) = (one.run(None, made) for one in loaded)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, 1 / (1 + np.exp(-made["pixel_values"])), rtol=1e-5)


def test_inputs_fit_the_specification() -> None:
    source = graph(
        IMAGE,
        ("half", TensorProto.FLOAT16, ["batch", 2]),
        ("input_ids", TensorProto.INT64, ["batch", 5]),
        ("attention_mask", TensorProto.INT64, [None, 5]),
        ("square", TensorProto.FLOAT, ["batch", "batch"]),
        ("flag", TensorProto.BOOL, []),
    )
    made = example_inputs(session(source, parse_device()), batch=4, seed=1)
    assert {name: (value.dtype.name, value.shape) for name, value in made.items()} == {
        "pixel_values": ("float32", (4, 1, 8, 8)),
        "half": ("float16", (4, 2)),
        "input_ids": ("int64", (4, 5)),
        "attention_mask": ("int64", (4, 5)),
        "square": ("float32", (4, 4)),
        "flag": ("bool", ()),
    }
    assert 0 <= made["pixel_values"].min() < 0.1 < 0.9 < made["pixel_values"].max() < 1
    assert set(made["input_ids"].flat) == {0, 1}
    assert made["attention_mask"].all()
    again = example_inputs(session(source, parse_device()), batch=4, seed=1)
    assert all((again[name] == value).all() for name, value in made.items())


def test_a_given_number_of_tokens_is_for_every_axis_without_a_size() -> None:
    """Whatever it is called, but for that of the batch."""
    source = graph(
        ("input_ids", TensorProto.INT64, ["batch", "sequence"]), ("pairs", TensorProto.FLOAT, ["batch", 3, "sequence"])
    )
    loaded = session(source, parse_device())
    made = example_inputs(loaded, batch=2, tokens=7)
    assert {name: value.shape for name, value in made.items()} == {"input_ids": (2, 7), "pairs": (2, 3, 7)}
    square = session(graph(("x", TensorProto.FLOAT, ["batch", "batch", None])), parse_device())
    assert example_inputs(square, batch=4, tokens=7)["x"].shape == (4, 4, 7)


@pytest.mark.parametrize(
    ("spec", "batch", "message"),
    [
        (("ids", TensorProto.INT64, ["batch", "sequence"]), 1, r"\['batch', 'sequence'\]: only the first axis"),
        (("words", TensorProto.STRING, ["batch", 3]), 1, r"'words' is tensor\(string\)"),
        (("x", TensorProto.FLOAT, [1, 3]), 2, "so batch=2 cannot be run; use 1"),
    ],
)
def test_inputs_that_cannot_be_made_up_are_refused(spec: Input, batch: int, message: str) -> None:
    with pytest.raises(Unsupported, match=message):
        example_inputs(session(graph(spec), parse_device()), batch)


def test_a_fixed_batch_is_run_as_it_is() -> None:
    made = example_inputs(session(graph(("x", TensorProto.FLOAT, [7, 3])), parse_device()))
    assert made["x"].shape == (7, 3)


def test_the_runtime_is_imported_only_when_it_is_used() -> None:
    code = (
        "import sys, wb.hardware.device, wb.export.timing.table, wb.export.score, wb.export.timing.clock;"
        "print([name for name in ('onnxruntime', 'onnx', 'torch') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_what_the_runtime_repeats_of_a_file_is_printable() -> None:
    text = "[ONNXRuntimeError] : 10 : INVALID_GRAPH : Node input '\x1b[31mred\x07' is none\nat a place"
    assert said(text) == "Node input 'red\\x07' is none"

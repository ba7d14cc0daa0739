"""What an NPU makes of a network: said in full, for files of every kind; the compiler's part is played by the processor here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from tests.commands import succeeded, wb
from tests.export.foreign_graphs import linear, save
from tests.networks import of_digits, random_model
from wb.compress.npu import check
from wb.compress.npu.check import NpuCheck
from wb.compress.npu.quantized import quantized
from wb.core.errors import BadOption, Unsupported
from wb.export.graph import export
from wb.export.npu import qnn
from wb.export.npu.simulator import PROVIDER
from wb.hardware.device import Device, session
from wb.hardware.runtimes.shapes import shaped
from wb.models.model import save as save_model


class Npu:
    """A compiler that leaves the operators in `lacking` to the processor, and rounds what it computes to `error`."""

    def __init__(self, *lacking: str, error: float = 0.0, failure: str = "") -> None:
        self.lacking, self.error, self.failure = lacking, error, failure
        self.graphs: list[onnx.ModelProto] = []

    def __call__(
        self,
        graph: bytes,
        inputs: Mapping[str, NDArray[Any]],
        output: str,
        soc: qnn.Soc,
        compiled: Path,
        ran: Callable[[int], None],
    ) -> qnn.Simulation:
        model = onnx.load_from_string(graph)
        self.graphs.append(model)
        compiled.write_bytes(b"compiled")
        if self.failure:
            return qnn.Simulation({}, None, self.failure)
        nodes: dict[str, dict[str, int]] = {}
        for node in model.graph.node:
            counts = nodes.setdefault("CPU" if node.op_type in self.lacking else PROVIDER, {})
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
        loaded = session(graph, Device())
        rows = [{name: values[i] for name, values in inputs.items()} for i in range(len(next(iter(inputs.values()))))]
        given = np.stack([loaded.run([output], row)[0] for row in rows])
        ran(len(rows))
        return qnn.Simulation(nodes, given + self.error * np.abs(given).max())


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("npu") / "a.onnx"
    export(random_model(of_digits(), gain=0.3), path)
    return path


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Callable[[Npu], Npu]:
    def play(npu: Npu) -> Npu:
        monkeypatch.setattr(qnn, "check_installed", lambda: "2.7.0")
        monkeypatch.setattr(qnn, "simulate", npu)
        return npu

    return play


def test_a_graph_that_is_taken_whole(graph: Path, tmp_path: Path, played: Callable[[Npu], Npu]) -> None:
    npu = played(Npu(error=0.01))
    done = succeeded("device", "check", "--npu", "qnn", graph, "-o", tmp_path / "c.onnx")
    text = " ".join(done.stdout.split())
    assert "taken whole" in text
    assert "nodes on the CPU none" in text
    assert "differs from the same file on the CPU 0.01" in text
    assert "8 of 8" in text
    assert "8 examples of the test split of digits" in text
    assert "nothing of time" in text
    assert " ms" not in text
    assert (tmp_path / "c.onnx").read_bytes() == b"compiled"
    (seen,) = npu.graphs
    assert not seen.metadata_props
    assert [dim.dim_value for dim in seen.graph.input[0].type.tensor_type.shape.dim] == [1, 1, 8, 8]


def test_operators_that_fall_back_are_named(graph: Path, played: Callable[[Npu], Npu]) -> None:
    played(Npu("Softmax", error=0.5))
    found = json.loads(
        succeeded("device", "check", "--npu", "qnn", graph, "--json", "--data", "digits", "--soc", "sm8750").stdout
    )
    assert (found["soc"], found["examples"]) == ("sm8750", "8 examples of the test split of digits")
    one = found["precisions"]["fp16"]
    assert (one["whole"], one["fell_back"]) == (False, {"Softmax": 2})
    assert one["nodes"]["CPU"] == {"Softmax": 2}
    assert one["error"] == one["error_as_is"] == pytest.approx(0.5, rel=1e-3)
    assert (one["same_answers"], one["answers"]) == (8, 8)  # all scores are greater by the same
    fallen, other = found["advice"]
    assert fallen.startswith("fp16: 2 of ")
    assert "do not deploy" in other


def test_a_refusal_is_a_failure_that_is_quoted(graph: Path, tmp_path: Path, played: Callable[[Npu], Npu]) -> None:
    played(Npu(failure="no room for it"))
    done = wb("device", "check", "--npu", "qnn", graph, "-o", tmp_path / "c.onnx")
    assert done.exit_code == 1
    assert "fp16: no room for it" in " ".join(done.stdout.split())
    assert not (tmp_path / "c.onnx").exists()


def test_a_model_file_is_exported_and_quantized_on_its_data(tmp_path: Path, played: Callable[[Npu], Npu]) -> None:
    save_model(random_model(of_digits(), gain=0.3), tmp_path / "a.safetensors")
    npu = played(Npu())
    given = NpuCheck.of("sm8550", "fp16, u16", "digits", 4)
    found = given(tmp_path / "a.safetensors", None, lambda *_: None, lambda _: None)
    assert [one.answers for one in found.tried] == [(4, 4), (4, 4)]
    assert [one.error(one.same) for one in found.tried] == [0, 0]
    error = found.tried[1].error(found.tried[1].as_is)
    assert error is not None
    assert 0 < error < 0.2  # it was rounded
    kinds = [{node.op_type for node in model.graph.node} for model in npu.graphs]
    assert [("QuantizeLinear" in one) for one in kinds] == [False, True]


@pytest.mark.parametrize(("bits", "most"), [("u8", 0.2), ("u16", 0.05)])
def test_a_quantized_graph_computes_about_the_same(graph: Path, bits: str, most: float) -> None:
    x = np.random.default_rng(0).random((8, 1, 8, 8), dtype=np.float32)
    model = shaped(graph, {"pixel_values": x[:1]})
    del model.metadata_props[:]
    made = quantized(model, {"pixel_values": x}, 1, bits)
    given, expected = (
        session(one.SerializeToString(), Device()).run(None, {"pixel_values": x[:1]})[0] for one in (made, model)
    )
    assert 0 < np.abs(given - expected).max() < most * np.abs(expected).max()


def test_what_cannot_be_asked_is_said(graph: Path, tmp_path: Path, played: Callable[[Npu], Npu]) -> None:
    played(Npu())
    for precisions, data, out, words in (
        ("u4", None, None, "give some of fp16, u8, u16"),
        ("u8,u8", None, None, "each once"),
        ("fp16,u8", "digits", tmp_path / "c.onnx", "there are 2 precisions"),
        ("fp16", None, Path(__file__), "exists"),
        ("fp16", None, tmp_path / "no" / "c.onnx", "no folder"),
    ):
        with pytest.raises(BadOption, match=words):
            NpuCheck.of("sm8550", precisions, data, 1)(graph, out, lambda *_: None, lambda _: None)
    before = graph.read_bytes()
    for out, words in ((graph, "the network itself"), (tmp_path, "is a folder")):
        with pytest.raises(BadOption, match=words):
            NpuCheck()(graph, out, lambda *_: None, lambda _: None, force=True)
    assert graph.read_bytes() == before


def test_what_is_no_number_is_no_answer(graph: Path, played: Callable[[Npu], Npu]) -> None:
    played(Npu(error=float("nan")))
    done = wb("device", "check", "--npu", "qnn", graph, "--json")
    found = json.loads(done.stdout, parse_constant=pytest.fail)
    one = found["precisions"]["fp16"]
    assert (one["error"], one["error_as_is"], one["same_answers"], one["answers"]) == (None, None, 0, 8)
    assert found["advice"] == ["fp16: some of its outputs are no numbers; do not deploy it so"]
    assert "not a number" in wb("device", "check", "--npu", "qnn", graph).stdout


def test_a_graph_of_others_is_tried_on_made_up_inputs_but_not_quantized_on_them(
    tmp_path: Path, played: Callable[[Npu], Npu]
) -> None:
    played(Npu())
    path = save(linear(4, 3), tmp_path / "f.onnx")
    found = NpuCheck.of("sm8550", "fp16", None, 3)(path, None, lambda *_: None, lambda _: None)
    assert (found.examples, found.tried[0].answers) == ("3 made-up inputs", (3, 3))
    with pytest.raises(BadOption, match="needs examples"):
        NpuCheck.of("sm8550", "u8", None, 3)(path, None, lambda *_: None, lambda _: None)


def test_a_graph_in_few_bits_is_not_quantized_again(graph: Path, tmp_path: Path, played: Callable[[Npu], Npu]) -> None:
    from onnxruntime.quantization import quantize_dynamic

    played(Npu())
    quantize_dynamic(graph, tmp_path / "q.onnx")
    with pytest.raises(BadOption, match="fp16 compiles it as it is"):
        NpuCheck.of("sm8550", "u8", "digits", 1)(tmp_path / "q.onnx", None, lambda *_: None, lambda _: None)
    found = NpuCheck.of("sm8550", "fp16", None, 1)(tmp_path / "q.onnx", None, lambda *_: None, lambda _: None)
    assert found.tried[0].error(found.tried[0].same) == 0


def test_networks_with_a_cache_are_refused(
    graph: Path, monkeypatch: pytest.MonkeyPatch, played: Callable[[Npu], Npu]
) -> None:
    class Causal:
        causal = True

    played(Npu())
    monkeypatch.setattr(check, "about", lambda _: (Causal(), ()))
    with pytest.raises(Unsupported, match="continues texts"):
        NpuCheck()(graph, None, lambda *_: None, lambda _: None)

"""`wb quantize` as a user runs it, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tests.commands import files, succeeded, wb
from tests.networks import assembled
from tests.processes import Command
from wb.compress.quantize.record import Quantization
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import ratio
from wb.core.precision import precisions
from wb.core.records import ImageInput, Mlp, PatchStem, Pool, Softmax
from wb.data import load as load_data
from wb.export.graph import read_architecture
from wb.models.model import Model, from_network, load, save
from wb.models.network import build

pytestmark = pytest.mark.usefixtures("by_size")


def made(seed: int = 0, channels: int = 1) -> Model:
    """An untrained network of the digits, one of whose mixers has no weights."""
    data = load_data("digits")
    image = ImageInput(channels=channels, height=8, width=8, mean=data.mean * channels, std=data.std * channels)
    blocks = (Block(mixer=Softmax(heads=2, qk=8, v=8), ffn=Mlp(mlp=40)), Block(mixer=Pool(), ffn=Mlp(mlp=40)))
    stage = Stage(embed=24, blocks=blocks)
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=10, labels=data.classes, pool="mean")
    torch.manual_seed(seed)
    network = build(a)
    network.reset()
    with torch.no_grad():
        network.get_parameter("head").normal_()
    return from_network(a, network)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    save(made(), path)
    return path


def graph_of(path: Path, opset: int = 17, op: str = "Relu", domain: str = "", outside: bool = False) -> Path:
    """A foreign graph of one product and `op`."""
    weight = numpy_helper.from_array(np.ones((4, 8), np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="first"),
        helper.make_node(op, ["y"], ["z"], name="second", domain=domain),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 4), ("z", 8))]
    graph = helper.make_graph(nodes, "g", [ends[0]], [ends[1]], [weight])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=8),
        path,
        save_as_external_data=outside,
        size_threshold=0,
    )
    return path


@pytest.mark.usefixtures("page")
def test_int8_dynamic_is_the_default(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    result = succeeded("quantize", model, "-o", out, "--keep", "head")
    assert files(tmp_path) == {"q.onnx", "q.safetensors", "q.json", "q.html"}
    record = Quantization.read(tmp_path / "q.json")
    assert record.config.policy == "int8-dynamic"
    architecture = read_architecture(out)
    assert architecture is not None
    kept = precisions(architecture)
    assert (kept.pop("head"), kept.pop("stem")) == ("fp32", "fp32")
    assert set(kept.values()) == {"int8"}
    lines = result.stdout.splitlines()
    assert lines[-1] == f"wrote {out}"
    (verdict,) = [line for line in lines if line.startswith("Faster and smaller: ")]
    assert "points of validation accuracy (" in verdict
    assert "in fp32: head (kept by --keep)" in lines
    assert "groups (linear maps that share a precision): 6 int8, 2 fp32" in lines
    succeeded("report", tmp_path / "q.json", "-o", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == (tmp_path / "q.html").read_text()
    shown = wb("show", out).stdout
    assert "stem fp32, head fp32" in shown
    assert "int8/int8 ·" in shown
    assert "quantize (policy=int8-dynamic" in shown
    assert "precision" not in wb("show", model).stdout
    measured = json.loads(wb("measure", out, "--cap", 0.1, "--json").stdout)
    assert measured["size"]["value"] == record.quantized["size"].value
    assert measured["accuracy (digits, test)"]["value"] == record.quantized["test"].value
    exported = wb("export", tmp_path / "q.safetensors", "-o", tmp_path / "e.onnx")
    assert exported.exit_code == 0
    assert "(weights in int8 and int4 are rounded in the graph only)" in exported.stdout
    assert "rounded" not in wb("export", model, "-o", tmp_path / "f.onnx").stdout
    assert (tmp_path / "e.onnx").read_bytes() == out.read_bytes()


def test_json_and_force(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    first = wb("quantize", model, "-o", out, "--policy", "int4-weights", "--json")
    assert json.loads(first.stdout) == json.loads((tmp_path / "q.json").read_text())
    before = out.read_bytes()
    refused = wb("quantize", model, "-o", out)
    assert refused.exit_code == 2
    assert "exists already" in refused.stderr
    assert out.read_bytes() == before
    assert wb("quantize", model, "-o", out, "--force").exit_code == 0
    assert out.read_bytes() != before


@pytest.mark.usefixtures("page")
def test_a_slower_graph_is_no_improvement(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.compress.quantize.job.ratio", lambda quantized, floating: ratio(floating, quantized))
    result = wb("quantize", model, "-o", tmp_path / "q.onnx")
    assert "Smaller, but slower: takes" in result.stdout
    assert "aster and" not in result.stdout
    page = (tmp_path / "q.html").read_text()
    assert '<div class="notice"><b>Smaller, but slower' in page


@pytest.mark.usefixtures("page")
def test_a_budget_alone_means_mixed(model: Path, tmp_path: Path) -> None:
    succeeded("quantize", model, "-o", tmp_path / "q.onnx", "--budget", "size=0.8x", "--calib", 8)
    record = Quantization.read(tmp_path / "q.json")
    assert record.config.policy == "mixed"
    assert record.quantized["size"].value <= 0.8 * record.floating["size"].value
    page = (tmp_path / "q.html").read_text()
    assert "figure-sensitivity" in page
    assert "figure-candidates" in page
    missed = wb("quantize", model, "-o", tmp_path / "none" / "r.onnx", "--budget", "size=0.01x", "--calib", 8)
    assert missed.exit_code == 3
    assert "error: budget size=0.01x: no policy keeps" in missed.stderr
    assert not (tmp_path / "none").exists()


def test_a_foreign_graph(tmp_path: Path) -> None:
    path, folder = graph_of(tmp_path / "f.onnx"), tmp_path / "out"
    result = succeeded("quantize", path, "-o", folder / "q.onnx")
    assert files(folder) == {"q.onnx", "q.json", "q.html"}
    assert "on 128 random inputs" in result.stdout
    assert "accuracy was not read" in result.stdout
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((9, 4), dtype=np.float32))
    result = succeeded(
        "quantize", path, "-o", folder / "s.onnx", "--policy", "int8", "--calibration", tmp_path / "x.npy"
    )
    assert "on 2 inputs kept out of the calibration" in result.stdout
    assert "calibrated on 7 of x.npy, 2 more kept out to read the error on" in result.stdout
    assert "Ranges of activations come from 7 calibration inputs; with fewer than 32" in result.stdout
    assert "0.0 % of the weights stay in floating point (0.0 % in products" in result.stdout


BAD: list[tuple[list[str], int, str]] = [
    (["{model}", "--keep", "s0.b9"], 2, "no group named s0.b9 to keep; there are stem"),
    (["{model}", "--policy", "int2"], 2, "wrong option: policy"),
    (
        ["{model}", "--budget", "macs=0.5x"],
        2,
        "cannot be aimed at here; limit one of size, acc, ppl, latency",
    ),
    (["{model}", "--budget", "size=small"], 2, "is no budget"),
    (["{model}", "--policy", "int4-weights", "--budget", "size=0.1x"], 3, "the budget size=0.1x is missed"),
    (["{model}", "--calib", "4"], 2, "--samples is of no use"),
    (["{model}", "--policy", "int8", "--calibration", "{wide}"], 1, "give examples of that shape"),
    (["{model}", "--policy", "int8", "--calibration", "{empty}"], 1, "has no images"),
    (["{model}", "--policy", "int8", "--calibration", "none.npz"], 1, "there is no"),
    (["{model}", "--calibration", "{wide}"], 2, "--calibration is of no use here"),
    (["{colour}", "--data", "digits"], 1, "name other data with --data"),
    (["{colour}"], 2, "does not say with what it was trained; name data that fit it"),
    (["none.safetensors"], 1, "there is no file none.safetensors"),
    (["none.onnx"], 1, "there is no file none.onnx"),
    (["{broken}"], 1, "is no ONNX graph or is damaged"),
    (["{foreign}", "--policy", "int8"], 2, "has to see inputs: give --calibration"),
    (["{foreign}", "--policy", "mixed"], 2, "has to see inputs: give --calibration"),
    (["{foreign}", "--image-size", "8"], 2, "--image-size is of no use without data"),
    (["{foreign}", "--data", "digits"], 1, "has 8, which are not named"),
    (["{old}", "--policy", "int8", "--calibration", "{four}"], 1, "opset version < 10 do not support quantization"),
    (["{unknown}"], 1, "uses an operator that"),
    (["{outside}"], 2, "lie in another file"),
]


@pytest.fixture(scope="module")
def places(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bad")
    np.save(folder / "wide.npy", np.zeros((4, 1, 9, 8), np.float32))
    np.save(folder / "four.npy", np.ones((6, 4), np.float32))
    (folder / "empty").mkdir()
    (folder / "broken.onnx").write_bytes(b"no graph")
    save(made(channels=2), folder / "colour.safetensors")
    return {
        "model": model,
        "wide": folder / "wide.npy",
        "four": folder / "four.npy",
        "empty": folder / "empty",
        "broken": folder / "broken.onnx",
        "colour": folder / "colour.safetensors",
        "foreign": graph_of(folder / "foreign.onnx"),
        "old": graph_of(folder / "old.onnx", opset=8),
        "unknown": graph_of(folder / "unknown.onnx", op="Mystery", domain="nobody"),
        "outside": graph_of(folder / "outside.onnx", outside=True),
    }


@pytest.mark.parametrize(("arguments", "code", "words"), BAD, ids=lambda value: str(value)[:40])
def test_bad_input_is_one_paragraph_and_leaves_nothing(
    places: dict[str, Path], tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    given = [argument.format(**places) for argument in arguments]
    result = wb("quantize", *given, "-o", tmp_path / "new" / "q.onnx")
    assert result.exit_code == code, result.output
    (paragraph,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert words in paragraph
    assert result.stderr.endswith(paragraph + "\n")
    assert "mistake of wb's" not in paragraph
    assert files(tmp_path) == set()


def test_the_input_is_not_overwritten(model: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    for path, out in ((model, model.with_suffix(".onnx")), (graph_of(tmp_path / "f.onnx"), tmp_path / "f.onnx")):
        result = wb("quantize", path, "-o", out, "--force")
        assert result.exit_code == 2
        assert "is the model that is quantized" in result.stderr
    assert model.read_bytes() == before
    wrong = wb("quantize", model, "-o", tmp_path / "q.safetensors")
    assert wrong.exit_code == 2
    assert "end it in .onnx" in wrong.stderr


def test_a_killed_search_for_a_policy_continues(model: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "q.onnx", tmp_path / "q.partial" / "record.json"
    command = ["quantize", str(model), "-o", str(out), "--budget", "size=0.8x", "--calib", "400"]
    Command(*command).until(lambda: work.exists() and len(Quantization.read(work).sensitivities) >= 3).kill()
    assert not out.exists()
    kept = Quantization.read(work).sensitivities
    other = wb(*command[:-1], "300")
    assert other.exit_code == 1
    assert "belongs to a quantization with other settings" in other.stderr
    succeeded(*command)
    assert Quantization.read(out.with_suffix(".json")).sensitivities[: len(kept)] == kept
    assert files(tmp_path) == {"q.onnx", "q.safetensors", "q.json", "q.html"}
    assert load(tmp_path / "q.safetensors").architecture == read_architecture(out)


def test_an_interruption_says_how_to_go_on(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wb.compress.quantize import budgeted as quantize_mixed

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "q.onnx"
    monkeypatch.setattr(quantize_mixed, "find", stop)
    result = wb("quantize", model, "-o", out, "--policy", "mixed", "--calib", 4)
    assert result.exit_code == 130
    assert f"the same command with -o {out} continues" in result.stderr
    assert files(tmp_path) == {"q.partial", "q.partial/lock", "q.partial/record.json"}

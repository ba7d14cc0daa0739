"""Precisions in exported graphs: what the file weighs, what it computes, and what is refused."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

from tests.networks import Form, assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import PRECISIONS, allowed, precisions, with_precisions
from wb.core.records import (
    ConvStem,
    Cosformer,
    ImageInput,
    Lmu,
    Mixer,
    Mlp,
    PatchStem,
    Pool,
    Precision,
    Sla,
    Softmax,
    Stem,
)
from wb.export.foreign.opening import read_metadata
from wb.export.graph import Exporter, export, export_module, read_architecture
from wb.export.lowering.fold import folded
from wb.export.lowering.lower import lower, nodes_of
from wb.export.lowering.products import linear_nodes, lowered_nodes
from wb.hardware.device import Device, session
from wb.models.groups import kept, settle
from wb.models.model import Model, Step, from_network
from wb.models.network import build

EXPORTERS: tuple[Exporter, ...] = ("torchscript", "dynamo")
SOFTMAX = Block(mixer=Softmax(heads=2, qk=16, v=16), ffn=Mlp(mlp=96))
ERROR = {"w1": 1e-5, "w2": 1e-5, "int4": 0.3, "int8": 0.03}  # largest, as a share of the largest logit


def wide(image: ImageInput, norm: Form = "pre") -> Architecture:
    """Large enough for the weights to outweigh the graph; heads x channels, mlp and embed are no multiples of 32."""
    blocks = (SOFTMAX, Block(mixer=Lmu(memory=8, hidden=40), ffn=Mlp(mlp=100)))
    stages = (Stage(embed=72, blocks=blocks), Stage(embed=80, blocks=(SOFTMAX,)))
    return assembled(input=image, stem=ConvStem(patch=2, width=24), stages=stages, classes=3, norm=norm)


def narrow(image: ImageInput, seed: int) -> Architecture:
    """Any operators in any widths, down to one, in any precisions."""
    draw = random.Random(seed)

    def width(largest: int) -> int:
        return draw.randint(1, largest)

    def block() -> Block:
        heads, qk, v = width(2), width(5), width(5)
        mixers: list[Mixer | None] = [
            *(kind(heads=heads, qk=qk, v=v) for kind in (Softmax, Sla, Cosformer)),
            *(Lmu(memory=width(4), hidden=width(5), bidirectional=draw.random() < 0.5), Pool(), None),
        ]
        return Block(mixer=draw.choice(mixers), ffn=draw.choice([Mlp(mlp=width(40)), None]))

    stages = tuple(Stage(embed=width(40), blocks=(block(), block())) for _ in range(width(2)))
    stem: Stem = PatchStem(patch=2) if draw.random() < 0.5 else ConvStem(patch=2, width=width(4))
    norm: Form = draw.choice(["pre", "post"])
    a = assembled(input=image, stem=stem, stages=stages, classes=3, norm=norm)
    return with_precisions(a, {group: draw.choice(options) for group, options in allowed(a).items()})


def everywhere(a: Architecture, precision: Precision) -> Architecture:
    """As many groups in `precision` as may be."""
    return with_precisions(a, {group: precision for group, options in allowed(a).items() if precision in options})


def model_of(a: Architecture, seed: int = 0) -> Model:
    """Activations of about one throughout, and no weight zero."""
    network = build(a)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            fan_in = weight[0].numel() if weight.dim() > 1 else 1
            weight.normal_(1 if "gain" in name else 0, 0.5 * fan_in**-0.5, generator=generator)
    return from_network(a, network, (Step(name="train", seed=3),))


def images(a: Architecture, count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(count, a.image.channels, a.image.height, a.image.width, generator=generator)


def logits(path: Path, x: torch.Tensor) -> NDArray[np.float32]:
    given: NDArray[np.float32] = session(path, Device()).run(None, {"pixel_values": x.numpy()})[0]
    return given


def error(model: Model, path: Path) -> float:
    """Of the file against torch, as a share of the largest logit."""
    x = images(model.architecture)
    expected = model.network()(x).detach().numpy()
    return float(np.abs(logits(path, x) - expected).max() / np.abs(expected).max())


def operators(path: Path) -> Counter[str]:
    graph = onnx.load(path)
    onnx.checker.check_model(graph)
    return Counter(node.op_type for node in graph.graph.node)


def test_every_precision_shrinks_the_file_and_keeps_the_function(image: ImageInput, tmp_path: Path) -> None:
    """With all weights in it, a file of bits is about as many bits smaller, in the order of the precisions."""
    model = model_of(wide(image))
    size = {}
    for precision in PRECISIONS:
        low = Model(everywhere(model.architecture, precision), model.weights)
        path = tmp_path / f"{precision}.onnx"
        export(low, path)
        size[precision] = path.stat().st_size
        assert error(low, path) < ERROR.get(precision, 1e-5), precision
        assert read_architecture(path) == low.architecture
    assert size["w2"] == pytest.approx(size["w1"], rel=0.01)
    assert size["w1"] < size["int4"] < size["fp32"]
    assert size["int8"] < 0.5 * size["fp32"]
    assert operators(tmp_path / "fp32.onnx").keys().isdisjoint({"MatMulNBits", "MatMulInteger", "ConvInteger"})
    linear = len([name for name in kept(build(model.architecture, "meta")) if "conv" not in name]) - 2  # stem and merge
    assert operators(tmp_path / "int8.onnx")["MatMulInteger"] == linear
    assert operators(tmp_path / "int8.onnx")["ConvInteger"] == 3
    for precision in ("w1", "w2", "int4"):
        assert operators(tmp_path / f"{precision}.onnx")["MatMulNBits"] == linear


@pytest.mark.parametrize("seed", range(8))
def test_any_mixture_exports(image: ImageInput, tmp_path: Path, seed: int) -> None:
    """Widths of one, products that follow products of other precisions, two stages, both norms."""
    model = model_of(narrow(image, seed), seed)
    export(model, tmp_path / "a.onnx")
    assert error(model, tmp_path / "a.onnx") < 0.5
    used = operators(tmp_path / "a.onnx")
    count = Counter(kept(build(model.architecture, "meta")).values())
    assert used["MatMulNBits"] == count["w1"] + count["w2"] + count["int4"]
    assert used["MatMulInteger"] + used["ConvInteger"] == count["int8"]


@pytest.mark.parametrize(
    ("norm", "groups"),
    [
        ("pre", {"stem": 2, "s1.merge": 1, "s0.b0.mixer.out": 1}),
        ("post", {"s1.merge": 1, "s0.b1.mixer.in": 3, "head": 1}),
    ],
)
def test_only_what_is_named_is_changed(image: ImageInput, tmp_path: Path, norm: Form, groups: dict[str, int]) -> None:
    """One group at a time: as many nodes as it has weights, those of other groups stay in floating point."""
    a = wide(image, norm)
    model = model_of(a)
    for group, weights in groups.items():
        low = Model(with_precisions(a, {group: "int8"}), model.weights)
        export(low, tmp_path / f"{group}.onnx")
        used = operators(tmp_path / f"{group}.onnx")
        assert used["MatMulInteger"] + used["ConvInteger"] == weights, group
        assert 0 < error(low, tmp_path / f"{group}.onnx") < 0.03, group


def test_four_bits_are_for_what_is_named(image: ImageInput, tmp_path: Path) -> None:
    model = model_of(with_precisions(wide(image), {"s0.b0.ffn.in": "int4"}))
    export(model, tmp_path / "a.onnx")
    assert operators(tmp_path / "a.onnx")["MatMulNBits"] == 1


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_both_exporters(image: ImageInput, tmp_path: Path, exporter: Exporter) -> None:
    block = Block(mixer=Softmax(heads=2, qk=4, v=4), ffn=Mlp(mlp=20))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=12, blocks=(block,)),), classes=3)
    policy: dict[str, Precision] = {"stem": "int8", "s0.b0.mixer.in": "w2", "s0.b0.mixer.out": "int4"}
    policy |= {"s0.b0.ffn.in": "w1", "s0.b0.ffn.out": "int8"}
    weights = dict(model_of(a).weights)
    # Dynamo merges small products that are equal.
    weights["stages.0.0.mixer.wk"], weights["stages.0.0.mixer.bk"] = (weights[f"stages.0.0.mixer.{n}q"] for n in "wb")
    model = Model(with_precisions(a, policy), weights)
    export(model, tmp_path / "a.onnx", exporter=exporter)
    used = operators(tmp_path / "a.onnx")
    merged = 1 if exporter == "dynamo" else 0
    assert (used["MatMulNBits"], used["MatMulInteger"], used["ConvInteger"]) == (5 - merged, 1, 1)
    assert 0 < error(model, tmp_path / "a.onnx") < 0.3


def test_integers_follow_packed_weights(image: ImageInput, tmp_path: Path) -> None:
    """A sum of two packed products is of no type that shape inference knows, and the int8 product behind it needs one."""
    lmu = Block(mixer=Lmu(memory=4, hidden=5, reads="w1", writes="int8"))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(lmu,)),), classes=3)
    model = model_of(a)
    export(model, tmp_path / "a.onnx")
    used = operators(tmp_path / "a.onnx")
    assert (used["MatMulNBits"], used["MatMulInteger"]) == (3, 1)
    assert error(model, tmp_path / "a.onnx") < ERROR["int8"]


def test_an_old_opset_stays_what_it_is_and_metadata_are_kept(image: ImageInput, tmp_path: Path) -> None:
    model = model_of(everywhere(wide(image), "w1"))
    export(model, tmp_path / "a.onnx", opset=17)
    imports = {entry.domain: entry.version for entry in onnx.load(tmp_path / "a.onnx").opset_import}
    assert imports == {"": 17, "com.microsoft": 1}
    assert error(model, tmp_path / "a.onnx") < 1e-5
    metadata = read_metadata(tmp_path / "a.onnx")
    assert set(metadata) == {"wb.labels", "wb.architecture", "wb.history"}
    assert json.loads(metadata["wb.history"])[0]["seed"] == 3
    assert read_architecture(tmp_path / "a.onnx") == model.architecture


@pytest.mark.parametrize(("block", "precision"), [(0, "w1"), (1, "int4"), (0, "int8"), (1, "int8")])
def test_layers_with_equal_weights_are_told_apart(
    image: ImageInput, tmp_path: Path, block: int, precision: Precision
) -> None:
    """The file shares their weights where it can; a block in fewer bits is that block and no other."""
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=40, blocks=(SOFTMAX,) * 2),), classes=3)
    weights = dict(model_of(a).weights)
    weights |= {name.replace(".0.0.", ".0.1."): weight for name, weight in weights.items() if ".0.0." in name}
    policy: dict[str, Precision] = {group: precision for group in precisions(a) if f"b{block}" in group}
    low = with_precisions(a, policy)
    module = Model(low, weights).network()
    chosen = kept(module)
    export(Model(a, weights), tmp_path / "a.onnx")
    graph = folded(tmp_path / "a.onnx")
    nodes = nodes_of(graph, build_with(a, weights), chosen)
    assert len(set(nodes.values())) == len(chosen)
    order = [node.name for node in graph.graph.node if node.name in nodes.values()]
    firsts = [order.index(nodes[f"stages.0.{i}.mixer.wo"]) for i in (0, 1)]
    assert firsts == sorted(firsts)
    export(Model(low, weights), tmp_path / "low.onnx")
    assert error(Model(low, weights), tmp_path / "low.onnx") < ERROR[precision]
    export(Model(everywhere(a, precision), weights), tmp_path / "all.onnx")
    used = [operators(tmp_path / f"{name}.onnx") for name in ("low", "all")]
    assert [count["MatMulNBits"] + count["MatMulInteger"] for count in used] == [6, 13]  # with the head
    assert (tmp_path / "all.onnx").stat().st_size < (tmp_path / "low.onnx").stat().st_size


@pytest.mark.parametrize("precision", ["w1", "w2", "int4", "int8"])
def test_queries_equal_to_keys_and_weights_of_zero_export(
    image: ImageInput, tmp_path: Path, precision: Precision
) -> None:
    """Runtimes merge equal nodes, and exporters take -0 for 0."""
    blocks = (Block(mixer=Softmax(heads=2, qk=5, v=5)), Block(mixer=Softmax(heads=2, qk=5, v=5)))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=10, blocks=blocks),), classes=3)
    weights = dict(model_of(a).weights)
    for name in [name for name in weights if ".0.1." in name]:
        weights[name] = weights[name] * 0  # a block that writes nothing, of zeros of either sign
    weights["stages.0.0.mixer.wk"], weights["stages.0.0.mixer.bk"] = (weights[f"stages.0.0.mixer.{n}q"] for n in "wb")
    model = Model(everywhere(a, precision), weights)
    export(model, tmp_path / "a.onnx")
    assert error(model, tmp_path / "a.onnx") < ERROR[precision]


def build_with(a: Architecture, weights: object) -> torch.nn.Module:
    network = build(a)
    network.load_state_dict(weights)  # type: ignore[arg-type]
    return network


@pytest.fixture(scope="module")
def floating(image: ImageInput, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    """A small graph in floating point, folded."""
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(SOFTMAX,)),), classes=3)
    path = tmp_path_factory.mktemp("graph") / "a.onnx"
    export(model_of(a), path)
    return folded(path)


def test_lowering_leaves_the_graph_that_it_is_given_alone(floating: onnx.ModelProto) -> None:
    before = floating.SerializeToString()
    for precision in ("int4", "int8"):
        linear = [n for n in linear_nodes(floating) if precision == "int8" or "Conv" not in n]
        lowered = lower(floating, dict.fromkeys(linear, precision))
        assert lowered.SerializeToString() != before
    assert floating.SerializeToString() == before
    assert lower(floating, {}).SerializeToString() == before
    assert lower(floating, dict.fromkeys(linear_nodes(floating), "fp32")).SerializeToString() == before


def test_what_cannot_be_lowered_is_named(floating: onnx.ModelProto) -> None:
    products = [name for name, weight in linear_nodes(floating).items() if "patches" not in weight]
    convolution = next(name for name in linear_nodes(floating) if name not in products)
    with pytest.raises(BadOption, match=f"no layer with weights is named nowhere; this graph has {convolution}"):
        lower(floating, {"nowhere": "int8"})
    scores = next(n.name for n in floating.graph.node if n.op_type == "MatMul" and n.name not in products)
    with pytest.raises(BadOption, match="no layer with weights is named"):
        lower(floating, {scores: "int8"})  # both operands are activations
    for precision in ("int4", "w1", "w2"):
        with pytest.raises(BadOption, match=f"{convolution}: convolutions can be kept in int8 or fp32 only"):
            lower(floating, {convolution: precision, products[0]: "int8"})
    with pytest.raises(BadOption, match=f"the weights of {products[1]} are not binary or ternary"):
        lower(floating, {products[1]: "w1"})


def test_what_a_quantizer_leaves_as_it_was_is_named(floating: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime's pass over what they do not take, and say nothing: no record may call that 8 bits."""
    products = [name for name, weight in linear_nodes(floating).items() if "patches" not in weight]

    def lazy(graph: onnx.ModelProto, path: Path, *, nodes_to_quantize: list[str], **more: object) -> None:
        """Takes all but the last of the nodes."""
        quantize_dynamic(graph, path, nodes_to_quantize=nodes_to_quantize[:-1], **more)

    monkeypatch.setattr("onnxruntime.quantization.quantize_dynamic", lazy)
    with pytest.raises(Unsupported, match=f"left {products[2]} in fp32 instead of int8, and say nothing of it"):
        lower(floating, dict.fromkeys(products[:3], "int8"))
    assert lowered_nodes(lower(floating, dict.fromkeys(products[:3], "int4"))) == dict.fromkeys(products[:3], "int4")


def test_nothing_is_written_where_lowering_fails(
    image: ImageInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(everywhere(wide(image), "w1"))
    monkeypatch.setattr("wb.export.graph.settle", lambda _: None)  # the graph's weights are not the module's then
    with pytest.raises(Unsupported, match=r"mixer\.wq is nowhere in the exported graph"):
        export(model, tmp_path / "a.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_the_graph_does_not_have_are_named(image: ImageInput, floating: onnx.ModelProto) -> None:
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(SOFTMAX,)),), classes=3)
    other = build_with(a, model_of(a, seed=1).weights)
    with pytest.raises(Unsupported, match=r"stem\.patches is nowhere in the exported graph"):
        nodes_of(floating, other, kept(build(a, "meta")))


def test_a_file_that_the_runtime_cannot_load_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(Unsupported, match=r"the runtime cannot load .*a\.onnx"):
        folded(tmp_path / "a.onnx")


def test_folding_names_every_node_once_and_keeps_the_function(tmp_path: Path) -> None:
    """A foreign graph: a Gemm, nodes without names, weights that two products share."""
    rng = np.random.default_rng(0)
    w, v, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 4), (4, 4), 4))
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y1"]),
        helper.make_node("MatMul", ["y1", "w"], ["y2"], name="MatMul_0"),
        helper.make_node("Relu", ["y2"], ["y3"]),
        helper.make_node("Gemm", ["y3", "v", "b"], ["y"], transB=1),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in "xy")
    tensors = [numpy_helper.from_array(array, name) for name, array in (("w", w), ("v", v), ("b", b))]
    graph = helper.make_model(
        helper.make_graph(nodes, "g", [x], [y], tensors), opset_imports=[helper.make_opsetid("", 20)]
    )
    graph.ir_version = 10
    onnx.save(graph, tmp_path / "a.onnx")
    found = folded(tmp_path / "a.onnx")
    onnx.checker.check_model(found)
    assert (found.ir_version, [entry.version for entry in found.opset_import]) == (10, [20])
    names = [node.name for node in found.graph.node]
    assert all(names)
    assert len(set(names)) == len(names)
    assert [node.op_type for node in found.graph.node] == ["MatMul", "MatMul", "Relu", "MatMul", "Add"]
    assert len(linear_nodes(found)) == 3
    used = {name for node in found.graph.node for name in node.input}
    assert {tensor.name for tensor in found.graph.initializer} <= used, "nothing is carried along"
    onnx.save(found, tmp_path / "b.onnx")
    given = rng.standard_normal((3, 4)).astype(np.float32)
    expected = np.maximum(given @ w @ w, 0) @ v.T + b
    for file in ("a", "b"):
        result = session(tmp_path / f"{file}.onnx", Device()).run(None, {"x": given})[0]
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-4)


def test_shared_ternary_weights_are_packed_once(tmp_path: Path) -> None:
    """Two products with the same weights, one more with others; a scale for each column, zeros, widths of no block."""
    layers = [torch.nn.Linear(19, 19, bias=False) for _ in range(3)]
    signs = torch.randint(-1, 2, (19, 19), generator=torch.Generator().manual_seed(0))
    scaled = signs * torch.linspace(0, 1, 19)[:, None]
    with torch.no_grad():
        for layer, weight in zip(layers, (scaled, scaled, signs.flip(0)), strict=True):
            layer.weight.copy_(weight)
    module = torch.nn.Sequential(*layers)
    x = torch.rand(5, 19)
    export_module(module, {"x": x}, tmp_path / "a.onnx", "y")
    graph = folded(tmp_path / "a.onnx")
    lowered = lower(graph, dict.fromkeys(linear_nodes(graph), "w2"))
    onnx.checker.check_model(lowered)
    assert sum(tensor.name.endswith("_Q2") for tensor in lowered.graph.initializer) == 2
    onnx.save(lowered, tmp_path / "b.onnx")
    result = session(tmp_path / "b.onnx", Device()).run(None, {"x": x.numpy()})[0]
    np.testing.assert_allclose(result, module(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    one = lower(graph, {next(iter(linear_nodes(graph))): "w2"})
    left = [t for t in one.graph.initializer if t.data_type == TensorProto.FLOAT and tuple(t.dims) == (19, 19)]
    assert len(left) == 2, "the other product still reads the shared weights"


def test_settling_is_what_makes_weights_packable(image: ImageInput, tmp_path: Path) -> None:
    """A file of latent weights and one of settled weights are the same graph."""
    model = model_of(everywhere(wide(image), "w2"))
    network = model.network()
    settle(network)
    settled = Model(model.architecture, {name: weight.detach() for name, weight in network.named_parameters()})
    for name, one in (("latent", model), ("settled", settled)):
        export(one, tmp_path / f"{name}.onnx")
    x = images(model.architecture)
    np.testing.assert_allclose(
        logits(tmp_path / "latent.onnx", x), logits(tmp_path / "settled.onnx", x), rtol=1e-5, atol=1e-5
    )

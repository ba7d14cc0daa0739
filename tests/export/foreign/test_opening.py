"""Opening files that anybody may have written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.export.foreign_graphs import constant, linear, model, save, save_beside
from wb.core.errors import BadArtefact
from wb.export.foreign.opening import INPUT_NUMBERS, file_size, open_graph, read_metadata, sidecars
from wb.hardware.device import Device, session


def refuse(path: Path, words: str) -> None:
    with pytest.raises(BadArtefact, match=words) as caught:
        open_graph(path)
    text = str(caught.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 1000


def test_weights_beside_the_file_are_part_of_its_size(tmp_path: Path) -> None:
    path = save_beside(linear(100, 50), tmp_path / "a.onnx")
    size = file_size(path)
    assert size.value == path.stat().st_size + 100 * 50 * 4
    assert size.note == "with the weights in weights.bin"
    assert sidecars(open_graph(path), path) == [tmp_path / "weights.bin"]
    assert file_size(save(linear(), tmp_path / "b.onnx")).note is None


def test_weights_of_branches_and_constants_beside_the_file_are_found(tmp_path: Path) -> None:
    made = linear(10, 10)
    node = helper.make_node("Constant", [], ["k"], value=made.graph.initializer[0])
    made.graph.node.insert(0, node)
    path = save_beside(made, tmp_path / "a.onnx")
    loaded = open_graph(path)
    tensor = loaded.graph.node[0].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value="more.bin")
    save(loaded, path)
    refuse(path, "lie in 'more.bin', which is not there")
    (tmp_path / "more.bin").write_bytes(bytes(400))
    assert [file.name for file in sidecars(open_graph(path), path)] == ["more.bin", "weights.bin"]


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "", "in/../../secret.bin", "link.bin", "a\0b", "w" * 900]
)
def test_nothing_outside_the_folder_is_read(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = save_beside(linear(), folder / "a.onnx")
    loaded = onnx.load(path, load_external_data=False)
    loaded.graph.initializer[0].external_data[0].value = location
    save(loaded, path)
    refuse(path, "expected the name of a file|outside its folder|cannot be followed|is not there")


def test_links_from_a_cache_to_a_folder_of_both_files_are_followed(tmp_path: Path) -> None:
    blobs, names = tmp_path / "blobs", tmp_path / "names"
    blobs.mkdir()
    names.mkdir()
    save_beside(linear(), blobs / "1a")
    (blobs / "weights.bin").rename(blobs / "2b")
    (names / "a.onnx").symlink_to(blobs / "1a")
    (names / "weights.bin").symlink_to(blobs / "2b")
    size = file_size(names / "a.onnx")
    assert size.note == "with the weights in weights.bin"
    assert size.value == (blobs / "1a").stat().st_size + 48
    session(names / "a.onnx", Device())


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.unlink(), "which is not there"),
        (lambda path: path.write_bytes(bytes(47)), "needs 48 bytes, and weights.bin has 47"),
        (_fifo, "no ordinary file"),
        (_circle, "cannot be followed"),
    ],
    ids=["missing", "short", "pipe", "circle"],
)
def test_a_damaged_file_beside_is_named(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    path = save_beside(linear(), tmp_path / "a.onnx")
    damage(tmp_path / "weights.bin")
    refuse(path, words)


@pytest.mark.parametrize(("key", "value"), [("offset", "-4"), ("offset", "x"), ("length", "8"), ("offset", str(2**70))])
def test_places_beside_that_do_not_hold_the_tensor_are_refused(tmp_path: Path, key: str, value: str) -> None:
    path = save_beside(linear(), tmp_path / "a.onnx")
    loaded = onnx.load(path, load_external_data=False)
    tensor = loaded.graph.initializer[0]
    kept = [(entry.key, entry.value) for entry in tensor.external_data if entry.key != key]
    del tensor.external_data[:]
    for name, text in (*kept, (key, value)):
        tensor.external_data.add(key=name, value=text)
    refuse(save(loaded, path), "is no number|needs 48 bytes")


@pytest.mark.parametrize("dims", [[4, 4], [4], [-4, -3], [2**62, 2**62], [2**31, 3], [0, 3]])
def test_a_tensor_has_as_many_numbers_as_its_shape_says(tmp_path: Path, dims: list[int]) -> None:
    made = linear()
    made.graph.initializer[0].dims[:] = dims
    refuse(
        save(made, tmp_path / "a.onnx"), r"the tensor 'w' \[.*\] has (a negative size|48 bytes where its shape needs)"
    )


@pytest.mark.parametrize("kind", [0, 99])
def test_a_tensor_of_an_unknown_type_is_refused(tmp_path: Path, kind: int) -> None:
    made = linear()
    made.graph.initializer[0].data_type = kind
    refuse(save(made, tmp_path / "a.onnx"), f"of the unknown type {kind}")


@pytest.mark.parametrize(
    "kind",
    [kind for kind in TensorProto.DataType.values() if kind not in (TensorProto.UNDEFINED, TensorProto.STRING)],
    ids=TensorProto.DataType.Name,
)
@pytest.mark.parametrize("raw", [False, True])
def test_every_type_is_measured_as_onnx_writes_it(tmp_path: Path, kind: int, raw: bool) -> None:
    numbers = [1, 0, 1, 1, 0, 1, 1]
    made = linear()
    tensor = helper.make_tensor("k", kind, [7], numbers)
    if raw:
        tensor = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), "k")
    made.graph.initializer.append(tensor)
    assert open_graph(save(made, tmp_path / "a.onnx")).graph.initializer[1].data_type == kind
    tensor.dims[0] = 9  # of which 2-bit numbers need one more byte
    del made.graph.initializer[1:]
    made.graph.initializer.append(tensor)
    refuse(save(made, tmp_path / "a.onnx"), r"the tensor 'k' \[9\] has")


@pytest.mark.parametrize("shape", [[100_000, 10_000], [2**31, 4], ["n", 0], [0, 4]])
def test_inputs_of_absurd_sizes_are_refused_with_the_bound(tmp_path: Path, shape: list[int | str]) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], (), {"x": shape}), tmp_path / "a.onnx")
    refuse(path, "which is empty" if 0 in shape else rf"{INPUT_NUMBERS} \(2\*\*28\) are the most")


def test_a_negative_size_is_a_dynamic_axis(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], (), {"x": [-1, 4]}), tmp_path / "a.onnx")
    batch, width = open_graph(path).graph.input[0].type.tensor_type.shape.dim
    assert (batch.HasField("dim_value"), width.dim_value) == (False, 4)


def test_a_shape_among_the_constants_that_are_listed_as_inputs_is_no_input(tmp_path: Path) -> None:
    made = linear()
    made.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [100_000, 10_000]))
    open_graph(save(made, tmp_path / "a.onnx"))


@pytest.mark.parametrize(
    ("depth", "words"), [(0, "calls itself"), (40, "more than 1000000 nodes"), (300, "over 100 deep")]
)
def test_functions_without_end_are_refused(tmp_path: Path, depth: int, words: str) -> None:
    made = model([helper.make_node(f"F{depth}", ["x"], ["y"], domain="d")])
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("d", 1)]
    for i in range(depth + 1):
        inner = f"F{max(0, i - 1)}"
        calls = [helper.make_node(inner, [a], [b], domain="d") for a, b in (("v", "m"), ("m", "w"))]
        if i == 0 and depth:
            calls = [helper.make_node("Identity", ["v"], ["w"])]
        made.functions.insert(0, helper.make_function("d", f"F{i}", ["v"], ["w"], calls, imports))
    refuse(save(made, tmp_path / "a.onnx"), words)


def test_graphs_nested_without_end_are_refused(tmp_path: Path) -> None:
    def field(number: int, content: bytes) -> bytes:
        """A message inside a message."""
        length, size = len(content), b""
        while length > 127:
            size, length = size + bytes([length % 128 + 128]), length // 128
        return bytes([8 * number + 2]) + size + bytes([length]) + content

    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [], []).SerializeToString()
    for _ in range(2000):  # in an attribute of a node
        graph = field(1, field(5, field(6, graph)))
    path = tmp_path / "a.onnx"
    path.write_bytes(field(7, graph))
    refuse(path, "is no ONNX graph or is damaged")


def test_names_are_texts_of_a_bounded_length(tmp_path: Path) -> None:
    made = linear()
    made.graph.node[0].name = "name of the node"
    path = save(made, tmp_path / "a.onnx")
    path.write_bytes(path.read_bytes().replace(b"name of", b"nam\xff of"))
    refuse(path, "no UTF-8")
    made.graph.node[0].name = "n" * 2000
    refuse(save(made, path), "a name of 2000 characters, and 1000 are the most")


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    refuse(tmp_path / "pipe.onnx", "is no ordinary file")
    refuse(tmp_path / "none.onnx", "is not there")
    refuse(tmp_path, "is no ordinary file")


def test_the_metadata_are_read(tmp_path: Path) -> None:
    made = linear()
    helper.set_model_props(made, {"a": "b"})
    assert read_metadata(save(made, tmp_path / "a.onnx")) == {"a": "b"}


def test_a_file_of_many_kinds_of_constants_opens(tmp_path: Path) -> None:
    texts = onnx.numpy_helper.from_array(np.array(["a", "b"]), "texts")
    empty = constant("empty", [])
    made = model([helper.make_node("Relu", ["x"], ["y"])], [texts, empty])
    assert len(open_graph(save(made, tmp_path / "a.onnx")).graph.initializer) == 2

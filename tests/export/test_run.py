"""Outputs of graphs against numpy, however many examples a run has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tests.export.foreign_graphs import model, save
from wb.core.errors import BadArtefact, BadData
from wb.core.records import ImageInput
from wb.core.specs import PIXELS
from wb.export.graph import export
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.models.model import from_network
from wb.models.network import build
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((12, 5)).astype(np.float32)
IMAGES = RNG.random((150, 3, 2, 2), dtype=np.float32)
SCORES = IMAGES.reshape(150, 12) @ WEIGHT


def linear(path: Path, batch: int | str = "batch", *, weight: NDArray[np.float32] = WEIGHT, flat: bool = True) -> Path:
    """A linear classifier whose class scores are its second output, called `logits`."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["features"]),
        helper.make_node("MatMul", ["features", "weight"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, [batch, 3, 2, 2])
    names = [("features", 12), ("logits", 5)] if flat else [("features", 12)]
    outs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, size]) for name, size in names]
    graph = helper.make_graph(nodes, "g", [image], outs, [numpy_helper.from_array(weight, "weight")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def outputs(path: Path, images: NDArray[np.generic], batch: int | None = None) -> NDArray[np.float32]:
    return Runner(path, Device())({PIXELS: images}, batch)


def test_scores_are_numpys_and_do_not_depend_on_the_other_images(tmp_path: Path) -> None:
    path = linear(tmp_path / "x.onnx")
    scores = outputs(path, IMAGES)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scores, outputs(path, IMAGES))
    np.testing.assert_array_equal(scores[:70], outputs(path, IMAGES[:70]))


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    scores = outputs(linear(tmp_path / "x.onnx", batch=7), IMAGES)
    np.testing.assert_allclose(scores, SCORES, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [IMAGES[:, :1], IMAGES.reshape(150, 12), IMAGES[:0]],
    ids=["channels", "flat", "none"],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(tmp_path: Path, images: NDArray[np.float32]) -> None:
    shape = str(list(images.shape)).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(BadData, match=rf"{images.dtype}{shape} do not fit .*\['batch', 3, 2, 2\]"):
        outputs(linear(tmp_path / "x.onnx"), images)


def test_a_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    spec = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", 4]) for name in ("ids", "mask", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["ids", "mask"], ["y"])], "g", spec[:2], spec[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadArtefact, match=r"takes ids .*, mask .*, and is given pixel_values float32\[150, 3, 2, 2\]"):
        outputs(tmp_path / "x.onnx", IMAGES)


@pytest.mark.parametrize("batch", [64, 5])
def test_numbers_for_a_whole_batch_are_no_outputs(tmp_path: Path, batch: int) -> None:
    made = model([helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)], (), {"x": ["n", 4]})
    with pytest.raises(BadArtefact, match=rf"gives 'y' \[\] for {batch} examples"):
        outputs(save(made, tmp_path / "x.onnx"), np.zeros((100, 4), np.float32), batch)


def test_several_inputs_go_by_their_names() -> None:
    made = model([helper.make_node("Sub", ["a", "b"], ["y"])], (), {"a": ["n", 4], "b": ["n", 4]})
    a, b = RNG.random((2, 70, 4), dtype=np.float32)
    assert np.array_equal(Runner(made, Device())({"b": b, "a": a}), a - b)


def test_images_do_not_change_each_others_scores_where_activations_are_quantized_as_they_come(
    tmp_path: Path, image: ImageInput
) -> None:
    architecture = Vit(options_with(TINY, {"precision": ["int8"]}), image, 3).largest()
    network = build(architecture)
    network.reset()
    path = tmp_path / "int8.onnx"
    export(from_network(architecture, network), path)
    images = np.random.default_rng(0).random((5, 1, 8, 8), dtype=np.float32)
    images[4] *= 30  # widens the range of a batch that it is in
    alone = np.concatenate([outputs(path, images[i : i + 1]) for i in range(5)])
    assert np.array_equal(outputs(path, images), alone)
    assert not np.array_equal(outputs(path, images, batch=5), alone)


def test_scores_that_are_no_tensor_are_named(tmp_path: Path) -> None:
    made = model([helper.make_node("SequenceConstruct", ["x"], ["y"])], (), {"x": ["n", 4]})
    made.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    with pytest.raises(BadArtefact, match="gives 'y', a list; numbers"):
        outputs(save(made, tmp_path / "x.onnx"), np.zeros((3, 4), np.float32))


def test_a_negative_size_is_a_dynamic_axis(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], (), {"x": [-1, 4]}), tmp_path / "x.onnx")
    assert outputs(path, np.ones((3, 4), np.float32)).shape == (3, 4)

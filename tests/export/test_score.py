"""Accuracy from a file against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.stats import binomtest

from tests.export.foreign_graphs import model, save
from wb.core.architecture import ImageInput
from wb.core.errors import BadArtefact, BadData
from wb.core.statistics.scores import score, wilson
from wb.export.graph import export
from wb.export.score import accuracy, doubt, logits
from wb.hardware.device import Device, parse_device
from wb.models.model import from_network
from wb.models.network import build
from wb.spaces.presets import TINY
from wb.spaces.vit import Vit, options_with

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((12, 5)).astype(np.float32)
IMAGES = RNG.random((150, 3, 2, 2), dtype=np.float32)
SCORES = IMAGES.reshape(150, 12) @ WEIGHT
LABELS = np.where(RNG.random(150) < 0.7, SCORES.argmax(axis=1), RNG.integers(0, 5, 150))


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


@pytest.mark.parametrize("batch", [1, 64, 150, 1000])
def test_accuracy_is_numpys(tmp_path: Path, batch: int) -> None:
    found = accuracy(linear(tmp_path / "x.onnx"), IMAGES, LABELS, parse_device(), batch)
    right = int((SCORES.argmax(axis=1) == LABELS).sum())
    assert found.value == right / 150
    assert (found.unit, found.how, found.n, found.device) == ("fraction", "measured", 150, parse_device().text)
    exact = binomtest(right, 150).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize("right", [0, 20])
def test_wilson_at_the_ends(right: int) -> None:
    exact = binomtest(right, 20).proportion_ci(method="wilson")
    assert wilson(right, 20) == pytest.approx((exact.low, exact.high))


@pytest.mark.parametrize(
    ("images", "right", "says"),
    [
        (4, 4, "cannot be told from chance on so few images"),
        (4, 2, "is near chance"),
        (1000, 510, "is near chance"),
        (40, 40, None),
        (1000, 700, None),
    ],
)
def test_few_images_are_not_called_near_chance(images: int, right: int, says: str | None) -> None:
    labels = np.arange(images) % 2
    given = np.where(np.arange(images) < right, labels, 1 - labels)
    said = doubt(score(right, labels.tolist(), "cpu"), given, labels)
    assert said is None if says is None else said is not None and says in said


def test_scores_are_numpys_and_do_not_depend_on_the_other_images(tmp_path: Path) -> None:
    path = linear(tmp_path / "x.onnx")
    scores = logits(path, IMAGES, parse_device())
    np.testing.assert_allclose(scores, SCORES, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(scores, logits(path, IMAGES, parse_device()))
    np.testing.assert_array_equal(scores[:70], logits(path, IMAGES[:70], parse_device()))


def test_a_fixed_batch_is_kept(tmp_path: Path) -> None:
    scores = logits(linear(tmp_path / "x.onnx", batch=7), IMAGES, parse_device())
    np.testing.assert_allclose(scores, SCORES, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "images",
    [IMAGES[:, :1], IMAGES.reshape(150, 12), IMAGES.astype(np.float64), (255 * IMAGES).astype(np.uint8), IMAGES[:0]],
    ids=["channels", "flat", "double", "bytes", "none"],
)
def test_images_that_do_not_fit_are_refused_with_both_shapes(tmp_path: Path, images: NDArray[np.float32]) -> None:
    shape = str(list(images.shape)).replace("[", r"\[").replace("]", r"\]")
    with pytest.raises(BadData, match=rf"{images.dtype}{shape} do not fit .*\['batch', 3, 2, 2\]"):
        accuracy(linear(tmp_path / "x.onnx"), images, LABELS[: len(images)], parse_device())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:-1], r"labels int64\[149\] for 150 images"),
        (LABELS.astype(np.float32), r"labels float32\[150\]"),
        (LABELS + 1, r"labels 1\.\.5 do not fit the graph's 5 classes \(0\.\.4\)"),
        (LABELS - 1, r"labels -1\.\.3 do not fit"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, labels: NDArray[np.int64], message: str) -> None:
    with pytest.raises(BadData, match=message):
        accuracy(linear(tmp_path / "x.onnx"), IMAGES, labels, parse_device())


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = linear(tmp_path / "x.onnx", weight=np.full_like(WEIGHT, np.nan))
    with pytest.raises(BadArtefact, match="not finite for 150 of 150 images"):
        accuracy(path, IMAGES, LABELS, parse_device())


def test_a_graph_of_two_inputs_is_refused(tmp_path: Path) -> None:
    spec = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", 4]) for name in ("ids", "mask", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["ids", "mask"], ["y"])], "g", spec[:2], spec[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BadArtefact, match=r"takes ids .*, mask .*; only graphs with one input"):
        logits(tmp_path / "x.onnx", IMAGES, parse_device())


def test_what_gives_no_class_scores_is_refused(tmp_path: Path) -> None:
    spec = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 2, 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", spec[:1], spec[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "x.onnx").write_bytes(model.SerializeToString())
    for batch in (64, 5):
        with pytest.raises(BadArtefact, match=rf"gives 'y' \[{batch}, 3, 2, 2\] for {batch} images"):
            logits(tmp_path / "x.onnx", IMAGES, parse_device(), batch)


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
    alone = np.concatenate([logits(path, images[i : i + 1], Device()) for i in range(5)])
    assert np.array_equal(logits(path, images, Device()), alone)
    assert not np.array_equal(logits(path, images, Device(), batch=5), alone)


def test_scores_that_are_no_tensor_are_named(tmp_path: Path) -> None:
    made = model([helper.make_node("SequenceConstruct", ["x"], ["y"])], (), {"x": ["n", 4]})
    made.graph.output[0].CopyFrom(helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None))
    with pytest.raises(BadArtefact, match="gives 'y', a list; class scores"):
        logits(save(made, tmp_path / "x.onnx"), np.zeros((3, 4), np.float32), parse_device())


def test_a_negative_size_is_a_dynamic_axis(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], (), {"x": [-1, 4]}), tmp_path / "x.onnx")
    assert logits(path, np.ones((3, 4), np.float32), parse_device()).shape == (3, 4)

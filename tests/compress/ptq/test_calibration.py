"""Inputs from data sets, files and nowhere, and every way in which files do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from tests.compress.ptq.graphs import relu_graph
from wb.compress.ptq.calibration import batch_of, entries, first, made_up, number_of, of_images, read_inputs
from wb.compress.ptq.outputs import outputs
from wb.core.errors import BadArtefact, BadData, Unsupported
from wb.data import Dataset
from wb.hardware.device import Device

GREY = relu_graph({"image": ["batch", 1, 8, 8]})
COLOUR = relu_graph({"image": ["batch", 3, 8, 8]})
TWO = relu_graph({"a": ["batch", 2], "b": ["batch", 3]})
IDS = relu_graph({"ids": ["batch", 4]}, TensorProto.INT32)


def test_images_are_drawn_without_repetition(stripes: Dataset) -> None:
    values = of_images(GREY, stripes.train, 50, 3)["image"]
    rows = {image.tobytes() for image in values}
    assert values.shape == (50, 1, 8, 8)
    assert values.dtype == np.float32
    assert len(rows) == 50
    assert rows <= {image.tobytes() for image in stripes.train.images}
    assert np.array_equal(values, of_images(GREY, stripes.train, 50, 3)["image"])
    assert not np.array_equal(values, of_images(GREY, stripes.train, 50, 4)["image"])
    assert number_of(of_images(GREY, stripes.train, 10**6, 0)) == len(stripes.train)


def test_images_have_to_fit(stripes: Dataset) -> None:
    with pytest.raises(BadData, match=r"image float32 \[\?, 3, 8, 8\]"):
        of_images(COLOUR, stripes.train, 4, 0)
    with pytest.raises(Unsupported, match="npz"):
        of_images(TWO, stripes.train, 4, 0)


@pytest.mark.parametrize("graph", [GREY, COLOUR, TWO, IDS, relu_graph({"fixed": [4, 2]})])
def test_made_up_inputs_can_be_run(graph: onnx.ModelProto) -> None:
    made = made_up(graph, 8, 0)
    assert number_of(made) == 8
    assert len(outputs(graph, made, Device())) == 8
    assert len(next(iter(first(made, 4).values()))) == 4


def test_a_fixed_batch_takes_whole_batches(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph = relu_graph({"fixed": [4, 2]})
    assert batch_of(graph) == 4
    assert batch_of(GREY) == 1
    np.save(tmp_path / "ten.npy", np.ones((10, 2)))
    assert number_of(read_inputs(tmp_path / "ten.npy", graph)) == 8
    (said,) = [record.getMessage().replace(str(tmp_path), "…") for record in caplog.records]
    assert said == "2 of 10 examples of …/ten.npy are left out: the graph takes 4 at a time (a fixed batch)"
    np.save(tmp_path / "three.npy", np.ones((3, 2)))
    with pytest.raises(BadData, match="at least 4 examples"):
        read_inputs(tmp_path / "three.npy", graph)


def test_sparse_weights_are_no_inputs() -> None:
    graph = relu_graph({"x": [4, 2], "w": [4, 2]})
    values = numpy_helper.from_array(np.ones(1, np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([0])), [4, 2])
    graph.graph.sparse_initializer.append(sparse)
    assert [entry.name for entry in entries(graph)] == ["x"]


def test_a_graph_has_to_take_batches_of_tensors() -> None:
    scalar = relu_graph({"x": []})
    with pytest.raises(Unsupported, match="first axis"):
        made_up(scalar, 1, 0)
    none = helper.make_model(helper.make_graph([], "nothing", [], []))
    with pytest.raises(Unsupported, match="no inputs"):
        batch_of(none)


# ------------------------------------------------------------------------------------------------------------ folders


def save_image(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def test_a_folder_of_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8))
    for place, image in zip(("x.png", "cats/y.png", "dogs/z.png"), pixels, strict=True):
        save_image(tmp_path / place, image)
    (tmp_path / "notes.txt").write_text("no image")
    grey = read_inputs(tmp_path, GREY)["image"]
    assert grey.dtype == np.float32
    assert {image.tobytes() for image in grey} == {(p / np.float32(255)).astype(np.float32).tobytes() for p in pixels}
    assert np.array_equal(read_inputs(tmp_path, COLOUR)["image"], grey.repeat(3, axis=1))


def test_transparent_images_are_laid_on_the_background_and_what_is_no_image_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.merge("LA", (Image.new("L", (8, 8), 51), Image.new("L", (8, 8), 0))).save(tmp_path / "x.png")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "y.png").write_bytes(b"no image, and hidden")
    (tmp_path / "notes.txt").write_text("no image")
    assert (read_inputs(tmp_path, GREY)["image"] == 1).all()
    assert (read_inputs(tmp_path, GREY, background="black")["image"] == 0).all()
    assert [record.getMessage().replace(str(tmp_path), "…") for record in caplog.records[:2]] == [
        "left out of …: 1 file of other kinds (1 .txt), 1 hidden file",
        "1 of 1 images of … are transparent in parts: they are laid on white (--background)",
    ]


def test_images_are_scaled_to_the_graph(tmp_path: Path) -> None:
    save_image(tmp_path / "large.png", np.full((20, 30, 3), 51))
    assert np.allclose(read_inputs(tmp_path, COLOUR)["image"], 0.2)


def test_a_folder_that_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(BadData, match="no images"):
        read_inputs(tmp_path, GREY)
    save_image(tmp_path / "colour.png", np.zeros((8, 8, 3)))
    with pytest.raises(BadData, match=r"the graph takes image float32 \[\?, 1, 8, 8\]"):
        read_inputs(tmp_path, GREY)
    with pytest.raises(BadData, match="are no images"):
        read_inputs(tmp_path, IDS)
    with pytest.raises(Unsupported, match="more than images"):
        read_inputs(tmp_path, TWO)
    (tmp_path / "broken.png").write_bytes(b"no image")
    with pytest.raises(BadData, match=r"broken\.png"):
        read_inputs(tmp_path, COLOUR)


# ------------------------------------------------------------------------------------------------------------- arrays


def test_arrays_by_name(tmp_path: Path) -> None:
    a, b = np.ones((5, 2), np.float64), np.arange(15).reshape(5, 3)
    np.savez(tmp_path / "both.npz", a=a, b=b, extra=np.zeros(1))
    found = read_inputs(tmp_path / "both.npz", TWO)
    assert set(found) == {"a", "b"}
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}
    assert np.array_equal(found["b"], b)
    np.save(tmp_path / "one.npy", np.arange(8, dtype=np.int64).reshape(2, 4))
    assert read_inputs(tmp_path / "one.npy", IDS)["ids"].dtype == np.int32


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"a": np.ones((5, 2))}, r"b float32 \[\?, 3\]"),
        ({"a": np.ones((5, 2)), "b": np.ones((4, 3))}, "a has 5, b has 4"),
        ({"a": np.ones((5, 3)), "b": np.ones((5, 3))}, r"a of .*\[5, 3\]"),
        ({"a": np.ones((0, 2)), "b": np.ones((0, 3))}, "at least 1 example"),
        ({"a": np.full((5, 2), np.nan), "b": np.ones((5, 3))}, "not finite"),
        ({"a": np.ones((5, 2), complex), "b": np.ones((5, 3))}, "complex128"),
        ({"a": np.full((5, 2), "x"), "b": np.ones((5, 3))}, "numbers of that kind"),
        ({}, "holds nothing"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, given: dict[str, NDArray[Any]], says: str) -> None:
    np.savez(tmp_path / "given.npz", **given)  # type: ignore[arg-type]
    with pytest.raises(BadData, match=says):
        read_inputs(tmp_path / "given.npz", TWO)


def test_numbers_too_large_and_fractions(tmp_path: Path) -> None:
    np.save(tmp_path / "huge.npy", np.full((1, 1, 8, 8), 1e300))
    with pytest.raises(BadData, match="not finite"):
        read_inputs(tmp_path / "huge.npy", GREY)
    np.save(tmp_path / "half.npy", np.full((1, 4), 0.5))
    with pytest.raises(BadData, match="numbers of that kind"):
        read_inputs(tmp_path / "half.npy", IDS)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(BadArtefact, match="cannot be read"):
        read_inputs(tmp_path / "objects.npy", GREY)


@pytest.mark.parametrize("name", ["cut.npy", "cut.npz", "empty.npy", "text.npz", "text.txt", "absent.npy"])
def test_files_that_are_no_arrays(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if "cut" in name:
        whole = tmp_path / f"whole{path.suffix}"
        save = np.save if path.suffix == ".npy" else np.savez
        save(whole, np.ones((4, 1, 8, 8), np.float32))
        path.write_bytes(whole.read_bytes()[:-200])
    elif "absent" not in name:
        path.write_bytes(b"" if "empty" in name else b"no array")
    with pytest.raises(BadArtefact, match=rf"{name}"):
        read_inputs(path, GREY)


def test_a_negative_size_is_a_dynamic_axis() -> None:
    graph = relu_graph({"x": [-1, 4]})
    assert batch_of(graph) == 1
    assert len(outputs(graph, made_up(graph, 5, 0), Device())) == 5

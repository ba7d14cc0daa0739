"""Readings of a file on a split are those of its outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from tests.export.foreign_graphs import model, save
from wb.core.errors import BadArtefact
from wb.core.specs import NO_LABEL
from wb.data.split import Images
from wb.data.texts.passages import Passages
from wb.data.texts.vocabulary import Vocabulary
from wb.export.score import examined, graded, nats, outputs, score
from wb.hardware.device import Device, parse_device
from wb.tasks.classes import CLASSES
from wb.tasks.next import NEXT

RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((12, 5)).astype(np.float32)
IMAGES = RNG.random((150, 3, 2, 2), dtype=np.float32)
SCORES = IMAGES.reshape(150, 12) @ WEIGHT
LABELS = np.where(RNG.random(150) < 0.7, SCORES.argmax(axis=1), RNG.integers(0, 5, 150))
SPLIT = Images(IMAGES, LABELS)


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    """A linear classifier."""
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
    weight = numpy_helper.from_array(WEIGHT, "w")
    return save(model(nodes, (weight,), {"x": ["n", 3, 2, 2]}), tmp_path / "x.onnx")


def test_large_images_are_scored_some_batches_at_a_time(linear: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = outputs(linear, SPLIT, Device(), 16)
    monkeypatch.setattr("wb.data.split.HELD", 4 * SPLIT.images[:1].size * 20)
    told: list[int] = []
    assert np.array_equal(outputs(linear, SPLIT, Device(), 16, lambda done, of: told.append(done)), whole)
    assert told == [*range(0, len(SPLIT), 16)]


@pytest.mark.parametrize("batch", [1, 64, 150, 1000])
def test_accuracy_is_numpys(linear: Path, batch: int) -> None:
    found = score(linear, SPLIT, CLASSES, Device(), batch)
    assert found.value == (SCORES.argmax(axis=1) == LABELS).mean()
    assert (found.unit, found.how, found.n, found.device) == ("fraction", "measured", 150, Device().text)


def test_a_device_elsewhere_scores_where_it_is_to(linear: Path) -> None:
    device = parse_device("local")
    assert score(linear, SPLIT, CLASSES, device).device == Device().text
    found = score(linear, SPLIT, CLASSES, device.scoring("device"))
    assert (found.value, found.n, found.device) == ((SCORES.argmax(axis=1) == LABELS).mean(), 150, device.text)
    assert graded(linear, SPLIT, CLASSES, device.scoring("device")).each.mean() == found.value


def test_every_way_to_look_at_a_file_tells_the_same(linear: Path) -> None:
    given, grades = outputs(linear, SPLIT, Device()), graded(linear, SPLIT, CLASSES, Device())
    reading, doubt = examined(linear, SPLIT, CLASSES, Device())
    assert np.array_equal(grades.each, CLASSES.grade(given, LABELS).each)
    assert reading == CLASSES.reading(grades, Device().text) == score(linear, SPLIT, CLASSES, Device())
    assert doubt == CLASSES.doubt(reading, given, LABELS)


def test_what_gives_no_class_scores_is_refused(tmp_path: Path) -> None:
    path = save(model([helper.make_node("Relu", ["x"], ["y"])], (), {"x": ["n", 3, 2, 2]}), tmp_path / "x.onnx")
    with pytest.raises(BadArtefact, match=r"x\.onnx gives \[150, 3, 2, 2\] for 150 examples; class scores"):
        score(path, SPLIT, CLASSES, Device())


@pytest.mark.parametrize("steps", [False, True])
def test_a_token_costs_as_much_in_a_short_text_as_in_a_long_one(steps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([[1, 2, 3, 0], [3, 1, 0, 0]])
    labels = np.array([[2, 3, 1, 2], [1, NO_LABEL, NO_LABEL, NO_LABEL]])
    passages = Passages("", ids.ravel(), np.array([0, 4]), labels, Vocabulary("", 4, 4), 4, whole=False, between="|")
    scores = RNG.standard_normal((4, 4)).astype(np.float32)  # of what follows each token

    class Continuing:
        def __init__(self, *_: object) -> None: ...

        def begin(self, texts: int) -> None: ...

        def __call__(self, given: np.ndarray) -> np.ndarray:
            return np.asarray(scores[given])

    monkeypatch.setattr("wb.export.decoder.Continuing", Continuing)
    expected = NEXT.reading(NEXT.grade(scores[ids], labels), "cpu").value
    assert np.exp(nats(Path("x.onnx"), passages, Device(), steps=steps)) == pytest.approx(expected)

"""Classes of data and of models go by their names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data import Dataset
from wb.data.split import Images
from wb.models.model import Model
from wb.tasks.names import matched
from wb.tasks.suited import fitted
from wb.training.fit import Recipe
from wb.training.train import Finetune

SPLITS = ("train", "validation", "test")


def named(data: Dataset, split: str) -> list[str]:
    return [data.classes[label] for label in getattr(data, split).labels]


@pytest.mark.parametrize("labels", [("c", "a", "b"), ("b", "x", "a", "y", "c")])
def test_every_image_keeps_the_name_of_its_class(stripes: Dataset, labels: tuple[str, ...]) -> None:
    moved, notes = matched(stripes, labels, len(labels), "m")
    assert moved.classes == labels
    assert moved.fingerprint == stripes.fingerprint
    for split in SPLITS:
        assert named(moved, split) == named(stripes, split)
        assert np.array_equal(getattr(moved, split).images, getattr(stripes, split).images)
    assert notes == ([] if len(labels) == 3 else ["stripes has no x, y: 2 of the 5 classes of m are left out"])


def test_equal_names_change_nothing(stripes: Dataset) -> None:
    assert matched(stripes, ("a", "b", "c"), 3, "m") == (stripes, [])
    assert matched(stripes, ("a", "b", "c"), 3, "m", by_index=True) == (stripes, [])


@pytest.mark.parametrize(
    ("labels", "hint"),
    [
        (("x", "y", "z"), "a, b, c are not among the latter; rename them like the model's, or insist with --by-index"),
        (("A", "b", "c"), "a is not among the latter; rename"),
        (("a", "b", "b"), "c is not among the latter; rename"),
        (("a", "b", "c", "c"), "a name is there twice"),
        (("a", "b"), "c is not among the latter; leave the others out"),
    ],
)
def test_other_names_are_refused_with_both_lists(stripes: Dataset, labels: tuple[str, ...], hint: str) -> None:
    with pytest.raises(BadData) as caught:
        matched(stripes, labels, len(labels), "m.pt")
    assert f"the classes of stripes are a, b, c, and those of m.pt {', '.join(labels)}: {hint}" in str(caught.value)


def test_by_index_goes_by_the_order(stripes: Dataset) -> None:
    insisted, (note,) = matched(stripes, ("x", "y", "z"), 3, "m", by_index=True)
    assert "as --by-index says: a as x, b as y, c as z" in note
    assert insisted.classes == ("x", "y", "z")
    assert np.array_equal(insisted.test.labels, stripes.test.labels)
    unnamed, (note,) = matched(stripes, (), 3, "m")
    assert "taken in their order, for m does not name its own: a, b, c" in note
    assert unnamed.classes == stripes.classes
    for classes, message in ((2, "has 3 classes .a, b, c., and m has 2"), (1000, "or insist with --by-index")):
        with pytest.raises(BadData, match=message):
            matched(stripes, (), classes, "m")
    with pytest.raises(BadData, match="m has 2"):
        matched(stripes, ("x", "y"), 2, "m", by_index=True)
    first, _ = matched(stripes, (), 5, "m", by_index=True)
    assert first.classes == ("a", "b", "c", "class 3", "class 4")
    assert matched(stripes, (), None, "m")[0].classes == stripes.classes


def test_passes_refuse_data_whose_classes_are_in_another_order(striped: Model, stripes: Dataset) -> None:
    other = replace(stripes, classes=("c", "b", "a"))
    with pytest.raises(BadData, match="the classes of stripes are c, b, a, and those of the model a, b, c"):
        Finetune(other, Recipe(epochs=1))(striped)
    ordered, _ = fitted(other, striped.architecture, "m")
    assert named(ordered, "test") == named(other, "test")
    split = Images(np.arange(3 * 81, dtype=np.uint8).reshape(3, 1, 9, 9), np.arange(3))
    wide = replace(stripes, train=split, validation=split, test=split)
    with pytest.raises(BadData, match="1x9x9"):
        fitted(wide, striped.architecture, "m")

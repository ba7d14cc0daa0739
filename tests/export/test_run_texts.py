"""Runs of graphs on texts: without the padding that no text of a batch needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.catalogue import CATALOGUE
from tests.networks import fed, images, random_model
from wb.core.errors import BadData, Unsupported
from wb.core.precision import allowed, with_precisions
from wb.core.specs import IDS, MASK
from wb.export.graph import export
from wb.export.run import Runner, unpadded
from wb.hardware.device import Device


@pytest.fixture(scope="module", params=["fp32", "int8"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """A graph of random weights; in int8 it has one range of activations for all tokens of a run."""
    model = random_model(CATALOGUE["text-softmax"])
    able = {group: request.param for group, options in allowed(model.architecture).items() if request.param in options}
    path = tmp_path_factory.mktemp("graph") / f"{request.param}.onnx"
    export(replace(model, architecture=with_precisions(model.architecture, able)), path)
    return Runner(path, Device())


def test_padding_changes_nothing_exactly(run: Runner) -> None:
    """Whatever its ids, as graphs do not see it."""
    feed = fed(images(CATALOGUE["text-softmax"], 4))
    expected = run(feed, 1)
    for filled in (0, 3):
        more = {IDS: np.full((4, 2), filled), MASK: np.zeros((4, 2), np.int64)}
        padded = {name: np.concatenate([values, more[name]], axis=1) for name, values in feed.items()}
        np.testing.assert_array_equal(run(padded, 1), expected)


def test_a_runtime_of_fixed_shapes_is_given_no_texts(run: Runner) -> None:
    device = Device(name="litert", runtime="litert", version="2.0", scores=True)
    with pytest.raises(Unsupported, match="litert runs graphs of fixed shapes, and a text has any number of tokens"):
        Runner(Path(run.what), device)


def test_texts_alone_are_run_at_their_own_length(run: Runner) -> None:
    feed = fed(images(CATALOGUE["text-softmax"], 4))
    one = {name: values[1:2, : int(feed[MASK][1].sum())] for name, values in feed.items()}
    np.testing.assert_array_equal(run(one, 1), run(feed, 1)[1:2])


def test_padding_in_front_is_refused(run: Runner) -> None:
    feed = {IDS: np.ones((2, 3), np.int64), MASK: np.array([[1, 1, 0], [0, 1, 1]])}
    with pytest.raises(BadData, match="padding stands in front of a text, or within it, where it moves the places"):
        run(feed)


def test_only_columns_behind_the_last_token_that_counts_go() -> None:
    mask = np.array([[0, 1, 0, 0], [1, 1, 1, 0]])
    part = {IDS: np.arange(8).reshape(2, 4), MASK: mask, "other": np.arange(4).reshape(2, 2)}
    every = {IDS, MASK, "other"}
    assert {name: values.tolist() for name, values in unpadded(part, every).items()} == {
        IDS: [[0, 1, 2], [4, 5, 6]],
        MASK: [[0, 1, 0], [1, 1, 1]],
        "other": [[0, 1], [2, 3]],
    }
    assert unpadded(part, {IDS, "other"}) == part, "a mask of a fixed length stays"
    assert unpadded({MASK: np.zeros((2, 3), int)}, every)[MASK].shape == (2, 1)

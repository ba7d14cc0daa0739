"""Loss and accuracy on the way between models, against their definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wb.data import Split
from wb.data.split import Images
from wb.fusion.curve import SHARES, Curve, Point, interpolate, point
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.model import Model

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


@pytest.fixture
def split(kit: Kit) -> Split:
    """More than a batch, with labels that mean nothing."""
    labels = np.random.default_rng(0).integers(3, size=150)
    return Images(kit.pictures(150).numpy(), labels)


def curve(*losses: float) -> Curve:
    return Curve([Point(share=i / (len(losses) - 1), loss=loss, accuracy=0) for i, loss in enumerate(losses)])


def test_a_point_is_cross_entropy_and_accuracy(kit: Kit, split: Split) -> None:
    model = kit.single(kit.model())
    found = point(model, split, 0.3)
    logits = kit.run(model, torch.from_numpy(split.images)).numpy()
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(-np.log(chances[range(150), split.labels]).mean(), rel=1e-5)
    assert found.accuracy == (logits.argmax(axis=1) == split.labels).mean()
    assert found.share == 0.3


def test_the_curve_goes_from_the_anchor_to_the_others(kit: Kit, split: Split) -> None:
    models = [kit.single(kit.model(seed=i)) for i in range(2)]
    found = fuse(models, ["a", "b"], Settings(), keep=True)
    steps: list[tuple[int, int]] = []
    result = interpolate(found.between, split, lambda *step: steps.append(step))
    assert tuple(p.share for p in result.points) == SHARES == tuple(i / 10 for i in range(11))
    assert steps == [(i, 11) for i in range(11)]
    for share, model in ((0, models[0]), (5, found.model), (10, models[1])):
        expected = point(model, split, SHARES[share])
        assert result.points[share].loss == pytest.approx(expected.loss, rel=1e-4)


def test_a_curve_between_copies_is_flat(kit: Kit, split: Split) -> None:
    model = kit.model()
    found = fuse([model, kit.turned(model)], ["a", "b"], Settings(), keep=True)

    def single(share: float) -> Model:
        return kit.single(found.between(share))

    assert abs(interpolate(single, split).barrier) < 1e-5


def test_the_barrier_is_the_largest_excess_over_the_line() -> None:
    assert curve(1, 4, 3).barrier == 2
    assert curve(1, 2, 7, 4).barrier == pytest.approx(4)
    assert curve(1, 0, 1).barrier == 0


@given(st.lists(st.floats(0, 10), min_size=2, max_size=11), st.floats(0, 5), st.floats(-5, 5))
def test_a_line_has_no_barrier_and_changes_none(losses: list[float], start: float, slope: float) -> None:
    shares = np.linspace(0, 1, len(losses))
    assert curve(*(start + slope * shares)).barrier == pytest.approx(0, abs=1e-9)
    tilted = curve(*(np.array(losses) + start + slope * shares))
    assert tilted.barrier == pytest.approx(curve(*losses).barrier, abs=1e-9)
    assert curve(*losses).barrier >= 0

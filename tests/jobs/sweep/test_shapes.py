"""Shapes: heads in all stay as many, sizes become alike, and what cannot be is said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.data import Dataset, load
from wb.jobs.sweep.config import AspectConfig, configured
from wb.jobs.sweep.shapes import shapes_of
from wb.models.counting import count_parameters


@pytest.fixture(scope="module")
def listops() -> Dataset:
    return load("listops", limit=40)


@given(heads=st.sampled_from([4, 6, 12, 24]), embed=st.integers(4, 40), hidden=st.integers(1, 80))
def test_heads_stay_as_many_and_attention_as_large_and_sizes_become_alike(
    stripes: Dataset, heads: int, embed: int, hidden: int
) -> None:
    config = AspectConfig(heads=heads, depths=(heads // 2, 2, 1), embed=embed, hidden=hidden)
    deepest, *others = shapes_of(config, stripes)
    assert deepest.depth == max(config.depths)
    assert {shape.depth * shape.heads for shape in (deepest, *others)} == {heads}
    assert [shape.arm for shape in others] == ["heads"] * (len(others) // 2) + ["size"] * (len(others) // 2)
    assert {shape.architecture.stages[0].embed for shape in (deepest, *others)} == {embed}
    wanted = count_parameters(deepest.architecture).value
    for shape in others:
        found = count_parameters(shape.architecture).value
        if shape.arm == "heads":
            # A block less is a feed-forward, two norms, and an output's bias less: projections stay, for heads do.
            assert wanted - found == (deepest.depth - shape.depth) * (2 * embed * hidden + hidden + embed + 5 * embed)
        else:
            assert abs(wanted - found) <= shape.depth * (2 * embed + 1) / 2, "half of what a hidden unit takes"


def test_texts_and_passages_have_their_own_usual_network(listops: Dataset) -> None:
    config = AspectConfig(heads=4, depths=(2, 1))
    encoder = shapes_of(config, listops)[1].architecture
    assert encoder.input.usual_tokens is not None
    assert not encoder.causal
    decoder = shapes_of(config, load("lm", limit=4))
    assert decoder[0].architecture.causal
    assert [shape.name for shape in decoder[:2]] == ["2 x 2", "1 x 4"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 12, "depths": "6,5"}, "12 heads cannot be divided among 5 blocks; choose among 12,6,4,3,2,1"),
        ({"depths": "6,6"}, "6,6 is one depth"),
        ({"depths": "6,x"}, "depths.1: Input should be a valid integer"),
        ({"depths": ""}, "--depths names no depth"),
        ({"heads": 0}, "wrong option: heads"),
        ({"seeds": 0}, "wrong option: seeds"),
        ({"width": 3}, "there is none named 'width'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        configured(options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"preset": "none"}, "no preset 'none'|preset"),
        ({"heads": 1024, "depths": (1024, 1)}, "no network that can be had .*choose fewer --heads"),
    ],
)
def test_shapes_that_cannot_be_are_refused(listops: Dataset, options: dict[str, Any], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        shapes_of(AspectConfig(**options), listops)

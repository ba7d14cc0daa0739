from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.catalogue import CATALOGUE
from tests.networks import hybrid, of_digits
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption
from wb.models.network import skeleton
from wb.models.staged.spans import Span, _sizes, places, spans


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.data())
def test_the_largest_part_is_as_small_as_can_be(costs: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(costs)))
    sizes = _sizes(costs, count)

    def largest(cuts: tuple[int, ...]) -> int:
        return max(sum(costs[a:b]) for a, b in zip((0, *cuts), (*cuts, len(costs)), strict=True))

    cuts = tuple(sum(sizes[:n]) for n in range(1, count))
    assert sum(sizes) == len(costs)
    assert min(sizes) > 0
    assert largest(cuts) == min(map(largest, combinations(range(1, len(costs)), count - 1)))


@pytest.mark.parametrize("a", [hybrid(), of_digits(depth=5), CATALOGUE["text-types"]])
def test_every_parameter_is_of_one_stage(a: Architecture) -> None:
    network = skeleton(a)
    found = spans(a, 2)
    assert [place for span in found for place in span.blocks] == places(a)
    for name, _ in network.named_parameters():
        assert sum(span.owns(network, name) for span in found) == 1, name


def test_more_stages_than_blocks_are_refused() -> None:
    with pytest.raises(BadOption, match="3 stages cannot share 2 blocks; choose from 1 to 2 stages"):
        spans(of_digits(depth=2), 3)
    with pytest.raises(BadOption, match="2 stages cannot share 1 block; a network like this is one stage"):
        spans(of_digits(depth=1), 2)
    with pytest.raises(BadOption, match="0 stages"):
        spans(of_digits(), 0)


def test_blocks_that_are_switched_off_are_of_no_stage() -> None:
    a = of_digits(depth=3).with_blocks(lambda name, block: Block() if name == "s0.b1" else block)
    assert spans(a, 2) == [Span(((0, 0),), True, False), Span(((0, 2),), False, True)]
    assert spans(a, 1)[0].text == "s0.b0 to s0.b2"
    assert spans(a.bare(), 1) == [Span(())]

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.scale.ring.order import order


@given(st.integers(1, 5), st.integers(1, 4))
def test_every_token_is_in_one_process_and_all_see_as_many(count: int, length: int) -> None:
    tokens = 2 * count * length
    found = [order(tokens, rank, count) for rank in range(count)]
    assert sorted(torch.cat(found).tolist()) == list(range(tokens))
    assert len({int(places.sum()) for places in found}) == 1  # of tokens before, in a causal line


def test_tokens_that_do_not_divide_are_refused() -> None:
    with pytest.raises(BadOption, match="a multiple of 6 tokens"):
        order(16, 0, 3)
    assert order(7, 0, 1).tolist() == list(range(7))

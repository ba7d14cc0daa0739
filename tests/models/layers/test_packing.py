from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from wb.models.layers.packing import Packing


@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 3))
def test_tokens_that_count_stand_in_one_row_and_go_back(lengths: list[int], heads: int) -> None:
    longest = max(1, *lengths)
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    packing, x = Packing(mask), torch.randn(len(lengths), longest, heads * 2)
    packed = packing.packed(x)
    assert packed.shape == (1, sum(lengths), heads * 2)
    assert torch.equal(packing.padded(packed), x * mask[..., None])
    headed = packing.headed(packed.unflatten(2, (heads, 2)).transpose(1, 2))
    assert torch.equal(headed, (x * mask[..., None]).unflatten(2, (heads, 2)).transpose(1, 2))
    assert packing.places.tolist() == [[place for length in lengths for place in range(length)]]

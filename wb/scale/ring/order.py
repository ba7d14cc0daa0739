"""Which tokens of a line each process has.

Source: Zhu, "Ring attention with a zigzag order", 2024, https://github.com/zhuzilin/ring-flash-attention: where tokens look back,
the last ones see most, so that each process gets one chunk from the front and its counterpart from the end.
"""

from __future__ import annotations

import torch
from torch import Tensor

from wb.core.errors import BadOption


def order(tokens: int, rank: int, count: int) -> Tensor:
    """The places of the tokens that process `rank` of `count` has, in order: chunks `rank` and `2 · count - 1 - rank`.

    Raises:
        BadOption: the tokens cannot be cut into two chunks for each process.
    """
    if count == 1:
        return torch.arange(tokens)
    if tokens % (2 * count):
        raise BadOption(
            f"{tokens} tokens cannot be spread among {count} processes, each of which has two pieces of the same length; give "
            f"passages of a multiple of {2 * count} tokens (--data lm,length=N:FILE), or another number of processes"
        )
    chunks = torch.arange(tokens).chunk(2 * count)
    return torch.cat([chunks[rank], chunks[2 * count - 1 - rank]])

"""No positions.

Limits: softmax attention without a mask, and a pool over all tokens, then give the same for tokens in any order.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from wb.models.ends import PositionModule


class Nowhere(PositionModule):
    """Nothing is added, and there is no parameter."""

    def reset(self, network: Any) -> None:
        """There is nothing to fill."""

    def placed(self, network: Any, x: Tensor, places: Tensor | None = None) -> Tensor:
        return x

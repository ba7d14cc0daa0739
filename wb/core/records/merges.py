"""What leads from one stage's tokens to the next stage's."""

from __future__ import annotations

from typing import Literal

from wb.core.layout import Layout, Supports
from wb.core.records.base import ConvKept, Part


class Conv2x2(Part):
    """A 2x2 convolution with stride 2: four tokens become one."""

    module = "wb.models.merges.conv:Merge"
    supports = Supports(line=False, prefix=False)
    title = "merging 2x2 tokens"
    source = 'Liu et al., "Swin Transformer", 2021'
    kind: Literal["conv"] = "conv"
    precision: ConvKept = "fp32"

    def layout(self, before: Layout) -> Layout:
        """The tokens of the stage that it begins."""
        rows, columns = before.shape
        return before._replace(shape=(rows // 2, columns // 2))


Merge = Conv2x2  # becomes a union with the second merge

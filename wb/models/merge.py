"""The base of merge modules, which lead from the tokens of one stage to those of the next."""

from __future__ import annotations

from torch import Tensor

from wb.models.operator import PartModule

PREVIOUS = "previous.embed"  # the residual stream that a merge reads; `embed` is the one that it writes


class MergeModule(PartModule):
    """Tokens (B, N, D) -> those of the next stage (B, N', D'). Final subclasses live in one file each."""

    fitted: tuple[str, str]
    """The linear map and its bias; `inputs` gives what it reads."""

    def inputs(self, x: Tensor) -> Tensor:
        """The inputs of the `fitted` map: (B, N, D) -> (B, N', features)."""
        raise NotImplementedError

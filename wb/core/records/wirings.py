"""How the sub-layers of a stage read the residual stream and add to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field

from wb.core.layout import CAUSAL
from wb.core.records.base import Part, is_zero

_PATH = re.compile(r"path(\d+)")  # in the name of a parameter


def path_of(block: int, kind: str) -> int:
    """The number of the path of a sub-layer, a "mixer" or "ffn", in a stage; what comes in is path 0."""
    return 2 * block + (1 if kind == "mixer" else 2)


def with_paths(name: str, numbers: Mapping[int, int]) -> str | None:
    """The name of a wiring's parameter where its paths have those new `numbers`; None if a path of it has none."""
    if any(int(found) not in numbers for found in _PATH.findall(name)):
        return None
    return _PATH.sub(lambda found: f"path{numbers[int(found[1])]}", name)


class Wired(Part):
    """What all wirings have: tokens pass them one by one, on whatever plane."""

    supports = CAUSAL._replace(planes=("tokens", "map"))
    normalised: ClassVar[bool] = False  # leaves the stream behind a norm: the head needs none of its own

    def of_blocks(self, left: Sequence[int]) -> Self:
        """The same for a stage of which the blocks with these numbers are left; the others were switched off."""
        del left
        return self

    def leaves(self, paths: Collection[int]) -> bool:
        """Whether anything leaves a stage that has these paths: 0, what comes in, and one for each sub-layer (`Ensemble`)."""
        del paths
        return True

    def behind(self, paths: int) -> Self:
        """That of a block which is timed or counted alone, and has so many paths of its stage in front of it."""
        del paths
        return self


class Pre(Wired):
    """`x + f(norm(x))`."""

    module = "wb.models.wirings.pre:Pre"
    title = "pre-norm"
    source = 'Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020'
    kind: Literal["pre"] = "pre"


class Post(Wired):
    """`norm(x + f(x))`."""

    module = "wb.models.wirings.post:Post"
    title = "post-norm"
    source = 'Vaswani et al., "Attention Is All You Need", 2017'
    normalised = True
    kind: Literal["post"] = "post"


class Parallel(Wired):
    """`x + mixer(norm1(x)) + ffn(norm2(x))`."""

    module = "wb.models.wirings.parallel:Parallel"
    title = "parallel"
    source = 'Wang and Komatsuzaki, "GPT-J-6B", 2021'
    kind: Literal["parallel"] = "parallel"


class Ladder(Wired):
    """Pre-norm, but a sub-layer reads the stream as it was before the one in front of it added to it.

    With `sequential` the sub-layers of the first block read the stream as it is, as in the published code.
    """

    module = "wb.models.wirings.ladder:Ladder"
    title = "ladder"
    source = (
        'Zhang et al., "Ladder-Residual: Parallelism-Aware Architecture for Accelerating Large Model Inference", 2025'
    )
    kind: Literal["ladder"] = "ladder"
    sequential: bool = False


class Ensemble(Wired):
    """Pre-norm, but what leaves the stage is a sum of its paths, each times a learned factor.

    Path 0 is what came in, path 1 + 2j what the mixer of block j added to the stream, path 2 + 2j what its feed-forward did. The
    first `cut` of them are left out of the sum; the sub-layers behind them read them all the same.
    """

    module = "wb.models.wirings.ensemble:Ensemble"
    title = "path ensemble"
    source = 'Chang et al., "Revisiting Vision Transformer from the View of Path Ensemble", 2023'
    kind: Literal["path_ensemble"] = "path_ensemble"
    cut: Annotated[int, Field(ge=0, le=1024, exclude_if=is_zero)] = 0

    def of_blocks(self, left: Sequence[int]) -> Self:
        blocks = sum(number < (self.cut - 1) // 2 for number in left)
        within = (self.cut - 1) % 2 if (self.cut - 1) // 2 in left else 0
        return self.model_copy(update={"cut": 1 + 2 * blocks + within}) if self.cut else self

    def leaves(self, paths: Collection[int]) -> bool:
        return max(paths) >= self.cut

    def behind(self, paths: int) -> Self:
        return self.model_copy(update={"cut": 0})  # else nothing that the block computes would be used


class Averaged(Wired):
    """Pre-norm, but a sub-layer reads a sum of all that was before, each time with learned factors of its own.

    What was before is what came into the stage and what every earlier mixer and feed-forward gave. Such a sum leaves the stage
    too. `before` is that of blocks that are timed or counted alone: so many tensors, which are alike, were before the first
    sub-layer, and that one reads what came in.
    """

    module = "wb.models.wirings.averaged:Averaged"
    title = "weighted averaging"
    source = (
        'Behrouz, Santacatterina and Zabih, "MambaMixer: Efficient Selective State Space Models with Dual Token and Channel '
        'Selection", 2024'
    )
    kind: Literal["averaged"] = "averaged"
    before: Annotated[int, Field(ge=0, le=4096, exclude_if=is_zero)] = 0

    def behind(self, paths: int) -> Self:
        return self.model_copy(update={"before": max(1, self.before) + paths - 1})


Wiring = Annotated[Pre | Post | Parallel | Ladder | Ensemble | Averaged, Field(discriminator="kind")]

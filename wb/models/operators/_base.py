"""What every operator module is: parameters with named axes, built from a record."""

from __future__ import annotations

import math
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.records import Operator, Precision
from wb.models.axes import Axes
from wb.models.lowbit import low_bit


class Grid(NamedTuple):
    """How the tokens lie: `prefix` tokens without a place (a class token), then rows times columns."""

    rows: int
    columns: int
    prefix: int = 0

    @property
    def tokens(self) -> int:
        """N, the length of the sequence."""
        return self.prefix + self.rows * self.columns


Symmetry = Literal["rotation", "permutation"]


class OperatorModule(nn.Module):
    """Maps tokens (B, N, D) to what is added to them (B, N, D). Final subclasses live in one file each.

    A subclass is built as `Class(record, embed, grid, device)`, lists the axes of every parameter in `axes` by local names
    (`embed` for the residual stream, else the record's field), and can `describe()` itself from its parameters' shapes.
    Every size is a plain number at export, so that the graph contains no shape arithmetic.

    For fusion it says what may be done to its axes without changing the function (`symmetries`; an axis that is not named
    is fixed), which of its weights read the stream, with their biases (`readers`), and which write to it (`writers`:
    weight and bias). An operator without parameters has none of the three, and mixes tokens channel by channel. `between`
    names matrices that do neither; they are kept in the precision of the readers. An operator that `jumps` takes signs of
    sums, so that a rounding error may change its output by more than itself. `untrained` names parameters that no
    gradient reaches: they are found once, from data, and training leaves them as they are.
    """

    axes: ClassVar[dict[str, Axes]]
    symmetries: ClassVar[dict[str, Symmetry]] = {}
    readers: ClassVar[dict[str, str]] = {}
    writers: ClassVar[dict[str, str]] = {}
    between: ClassVar[tuple[str, ...]] = ()
    untrained: ClassVar[tuple[str, ...]] = ()
    jumps: ClassVar[bool] = False
    reads: Precision = "fp32"  # `build_operator` sets what the record says
    writes: Precision = "fp32"

    def kept(self, name: str) -> Tensor:
        """The weight as the network uses it: rounded where its group is kept in one or two bits."""
        weight: Tensor = getattr(self, name)
        return low_bit(weight, self.writes if name in self.writers else self.reads, output_dims(self, name))

    def describe(self) -> Operator:
        """The record of this module, read off its parameters."""
        raise NotImplementedError

    @property
    def additions(self) -> int:
        """Multiply-accumulates per image of which one factor is plus or minus one, so that they are additions."""
        return 0

    def reset(self) -> None:
        """Fills the parameters with initial values, drawn from torch's global generator."""
        raise NotImplementedError

    def hidden(self, x: Tensor) -> Tensor:
        """What the writer reads, its axes flattened in the writer's order: (B, N, D) -> (B, N, F)."""
        raise NotImplementedError

    def written(self, hidden: Tensor) -> Tensor:
        """What the writer makes of that: (B, N, F) -> (B, N, D)."""
        ((weight, bias),) = self.writers.items()
        return F.linear(hidden, self.kept(weight).flatten(1), getattr(self, bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.written(self.hidden(x))


def output_dims(operator: OperatorModule, name: str) -> int:
    """How many leading dimensions of a matrix of `operator` count its outputs."""
    return sum(axis is not None and axis.role == "write" for axis in operator.axes[name]) or 1


def parameter(*shape: int, device: torch.device | str | None) -> nn.Parameter:
    """An uninitialised parameter."""
    return nn.Parameter(torch.empty(*shape, device=device))


def constant(value: Tensor, like: Tensor) -> Tensor:
    """`value` in the type and on the device of `like`, converted before it moves: not every device knows float64."""
    return value.to(like.dtype).to(like.device)


def uniform_(weight: Tensor, fan_in: int) -> None:
    """What `nn.Linear` starts with: uniform in ±1/√fan_in."""
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)


def project(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Per-head projection: x (B, N, D), weight (H, K, D), bias (H, K) -> (B, H, N, K)."""
    heads, channels, _ = weight.shape
    y = F.linear(x, weight.flatten(0, 1), bias.flatten())  # (B, N, H*K)
    tokens = int(x.shape[1])  # an exporter would trace it, and compute it again in every graph
    return y.reshape(-1, tokens, heads, channels).transpose(1, 2)


def join_heads(y: Tensor) -> Tensor:
    """(B, H, N, V) -> (B, N, H*V)."""
    heads, tokens, channels = (int(size) for size in y.shape[1:])
    return y.transpose(1, 2).reshape(-1, tokens, heads * channels)

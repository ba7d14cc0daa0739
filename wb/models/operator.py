"""What every operator module is: parameters with named axes, declared one by one and built from a record."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Operator, Precision, Weighted
from wb.models.axes import Axes, Axis, Map, read, write
from wb.models.lowbit import low_bit
from wb.models.tensors import parameter, uniform_

Symmetry = Literal["rotation", "permutation"]


class Context(NamedTuple):
    """What one run knows beside its tokens. The network makes it once and hands it to every sub-layer."""

    mask: Tensor | None = None
    """(B, N), true at the tokens that count; None: all do."""
    visible: Tensor | None = None
    """(B or 1, 1, N, N), true where the token of a row may look at that of a column; None: everywhere."""


NOTHING = Context()


class PartModule(nn.Module):
    """A module that declares the axes of each of its parameters where it creates it; `axes` has them by local names.

    `embed` is the residual stream; other axes are called like the fields of the record, and `sizes` knows them all.
    """

    axes: dict[str, Axes]
    _declared: Mapping[str, Any]
    _device: torch.device | str | None

    def __init__(self, sizes: Mapping[str, Any], device: torch.device | str | None = None) -> None:
        super().__init__()
        # Past torch's own checks of names and types, here and in `holds`: skeletons are built by the thousand.
        vars(self).update(axes={}, _declared=sizes, _device=device)

    def holds(self, name: str, *axes: Axis | str | int) -> None:
        """Creates a parameter. A dimension is an axis, the name of one that it writes, or a fixed size."""
        shape: list[int] = []
        named: list[Axis | None] = []
        for axis in axes:
            if isinstance(axis, int):
                named.append(None)
                shape.append(axis)
            else:
                on = write(axis) if isinstance(axis, str) else axis
                named.append(on)
                shape.append(self._declared[on.name])
        self.axes[name] = tuple(named)
        self._parameters[name] = parameter(*shape, device=self._device)

    @property
    def sizes(self) -> dict[str, int]:
        """The size of every axis, read off the parameters."""
        return {
            axis.name: size
            for name, axes in self.axes.items()
            for axis, size in zip(axes, getattr(self, name).shape, strict=True)
            if axis is not None
        }

    def reset(self) -> None:
        """Fills the parameters with initial values, drawn from torch's global generator."""
        raise NotImplementedError


class OperatorModule(PartModule):
    """Maps tokens (B, N, D) to what is added to them (B, N, D). Final subclasses live in one file each.

    A subclass is built as `Class(record, embed, layout, device)` and declares its parameters in the order of execution:
    `reads` (weights on the residual stream, with their biases), `between` (matrices that neither read nor write the
    stream), `writes` (weights whose rows are the stream), `holds` (anything else). From that follow axes, `describe`,
    initial values, the groups that share a precision, and what pruning and fusion may do. Then it says in `hidden` what
    the writer reads. An operator without a writer replaces `forward`; it mixes tokens channel by channel.

    `symmetries` says what may be done to an axis without changing the function (an axis that is not named is fixed). An
    operator that `jumps` takes signs of sums, so that a rounding error may change its output by more than itself.
    Every size is a plain number at export, so that the graph contains no shape arithmetic.
    """

    symmetries: Mapping[str, Symmetry] = {}
    jumps: ClassVar[bool] = False

    record: Operator
    layout: Layout
    readers: dict[str, str | None]
    """Weights that read the stream -> their biases."""
    writers: dict[str, str | None]
    """Weights that write to the stream -> their biases."""
    inner: list[str]
    """Weights that read the stream or stand between, in order of execution; they share a precision."""
    outputs: dict[str, int]
    """How many leading dimensions of each linear map count its outputs."""
    constants: list[str]
    """Parameters that no gradient reaches: they are found once, from data, and training leaves them as they are."""

    def __init__(self, record: Operator, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__({**vars(record), "embed": embed}, device)
        vars(self).update(record=record, layout=layout, readers={}, writers={}, inner=[], outputs={}, constants=[])

    def reads(self, weight: str, bias: str | None, *axes: Axis | str | int) -> None:
        """Declares a weight (*axes, embed) that reads the stream, and its bias (*axes)."""
        self.holds(weight, *axes, read("embed"))
        self.readers[weight], self.outputs[weight] = bias, len(axes)
        self.inner.append(weight)
        if bias is not None:
            self.holds(bias, *axes)

    def writes(self, weight: str, bias: str | None, *axes: str | int) -> None:
        """Declares a weight (embed, *axes) that writes to the stream what it reads from `axes`, and its bias (embed)."""
        self.holds(weight, "embed", *(read(axis) if isinstance(axis, str) else axis for axis in axes))
        self.writers[weight], self.outputs[weight] = bias, 1
        if bias is not None:
            self.holds(bias, "embed")

    def between(self, weight: str, *axes: Axis | str | int) -> None:
        """Declares a matrix that neither reads nor writes the stream; its leading written axes count its outputs."""
        self.holds(weight, *axes)
        self.outputs[weight] = sum(axis is not None and axis.role == "write" for axis in self.axes[weight]) or 1
        self.inner.append(weight)

    def holds(self, name: str, *axes: Axis | str | int, trained: bool = True) -> None:
        """Declares a parameter that is no linear map: positions, tables. Without `trained` it is one of the `constants`."""
        super().holds(name, *axes)
        if not trained:
            self.constants.append(name)

    def kept(self, name: str) -> Tensor:
        """The weight as the network uses it: rounded where its group is kept in one or two bits."""
        weight: Tensor = getattr(self, name)
        return low_bit(weight, self.precision(name), self.outputs[name])

    def precision(self, name: str) -> Precision:
        """What the weight of a linear map is kept in."""
        if not isinstance(self.record, Weighted):
            return "fp32"
        return self.record.writes if name in self.writers else self.record.reads

    def bias(self, weight: str) -> Tensor | None:
        """The bias beside a weight that reads or writes the stream; None where it has none."""
        name = self.readers[weight] if weight in self.readers else self.writers[weight]
        return None if name is None else getattr(self, name)

    def settle(self) -> None:
        """Rounds binary and ternary weights in place, once and for all; the record then says fp32."""
        if isinstance(self.record, Weighted):
            for name in (*self.inner, *self.writers):
                getattr(self, name).copy_(self.kept(name))
            self.record = self.record.model_copy(update={"reads": "fp32", "writes": "fp32"})

    def describe(self) -> Operator:
        """The record of this module: its widths read off the parameters."""
        return self.record.model_copy(update={name: size for name, size in self.sizes.items() if name != "embed"})

    @property
    def additions(self) -> int:
        """Multiply-accumulates per image of which one factor is plus or minus one, so that they are additions."""
        return 0

    @property
    def convex(self) -> bool:
        """Whether what the writer reads is an average of values, so that their biases may move behind it."""
        return False

    @property
    def idle(self) -> tuple[str, ...]:
        """Biases that never change the output: those of a softmax's keys, which add the same to all scores of a row."""
        return ()

    @property
    def factors(self) -> Mapping[str, float]:
        """How parameters share the record's `factor`: what each is multiplied by when the record becomes its `unit()`."""
        return {}

    def converted(self, axis: str, old: int, new: int) -> Map:
        """What brings an axis that is `fitted` (`wb.core.records.Dim`) to another size: the old coefficients by new ones."""
        raise NotImplementedError

    def reset(self) -> None:
        """Linear maps uniform in ±1/√(size of what they read), in order of execution, everything else zero."""
        for name in (*self.inner, *self.writers):
            uniform_(getattr(self, name), self.fan_in(name))
        for name in self.axes:
            if name not in self.outputs:
                nn.init.zeros_(getattr(self, name))

    def fan_in(self, name: str) -> int:
        """How many numbers are summed up in one output of a linear map."""
        return prod(getattr(self, name).shape[self.outputs[name] :])

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """What the writer reads, its axes flattened in the writer's order: (B, N, D) -> (B, N, F)."""
        raise NotImplementedError

    def written(self, hidden: Tensor) -> Tensor:
        """What the writer makes of that: (B, N, F) -> (B, N, D)."""
        (weight,) = self.writers
        return F.linear(hidden, self.kept(weight).flatten(1), self.bias(weight))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.written(self.hidden(x, context))

"""The base of operator modules: parameters with named axes, declared one by one and built from a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records import Convolved, Filtered, Operator, Precision, Weighted
from wb.models.axes import Axes, Axis, Map, read, side, write
from wb.models.layers.lowbit import low_bit
from wb.models.layers.packing import Packing
from wb.models.layers.tensors import parameter, uniform_
from wb.scale.ring.attention import Spread

Symmetry = Literal["rotation", "permutation"]


class Context(NamedTuple):
    """Further inputs of one run beside its tokens. The network makes it once and passes it to every sub-layer."""

    mask: Tensor | None = None
    """(B, N), true at the tokens that count; None: all tokens count."""
    visible: Tensor | None = None
    """(B or 1, 1, N or 1, N), true where the row's token may attend to the column's; None: everywhere."""
    dropout: float = 0.0
    """The share of what a sub-layer contributes that is dropped, in training."""
    places: Tensor | None = None
    """(B or 1, N), the place of each token in its text, where others were seen before or are elsewhere; None: from 0 on."""
    spread: Spread | None = None
    """How the tokens are spread among processes, of which this one has N; None: all are here."""
    packing: Packing | None = None
    """Where the tokens that count stand in padded lines, if operators are given those alone, (1, T, D); None: (B, N, D)."""

    @property
    def keys(self) -> Tensor | None:
        """The mask as keys and values of attention have it, (B, 1, N, 1)."""
        return None if self.mask is None else self.mask[:, None, :, None]


NOTHING = Context()


class PartModule(nn.Module):
    """A module that declares the axes of each parameter when it creates it; `axes` has them by local names.

    `embed` is the residual stream; other axes have the names of the record's fields. `sizes` has the size of each axis.
    `symmetries` says by what an axis may be transformed without changing the function (an axis that is not named is fixed).
    """

    symmetries: Mapping[str, Symmetry] = {}
    stream: ClassVar[Symmetry] = "rotation"
    """By what the residual streams that the part lies on may be transformed, once the norm in front of it is folded."""
    averaged: tuple[str, ...] = ()
    """Axes over whose entries it takes statistics: dropping some of them then changes what becomes of the others."""
    axes: dict[str, Axes]
    looked_up: ClassVar[tuple[str, ...]] = ()
    """Parameters that are tables, not linear maps."""
    constants: list[str]
    """Parameters without gradient: they are determined once, from data, and training does not change them."""
    statistics: list[str]
    """Those of the constants that any training images determine: they are found anew for every network, not shared."""
    _declared: Mapping[str, Any]
    _device: torch.device | str | None

    def __init__(self, sizes: Mapping[str, Any], device: torch.device | str | None = None) -> None:
        super().__init__()
        # Bypasses torch's checks of names and types, here and in `holds`, because skeletons are built by the thousand.
        vars(self).update(axes={}, constants=[], statistics=[], _declared=sizes, _device=device)

    def holds(self, name: str, *axes: Axis | str | int, trained: bool = True) -> None:
        """Creates a parameter. Each dimension is an axis, the name of an axis that it writes, or a fixed size.

        With `trained=False` it is one of the `constants`.
        """
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
        if not trained:
            self.constants.append(name)

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
    """An operator: tokens (B, N, D) -> its contribution (B, N, D). Final subclasses live in one file each.

    In a stage whose plane is a map it is given (B, D, rows, columns), and gives that.

    A subclass is built as `Class(record, embed, layout, device)` and declares its parameters in order of execution:
    `reads` (weights on the residual stream, with their biases), `between` (matrices that neither read nor write the
    stream), `filters_of` (a filter for each channel), `writes` (weights whose rows are the stream), `holds` (anything else).
    Axes, `describe`, initial values, the groups that share a precision, and what pruning and fusion may do follow from that.
    `hidden` computes the input of the writer. An operator without a writer overrides `forward`; it mixes tokens channel by
    channel.

    An operator that `jumps` is discontinuous, as it takes signs of sums: a rounding error may change its output by more than
    itself. Every size is a plain number at export, so that the graph contains no shape arithmetic.
    """

    jumps: ClassVar[bool] = False
    plain: ClassVar[bool] = True
    """Whether its readers see its input as it is, token by token; otherwise `entering` makes what they see."""
    spreads: ClassVar[bool] = False
    """Whether it computes with some of the tokens, and what `Context.spread` brings of the others. One that `recalls` nothing,
    and so computes each token by itself in causal layouts, need not say so."""
    packs: ClassVar[bool] = False
    """Whether it takes the tokens that count of several lines one behind the other, and `Context.packing` tells it where they
    stand. One that computes each token by itself (`alone`) need not say so."""
    divides: ClassVar[str | None] = None
    """The axis whose entries know nothing of each other before the writer adds up what they make, and whose size no default of
    the record depends on: processes may have some of them each. None if there is no such axis."""
    carries = False
    """Whether its output is the stream behind it, not only what it contributes (`carry`)."""

    record: Operator
    layout: Layout
    readers: dict[str, str | None]
    """Weights that read the stream -> their biases."""
    writers: dict[str, str | None]
    """Weights that write to the stream -> their biases."""
    inner: list[str]
    """Weights that read the stream or lie between, in order of execution; they share a precision."""
    outputs: dict[str, int]
    """Number of leading dimensions of each linear map that are its outputs."""

    def __init__(self, record: Operator, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__({**vars(record), "embed": embed}, device)
        vars(self).update(record=record, layout=layout, readers={}, writers={}, inner=[], outputs={})

    def carry(self) -> None:
        """Takes the stream that it reads into its weights, in place and for good, if it can: one addition less in a graph."""

    def reads(self, weight: str, bias: str | None, *axes: Axis | str | int) -> None:
        """Declares a weight (*axes, embed) that reads the stream, and its bias (*axes)."""
        self.holds(weight, *axes, read("embed"))
        self.readers[weight], self.outputs[weight] = bias, len(axes)
        self.inner.append(weight)
        if bias is not None:
            self.holds(bias, *axes)

    def convolves(self, weight: str, axis: str) -> None:
        """Declares dense square filters (axis, embed, side, side) that read the stream, without a bias."""
        self.holds(weight, axis, read("embed"), side("kernel"), side("kernel"))
        self.readers[weight], self.outputs[weight] = None, 1
        self.inner.append(weight)

    def writes(self, weight: str, bias: str | None, *axes: str | int) -> None:
        """Declares a weight (embed, *axes) that reads `axes` and writes to the stream, and its bias (embed)."""
        self.holds(weight, "embed", *(read(axis) if isinstance(axis, str) else axis for axis in axes))
        self.writers[weight], self.outputs[weight] = bias, 1
        if bias is not None:
            self.holds(bias, "embed")

    def between(self, weight: str, *axes: Axis | str | int) -> None:
        """Declares a matrix that neither reads nor writes the stream; its leading written axes are its outputs."""
        self.holds(weight, *axes)
        self.outputs[weight] = sum(axis is not None and axis.role == "write" for axis in self.axes[weight]) or 1
        self.inner.append(weight)

    def filters_of(self, name: str, axis: str) -> None:
        """Declares one square filter for every channel on `axis`."""
        self.holds(name, axis, 1, side("kernel"), side("kernel"))
        self.outputs[name] = 1
        self.inner.append(name)

    def kept(self, name: str) -> Tensor:
        """The weight as the network uses it: rounded if its group has one or two bits."""
        weight: Tensor = getattr(self, name)
        return low_bit(weight, self.precision(name), self.outputs[name])

    def precision(self, name: str) -> Precision:
        """The precision of a linear map's weight."""
        if isinstance(self.record, Weighted | Convolved) and name in self.writers:
            return self.record.writes
        return self.record.reads if isinstance(self.record, Weighted | Filtered) else "fp32"

    def bias(self, weight: str) -> Tensor | None:
        """The bias of a weight that reads or writes the stream; None if it has none."""
        name = self.readers[weight] if weight in self.readers else self.writers[weight]
        return None if name is None else getattr(self, name)

    def tokens(self, x: Tensor) -> int:
        """N of x (B, N, ...): a plain number, so that graphs do not compute it again, unless runs differ in it."""
        return x.shape[1] if self.layout.dynamic else int(x.shape[1])

    def times(self, name: str) -> int:
        """How often a linear map is used for one example: once for every token, where nothing else is said."""
        del name
        return self.layout.tokens

    @property
    def inside(self) -> tuple[str, ...]:
        """Weights that lead from the stream behind norms of the operator's own, and so are no `readers`."""
        return ()

    @property
    def scaling(self) -> tuple[str, ...]:
        """The parameters on the stream that all that the operator gives is proportional to; none if there are no such."""
        return tuple(name for pair in self.writers.items() for name in pair if name is not None)

    @property
    def silencing(self) -> tuple[str, ...]:
        """The parameters that are zero where the operator gives nothing, whatever else it has."""
        return self.scaling

    def entering(self, x: Tensor) -> Tensor:
        """What its readers see of its input, in tokens: (B, N, D) -> (B, N, D)."""
        return x

    def reader_outputs(self, x: Tensor) -> dict[str, Tensor]:
        """What each reader makes of the operator's input: local name -> (..., D) to (..., its other axes flattened)."""
        return self.read_off(self.entering(x))

    def read_off(self, x: Tensor) -> dict[str, Tensor]:
        """What each reader makes of what it sees: local name -> (..., D) to (..., its other axes flattened)."""
        found = {}
        for name in self.readers:
            bias = self.bias(name)
            weight: Tensor = getattr(self, name)
            found[name] = F.linear(x, weight.flatten(0, -2), None if bias is None else bias.flatten())
        return found

    def settle(self) -> None:
        """Rounds binary and ternary weights in place for good; the record says fp32 afterwards."""
        if isinstance(self.record, Weighted):
            for name in (*self.inner, *self.writers):
                getattr(self, name).copy_(self.kept(name))
            self.record = self.record.model_copy(update={"reads": "fp32", "writes": "fp32"})

    def describe(self) -> Operator:
        """The record of this module, with widths read off the parameters."""
        fields = type(self.record).model_fields
        return self.record.model_copy(update={name: size for name, size in self.sizes.items() if name in fields})

    @property
    def additions(self) -> int:
        """Multiply-accumulates per image with a factor of plus or minus one, which are only additions."""
        return 0

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """What it keeps of the tokens before (`continued`), in causal layouts: name -> shape for one example.

        A dimension called `wb.core.specs.PAST` has as many as there were tokens. Without any, each token is computed by itself.
        """
        return {}

    @property
    def alone(self) -> bool:
        """Whether it computes each token of a line by itself."""
        return self.record.supports.causal == "yes" and not self.recalls

    @property
    def convex(self) -> bool:
        """Whether the weights by which values are averaged sum to one (softmax rows), so that value biases may move behind."""
        return False

    @property
    def idle(self) -> tuple[str, ...]:
        """Biases that never change the output: softmax key biases add the same number to all scores of a row."""
        return ()

    @property
    def factors(self) -> Mapping[str, float]:
        """Parameter -> its factor when the record's `factor` is absorbed into the weights and the record becomes its `unit()`."""
        return {}

    def converted(self, axis: str, old: int, new: int) -> Map:
        """The map that resizes a `fitted` axis (`wb.core.records.Dim`): old coefficients from new ones."""
        raise NotImplementedError

    def reset(self) -> None:
        """Initial values: linear maps uniform in ±1/√fan_in, in order of execution; everything else zero."""
        for name in (*self.inner, *self.writers):
            uniform_(getattr(self, name), self.fan_in(name))
        for name in self.axes:
            if name not in self.outputs:
                nn.init.zeros_(getattr(self, name))

    def fan_in(self, name: str) -> int:
        """Number of inputs that are summed in one output of a linear map."""
        return prod(getattr(self, name).shape[self.outputs[name] :])

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """The input of the writer, its axes flattened in the writer's order: (B, N, D) -> (B, N, F)."""
        raise NotImplementedError

    def written(self, hidden: Tensor) -> Tensor:
        """The output of the writer: (B, N, F) -> (B, N, D)."""
        (weight,) = self.writers
        return F.linear(hidden, self.kept(weight).flatten(1), self.bias(weight))

    def forward(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        return self.written(self.hidden(x, context))

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What it gives for further tokens (B, N, D) behind a `past` (of the shapes in `recalls`), and the past behind them.

        In `context`, `visible` has a column for each token of the past too. One token after the other gives what all together
        give.
        """
        return self(x, context), ()

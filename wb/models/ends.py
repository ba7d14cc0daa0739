"""What the parts at the two ends of a network are, whose parameters are the network's own: positions and heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from wb.core.layout import Layout
from wb.core.records import Head, Part, Position
from wb.models.axes import Axes, Axis, write
from wb.models.layers.tensors import parameter

R = TypeVar("R", bound=Part)


class End(Generic[R]):
    """A part that keeps its parameters in the network itself, under names without a dot, as files have had them from the first.

    It holds no network: whoever calls it hands it one, so that it sees the weights that are there at the time. `axes` has
    the axes of its parameters by name; `embed` is the residual stream at this end. `constants` are the parameters without
    gradient: training does not change them.
    """

    def __init__(self, record: R) -> None:
        self.record = record
        self.axes: dict[str, Axes] = {}
        self.constants: list[str] = []

    def holds(
        self,
        network: nn.Module,
        name: str,
        *dimensions: tuple[Axis | str | None, int],
        device: torch.device | str | None = None,
        trained: bool = True,
    ) -> None:
        """Creates a parameter of the network. Each dimension is an axis or the name of one that it writes, and its size.

        With `trained=False` it is one of the `constants`; whoever computes with it detaches it.
        """
        self.axes[name] = tuple(write(axis) if isinstance(axis, str) else axis for axis, _ in dimensions)
        network.register_parameter(name, parameter(*(size for _, size in dimensions), device=device))
        if not trained:
            self.constants.append(name)

    def reset(self, network: Any) -> None:
        """Fills the parameters with initial values, drawn from torch's global generator."""
        raise NotImplementedError


class PositionModule(End[Position]):
    """Tells tokens apart by their place. Final subclasses live in one file each."""

    def __init__(
        self,
        record: Position,
        network: nn.Module,
        embed: int,
        layout: Layout,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(record)

    def moved(self, network: Any, by: Tensor) -> None:
        """Adds `by` (N, D) to every token from now on. Positions that are not trained stay as they are."""

    def settle(self, network: Any) -> None:
        """Computes what does not depend on images once and for all: a graph of the network has the result."""

    def placed(self, network: Any, x: Tensor, places: Tensor | None = None) -> Tensor:
        """The tokens with their places: (B, N, D) -> (B, N, D). `places` (B, N) are those in a text; None: from 0 on."""
        raise NotImplementedError


class HeadModule(End[Head]):
    """Answers the task from the tokens of the last stage. Final subclasses live in one file each."""

    readers: dict[str, str | None]
    """Weights that read the stream, with the last norm in front of them -> their biases."""

    @property
    def maps(self) -> dict[str, str | None]:
        """All its linear maps -> their biases, in order of execution."""
        return self.readers

    @property
    def answers(self) -> dict[str, str | None]:
        """The last of its linear maps, which give the outputs -> their biases."""
        return self.readers

    def __init__(
        self, record: Head, network: nn.Module, embed: int, layout: Layout, device: torch.device | str | None = None
    ) -> None:
        super().__init__(record)

    def pooled(self, x: Tensor, norm: Callable[[Tensor], Tensor] | None, mask: Tensor | None = None) -> Tensor:
        """What its linear map reads of the stream: (B, N, D) -> (B, ..., D).

        `norm` is the network's last, None without one; `mask` (B, N) is true at the tokens that count, None if all do.
        """
        raise NotImplementedError

    def outputs(self, network: Any, pooled: Tensor) -> Tensor:
        """What the network gives for what it has pooled."""
        raise NotImplementedError

    def seen(self, pooled: Tensor, weight: str) -> Tensor:
        """What one of the `readers` reads of what is pooled: (B, ..., D) -> (B, D)."""
        return pooled

    def answered(self, network: Any, pooled: Tensor, weight: str) -> Tensor:
        """What one of the `readers` gives for what is pooled."""
        raise NotImplementedError

    def before(self, network: Any, pooled: Tensor, weight: str) -> Tensor:
        """What one of the `answers` is given, of what is pooled."""
        return self.seen(pooled, weight)

    def settle(self, network: Any) -> None:
        """Rounds binary and ternary weights in place, once and for all; the record then says fp32."""
        raise NotImplementedError

    def describe(self, network: Any) -> Head:
        """The record of this head: its sizes read off the parameters."""
        raise NotImplementedError

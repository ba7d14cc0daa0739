"""A network that is fitted, and its parents, run over the same images side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from wb.models.axes import Axis, write
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.walk import State, Sublayer
from wb.training.refit.fits import Fit, Moments, Outputs, Ridge, total
from wb.training.refit.joins import joins_folded
from wb.training.refit.lane import Lane
from wb.training.refit.trace import cut, network_of

ROWS = 24_576  # a map is fitted on at most so many tokens
Method = Literal["regress", "writers", "repair"]
Report = Callable[[int, int], None]


class Beside:
    """What a walk through all of them shares: states by batch, the tokens that are fitted on, and targets."""

    def __init__(
        self,
        model: Model,
        parents: Sequence[Lane],
        images: Tensor,
        method: Method = "regress",
        *,
        ridge: float,
        seed: int = 0,
        report: Report | None = None,
    ) -> None:
        model = joins_folded(model)  # what is fitted is then what is added
        self.model, self.method, self.ridge, self.report = model, method, ridge, report
        self.network = network_of(replace(model, weights={name: w.clone() for name, w in model.weights.items()}))
        self.axes = axes_of(self.network)
        self.lanes = parents
        dtype = next(self.network.parameters()).dtype
        self.batches = [part.to(dtype) if part.is_floating_point() else part for part in cut(images)]
        self.states: list[State] = []
        self.rows: list[Tensor] = []  # the tokens of each batch that are fitted on
        self.generator = torch.Generator().manual_seed(seed)

    @property
    def fits(self) -> bool:
        """Whether maps are fitted, not only moments restored."""
        return self.method != "repair"

    def _wanted(self, batch: int, stage: int) -> Tensor:
        """The mean of the tokens that the parents begin a stage with: (B, N, D)."""
        axes = (write(f"s{stage}.embed"),)
        return total(
            [
                (lane.share, lane.mapped(x.flatten(0, 1), axes).unflatten(0, x.shape[:2]))
                for lane in self.lanes
                for x in [lane.entered[batch]]
            ]
        )

    def _entered(self, stage: int, batch: int, rows: Tensor) -> tuple[Outputs, float]:
        """The same at some places: (rows, D)."""
        return [(1.0, self._wanted(batch, stage).flatten(0, 1)[rows])], 0.0

    def _mapped(self, streams: Sequence[Iterable[Tensor]], stage: int) -> list[Outputs]:
        """By batch, the parents' `streams` at the chosen tokens, with their shares: (rows, D)."""
        axes = (write(f"s{stage}.embed"),)
        mapped = [
            [(lane.share, lane.mapped(self._picked(x, i), axes)) for i, x in enumerate(own)]
            for lane, own in zip(self.lanes, streams, strict=True)
        ]
        return [list(batch) for batch in zip(*mapped, strict=True)]

    def _counted(self, sublayer: Sublayer, reader: str) -> bool:
        """Whether `repair` restores this reader's outputs: those that are hidden units, not those within heads."""
        axes = [axis for axis in self.axes[f"{sublayer.prefix}.{reader}"][:-1] if isinstance(axis, Axis)]
        return len(axes) == 1

    def _fit(self, weight: Tensor, bias: Tensor | None) -> Fit:
        return Ridge(weight, bias, self.ridge) if self.fits else Moments(weight, bias)

    def _draw(self) -> None:
        """Chooses the random tokens of this stage to fit on, among those that count."""
        lane = self.lanes[0]
        masks = [state.context.mask for state in lane.states]
        places = [
            torch.arange(x.shape[0] * x.shape[1]) if mask is None else mask.flatten().nonzero()[:, 0]
            for x, mask in zip(lane.streams, masks, strict=True)
        ]
        share = min(1.0, ROWS / sum(map(len, places)))
        self.rows = [
            own[torch.randperm(len(own), generator=self.generator)[: max(1, round(share * len(own)))]] for own in places
        ]

    def _seen(self, at: Sublayer, state: State, batch: int) -> Tensor:
        """What the readers of a sub-layer see at the chosen tokens: (rows, D)."""
        if not (at.operator.plain and at.norm.local):  # tokens are looked at together
            return self._picked(at.operator.entering(at.read(state)), batch)
        some = State(
            self._picked(state.stream, batch), state.stage, tuple(self._picked(x, batch) for x in state.memory)
        )
        return at.read(some)

    def _picked(self, x: Tensor, batch: int) -> Tensor:
        """The chosen tokens of (B, N, ·): (rows, ·)."""
        return x.flatten(0, 1)[self.rows[batch]]

"""Correction of an average with unlabelled images: it is fitted to its aligned parents (`wb.training.refit.correct`).

Source: Jin et al., "Dataless Knowledge Fusion by Merging Weights of Language Models" (RegMean), 2023,
https://arxiv.org/abs/2212.09849; Jordan et al., "REPAIR", 2023, https://arxiv.org/abs/2211.08403.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from wb.fusion.fit.merge import Aligned
from wb.fusion.match.placed import runs
from wb.fusion.settings import RIDGE
from wb.models.model import Model
from wb.training.refit.beside import Method, Report
from wb.training.refit.correct import Correction
from wb.training.refit.lane import Lane
from wb.training.refit.trace import network_of


def correct(
    average: Model,
    parents: Sequence[Aligned],
    shares: Sequence[float],
    images: Tensor,
    method: Method = "regress",
    *,
    ridge: float = RIDGE,
    seed: int = 0,
    report: Report | None = None,
) -> Model:
    """`average`, fitted to the true parents on `images` (n, channels, height, width); all in canonical form."""
    lanes = [_lane(parent, share, average) for parent, share in zip(parents, shares, strict=True) if share > 0]
    return Correction(average, lanes, images, method, ridge=ridge, seed=seed, report=report)()


def _lane(parent: Aligned, share: float, average: Model) -> Lane:
    placed = parent.parent
    starts, groups = runs(placed, average)
    return Lane(share, network_of(placed.model), parent.maps, placed.sublayers, groups, starts)

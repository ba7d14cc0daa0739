"""Whole sub-layers go in one order, which is found once."""

from __future__ import annotations

import pytest

from wb.compress.depth.drop import DropLayers, removed
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import Pruned
from wb.compress.nvit.settings import Settings
from wb.compress.prune.cutter import Layers
from wb.core.errors import BudgetMissed
from wb.data import Dataset
from wb.models.model import Model


def test_drops_that_were_seen_are_not_looked_for_again(
    striped: Model, stripes: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    effects = DropLayers._effects

    def counted(self: DropLayers, model: Model, *rest: object) -> dict[str, float]:
        searched.append(len(model.weights))
        return effects(self, model, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(DropLayers, "_effects", counted)
    costs = costs_of(["macs"], striped.architecture, None)
    full = costs["macs"](striped.architecture)
    cutter = Layers(Settings(calibration=32), striped, stripes, costs)
    gone = {}
    for share in (0.7, 0.4, 0.7, 0.45):
        model = cutter.cut(Pruned(striped), {"macs": share * full}).model
        gone[share] = removed(striped.architecture, model.architecture)
        assert costs["macs"](model.architecture) <= share * full
        assert set(model.history[-1].arguments["dropped"]) == set(gone[share])  # type: ignore[arg-type]
    assert set(gone[0.7]) < set(gone[0.4])
    assert set(gone[0.45]) <= set(gone[0.4])
    assert len(searched) == len(gone[0.4]), "one look for every drop"
    for _ in range(2):
        with pytest.raises(BudgetMissed, match=r"sub-layers are dropped"):
            cutter.cut(Pruned(striped), {"macs": 0.0})

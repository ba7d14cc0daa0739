"""Parents that nobody is the measure of."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from wb.core.architecture import resize
from wb.fusion.align import universe
from wb.fusion.align.align import Aligner, Alignment
from wb.fusion.align.universe import settle
from wb.fusion.fit.merge import Aligned, merge
from wb.fusion.forms.canonical import canonical
from wb.fusion.match.placed import Placed, place
from wb.models.model import Model

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit


def align(placed: Placed, reference: Model) -> Alignment:
    return Aligner(placed, reference)()


def begun(models: list[Model]) -> tuple[list[Aligned], list[Alignment]]:
    """All on the axes of the first, in canonical form."""
    forms = [canonical(model) for model in models]
    placed = [place(form, forms[0], ((0, 1),)) for form in forms]
    alignments = [align(one, forms[0]) for one in placed]
    return [Aligned(one, a.maps) for one, a in zip(placed, alignments, strict=True)], alignments


def spread(reference: Model, parents: list[Aligned]) -> float:
    """The sum of squared distances to the mean."""
    mean = merge(reference, parents, [1 / len(parents)] * len(parents))
    return sum(
        float((weight - mean.weights[name]).square().sum())
        for parent in parents
        for name in mean.weights
        if (weight := parent.weight(name)) is not None
    )


def test_parents_come_nearer_to_their_mean(kit: Kit) -> None:
    parents, _ = begun([kit.model(seed=i) for i in range(4)])
    reference = parents[0].parent.model
    found, alignments = settle(reference, parents, [0.25] * 4, align)
    assert spread(reference, found) < spread(reference, parents)
    assert all(alignment is not None for alignment in alignments)
    for before, after in zip(parents, found, strict=True):
        kit.same(merge(reference, [before], [1.0]), merge(reference, [after], [1.0]))


def test_copies_stay_together(kit: Kit) -> None:
    model = kit.model()
    parents, _ = begun([kit.turned(model, i) for i in range(3)])
    reference = parents[0].parent.model
    found, alignments = settle(reference, parents, [0.2, 0.3, 0.5], align)
    kit.same(merge(reference, found, [0.2, 0.3, 0.5]), model)
    assert all(cost < 1e-12 for a in alignments if a is not None for cost in a.costs.values())


def test_one_with_all_of_the_weight_stays_and_the_others_go_to_it(kit: Kit) -> None:
    parents, _ = begun([kit.model(seed=i) for i in range(3)])
    seen: list[Model] = []

    def spy(placed: Placed, reference: Model) -> Alignment:
        seen.append(reference)
        return align(placed, reference)

    found, alignments = settle(parents[0].parent.model, parents, [0.0, 1.0, 0.0], spy)
    assert alignments[1] is None
    assert found[1].maps is parents[1].maps
    expected = merge(parents[0].parent.model, [parents[1]], [1.0])
    for reference in seen:
        for name, weight in expected.weights.items():
            torch.testing.assert_close(reference.weights[name], weight)


def test_it_ends(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    parents, _ = begun([kit.model(seed=i) for i in range(2)])
    monkeypatch.setattr(universe, "TOLERANCE", -1.0)
    calls: list[int] = []

    def spy(placed: Placed, reference: Model) -> Alignment:
        calls.append(1)
        return align(placed, reference)

    settle(parents[0].parent.model, parents, [0.5, 0.5], spy)
    assert len(calls) == 2 * universe.ROUNDS


def test_parents_of_other_sizes_settle_on_the_axes_of_the_reference(kit: Kit) -> None:
    small = kit.network()
    models = [kit.model(resize(small, {"s0.embed": 8 + i, "s0.b0.heads": 3 + i}), i) for i in range(3)]
    parents, _ = begun(models)
    reference = parents[0].parent.model
    found, _ = settle(reference, parents, [1 / 3] * 3, align)
    merged = merge(reference, found, [1 / 3] * 3)
    merged.check()
    assert torch.isfinite(kit.run(merged)).all()

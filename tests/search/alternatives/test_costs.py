"""What is said of budgets that no choice keeps."""

from __future__ import annotations

from wb.search.alternatives.costs import unreachable


def test_no_budget_is_advised_that_the_model_keeps_already() -> None:
    """The advice leaves some room above the least there is, but where that is all of the model."""
    whole, aims = {"macs": 1e6}, {"macs": 1e5}
    assert "Give a higher budget (--budget macs=0.43x), or narrow" in unreachable(aims, {"macs": 3.9e5}, whole)
    said = unreachable(aims, {"macs": 9.5e5}, whole)
    assert "--budget" not in said
    assert "Narrow the stream first" in said

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.prune.stages import stages_of
from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading

DENSE = {
    "latency": Reading(value=4.0, unit="ms", how="measured"),
    "macs": Reading(value=1000.0, unit="MAC", how="counted"),
}


def limit(metric: str, share: float) -> Limit:
    return Limit(METRICS[metric], share * DENSE[metric].value)


@given(
    shares=st.lists(st.floats(0.05, 0.99), min_size=1, max_size=4, unique=True),
    other=st.floats(0.05, 0.99),
    rounds=st.integers(1, 30),
)
def test_stages_go_down_to_the_limits(shares: list[float], other: float, rounds: int) -> None:
    *snapshots, last = sorted({round(share, 2) for share in shares}, reverse=True)
    limits = (limit("latency", last), limit("macs", max(last, other)))
    stages = stages_of(limits, snapshots, rounds, DENSE)
    assert stages[-1].limits == limits
    assert [stage.name for stage in stages] == [*(f"{share:.3g}x" for share in snapshots), ""]
    assert all(stage.rounds >= 1 for stage in stages)
    assert abs(sum(stage.rounds for stage in stages) - rounds) <= 1.5 * len(stages)
    for share, stage in zip(snapshots, stages, strict=False):
        assert [one.value for one in stage.limits] == [max(share * DENSE[o.metric.name].value, o.value) for o in limits]
    for before, after in pairwise(stages):
        assert all(a.value <= b.value for b, a in zip(before.limits, after.limits, strict=True))


def test_each_stage_gets_rounds_for_how_far_it_goes() -> None:
    stages = stages_of((limit("macs", 1 / 16),), (0.5, 1 / 8), 40, DENSE)
    assert [stage.rounds for stage in stages] == [10, 20, 10]
    assert math.isclose(stages[1].limits[0].value, 125)


def test_without_a_budget_the_last_snapshot_is_the_end() -> None:
    stages = stages_of((), (0.75, 0.25), 4, DENSE)
    assert [(stage.name, stage.limits) for stage in stages] == [
        ("0.75x", (limit("latency", 0.75),)),
        ("", (limit("latency", 0.25),)),
    ]


def test_a_snapshot_below_the_budget_is_refused() -> None:
    with pytest.raises(BadOption, match=r"snapshot 0\.4x is not above the budget, 0\.5x of the model"):
        stages_of((limit("macs", 0.5),), (0.75, 0.4), 4, DENSE)


def test_what_was_given_as_a_share_is_remembered() -> None:
    """A snapshot is a share by itself, unless the absolute limit is what holds there already."""
    share, absolute = Limit(METRICS["latency"], 0.5, relative=True), limit("macs", 0.6)
    (only,) = stages_of((share, absolute), (), 4, DENSE)
    assert only.limits == (limit("latency", 0.5), absolute)
    assert only.shares == {"latency": 0.5}
    assert only.asked == (share, absolute)
    (only,) = stages_of((limit("latency", 0.5),), (), 4, DENSE)
    assert only.shares == {}
    first, second, last = stages_of((limit("latency", 0.5), limit("macs", 0.8)), (0.9, 0.7), 4, DENSE)
    assert first.shares == {"latency": 0.9, "macs": 0.9}
    assert second.shares == {"latency": 0.7}, "the limit on macs is what it is in the end"
    assert last.shares == {}
    assert stages_of((), (0.75, 0.25), 4, DENSE)[-1].shares == {"latency": 0.25}


def test_limits_that_are_met_already_are_left_out() -> None:
    share, met = Limit(METRICS["latency"], 0.5, relative=True), Limit(METRICS["macs"], 2000.0)
    assert stages_of((share, met), (), 1, DENSE)[0].limits == (limit("latency", 0.5),)
    with pytest.raises(BadOption, match="the budget is met already: macs is 1 k"):
        stages_of((met,), (), 1, DENSE)


def test_shares_are_judged_by_what_the_dense_model_has_in_the_same_reading() -> None:
    """The machine is a fifth faster by now: 0.07 ms of 0.1 ms are kept in milliseconds, and not as a share."""
    stage = stages_of((Limit(METRICS["latency"], 0.7, relative=True),), (), 1, DENSE)[0]
    now = {"latency": Reading(value=3.2, unit="ms", how="measured")}
    (judged,) = stage.judged(now, {"latency": Reading(value=2.4, unit="ms", how="measured")})
    assert judged.verdict == "missed"
    assert judged.reading.value == pytest.approx(0.75)

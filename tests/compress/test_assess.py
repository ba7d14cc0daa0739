"""What a reading is against its limit, with the drift of the machine in it or not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.assess import absolute, excesses, verdict
from wb.core.errors import BadOption
from wb.core.metrics import METRICS, Limit
from wb.core.readings import Reading

POSITIVE = st.floats(0.1, 10)


def readings(metric: str, value: float, spread: float | None = None) -> dict[str, Reading]:
    interval = (value * (1 - spread), value * (1 + spread)) if spread is not None else None
    return {metric: Reading(value=value, unit="", how="measured", interval=interval)}


@given(first=POSITIVE, drift=POSITIVE, share=st.floats(0.1, 0.9), over=st.floats(-0.5, 0.5))
def test_a_share_is_compared_by_the_ratio_to_the_dense_model(
    first: float, drift: float, share: float, over: float
) -> None:
    limits = (Limit(METRICS["latency"], share * first),)
    found = readings("latency", share * first * drift * (1 + over), 0.01)
    now = readings("latency", first * drift)
    value, low = excesses(limits, {"latency"}, readings("latency", first), now, found)["latency"]
    assert value == pytest.approx(over, abs=1e-9)
    assert low == pytest.approx((1 + over) * 0.99 - 1, abs=1e-9)


@pytest.mark.parametrize(("metric", "shares"), [("latency", set()), ("latency", {"macs"}), ("size", {"size"})])
def test_nothing_else_is_corrected_for_drift(metric: str, shares: set[str]) -> None:
    """Neither a limit in milliseconds nor anything that is counted."""
    found = excesses(
        (Limit(METRICS[metric], 2.0),), shares, readings(metric, 4.0), readings(metric, 8.0), readings(metric, 3.0)
    )
    assert found == {metric: (0.5, 0.5)}


@pytest.mark.parametrize(
    ("value", "spread", "expected"),
    [
        (1.0, 0.1, "met"),
        (0.99, None, "met"),
        (1.01, 0.02, "within noise"),
        (1.01, 0.001, "missed"),
        (1.01, None, "missed"),
    ],
)
def test_the_verdict_knows_the_interval(value: float, spread: float | None, expected: str) -> None:
    dense = readings("latency", 2.0)
    over = excesses((Limit(METRICS["latency"], 1.0),), (), dense, dense, readings("latency", value, spread))
    assert verdict(over) == expected


def test_one_limit_that_is_missed_is_enough() -> None:
    assert verdict({"latency": (0.1, -0.1), "macs": (-0.1, -0.1)}) == "within noise"
    assert verdict({"latency": (0.1, -0.1), "macs": (0.1, 0.1)}) == "missed"
    assert verdict({"latency": (-0.1, -0.2), "macs": (0.0, 0.0)}) == "met"


def test_limits_get_the_units_of_readings() -> None:
    dense = readings("latency", 4.0) | readings("macs", 1000.0)
    share, met = Limit(METRICS["latency"], 0.5, relative=True), Limit(METRICS["macs"], 2000.0)
    assert absolute((share, met), dense) == (Limit(METRICS["latency"], 2.0),)
    with pytest.raises(BadOption, match="the budget is met already: macs is 1000"):
        absolute((met,), dense)

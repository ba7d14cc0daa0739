"""Requirements: parsing, one scale for all violations, and verdicts on readings."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, Metric, parse_budget
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import (
    Asked,
    Requirement,
    Sign,
    check_limits,
    meets,
    of_limit,
    parse_requirements,
    violations_of,
)

LATENCY, ACCURACY = METRICS["latency"], METRICS["acc"]
ANY_METRIC = st.sampled_from(list(METRICS.values()))
SIGNS: st.SearchStrategy[Sign] = st.sampled_from(["<=", ">="])
VALUES = st.floats(0.01, 0.99)


def one(text: str) -> Requirement:
    (found,) = parse_requirements([text])
    return found


def reading(value: float, low: float | None = None, high: float | None = None, unit: str = "ms") -> Reading:
    interval = None if low is None or high is None else (low, high)
    return Reading(value=value, unit=unit, how="measured", interval=interval)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("latency<=1ms", Requirement(LATENCY, "<=", 1.0)),
        (" latency ≤ 1000 us ", Requirement(LATENCY, "<=", 1.0)),
        ("acc>=70%", Requirement(ACCURACY, ">=", 0.7)),
        ("size<=1.5MB", Requirement(METRICS["size"], "<=", 1.5e6)),
        ("params>=2e3", Requirement(METRICS["params"], ">=", 2000.0)),
    ],
)
def test_what_can_be_written(text: str, expected: Requirement) -> None:
    found = one(text)
    assert (found.metric, found.sign) == (expected.metric, expected.sign)
    assert found.bound == pytest.approx(expected.bound)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["latency<1ms"], "did you mean latency<=1ms"),
        (["acc=0.7"], "did you mean acc>=0.7"),
        (["fast"], "is no requirement; write for example"),
        (["speed<=1"], "no metric 'speed'.*there are acc, latency"),
        (["latency<=1kg"], "'kg'.*no unit of latency.*'ms'"),
        (["latency<=1.2.3ms"], "is no number"),
        (["latency<=-1ms"], "needs a positive number"),
        (["acc>=70"], "more than 100 %.*acc>=70%"),
        (["latency<=1ms,latency<=2ms"], "two requirements"),
        (["latency>=2ms", "latency<=1ms"], "latency >= 2 ms and latency <= 1 ms contradict each other"),
    ],
)
def test_errors_name_what_is_wrong(texts: list[str], said: str) -> None:
    with pytest.raises(BadOption, match=said):
        parse_requirements(texts)


def test_bounds_on_both_sides_of_one_metric_are_fine() -> None:
    assert [r.text() for r in parse_requirements(["macs>=1M,macs<=2M"])] == ["macs >= 1 M", "macs <= 2 M"]


@given(ANY_METRIC, SIGNS, VALUES, VALUES)
def test_a_violation_is_above_zero_exactly_where_the_bound_is_missed(
    metric: Metric, sign: Sign, bound: float, value: float
) -> None:
    found = Requirement(metric, sign, bound)
    assert (found.violation(value) > 0) == (not found.met(value)) or math.isclose(value, bound, abs_tol=1e-9)
    step = 1e-6
    slope = (found.violation(value + step) - found.violation(value - step)) / (2 * step)
    assert found.slope(value) == pytest.approx(slope, rel=1e-3)


@given(ANY_METRIC, SIGNS, st.floats(1e-3, 0.999), st.integers(0, 9))
def test_a_relaxed_requirement_is_kept_also_as_it_is_written_and_hardly_looser(
    metric: Metric, sign: Sign, mantissa: float, exponent: int
) -> None:
    value = mantissa if metric.best is not None else mantissa * 10**exponent
    relaxed = Requirement(metric, sign, 0.5).relaxed_to(value)
    written = one(relaxed.text().replace(" ", ""))
    assert written.bound == pytest.approx(relaxed.bound, rel=1e-9)
    assert relaxed.met(value)
    assert relaxed.bound == pytest.approx(value, rel=0.1 if metric.best is not None else 0.011)


def test_a_budget_may_not_exclude_a_requirement() -> None:
    budget = parse_budget(["latency=1ms"])
    check_limits(parse_requirements(["latency<=2ms,acc>=0.7"]), budget)
    check_limits(parse_requirements(["latency>=0.5ms"]), budget)
    with pytest.raises(BadOption, match="latency >= 2 ms and budget latency <= 1 ms contradict"):
        check_limits(parse_requirements(["latency>=2ms"]), budget)


def test_violations_are_logarithms_of_ratios_of_costs_and_of_errors() -> None:
    assert one("latency<=2ms").violation(2.16) == pytest.approx(math.log(1.08))
    assert one("acc>=0.8").violation(0.7) == pytest.approx(math.log(1.5))
    assert math.isfinite(one("acc>=1.0").violation(1.0))


@pytest.mark.parametrize(
    ("given", "state", "text"),
    [
        (reading(0.9, 0.88, 0.92), "met", "met"),
        (reading(0.99, 0.97, 1.01), "within noise", "met, within noise"),
        (reading(1.01, 0.99, 1.03), "within noise", "within noise: missed by 1.0 % (0.01 ms)"),
        (reading(1.1, 1.08, 1.12), "missed", "missed by 10.0 % (0.1 ms)"),
        (reading(1.1), "missed", "missed by 10.0 % (0.1 ms)"),
    ],
)
def test_verdicts(given: Reading, state: str, text: str) -> None:
    found = one("latency<=1ms")
    assert (found.state(given), found.verdict(given)) == (state, text)


def test_accuracy_is_missed_in_points_and_in_errors() -> None:
    assert one("acc>=0.7").verdict(reading(0.64, unit="fraction")) == "missed by 6.00 points (20.0 % more errors)"


def test_networks_meet_requirements_by_value() -> None:
    asked = parse_requirements(["latency<=1ms,acc>=0.7"])
    assert meets(asked, {"latency": reading(1.0), "acc": reading(0.7)})
    assert not meets(asked, {"latency": reading(1.1), "acc": reading(0.9)})
    missed = violations_of(asked, {"latency": reading(1.1), "acc": reading(0.9)})
    assert missed == pytest.approx((math.log(1.1), 0.0))


def test_budgets_are_requirements_too_and_the_order_does_not_matter_to_the_aim() -> None:
    first, second = parse_requirements(["latency<=1ms,acc>=0.7"])
    assert first.limit is not None
    assert of_limit(first.limit) == first
    assert one("latency>=1ms").limit is None
    assert Asked((first,)).within([]) == Asked((first,))
    assert Asked((first, second)).text() == Asked((second, first)).text()
    assert Asked((first,), goal=ACCURACY).metrics == {"latency", "acc"}

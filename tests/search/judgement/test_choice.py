"""Which networks become finalists and which are left, on readings made up by hand and at random."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wb.core.measures.metrics import METRICS, parse_budget
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import meets, parse_requirements, violations_of
from wb.search.judgement.choice import FEWEST, NEAREST, finalists, left

METRIC = (METRICS["acc"], METRICS["latency"])
ASKED = parse_requirements(["latency<=1ms,acc>=0.7"])
NETWORKS = st.lists(st.tuples(st.floats(0.1, 0.99), st.floats(0.2, 3)), min_size=1, max_size=30)


def network(acc: float, latency: float) -> dict[str, Reading]:
    return {
        "acc": Reading(value=acc, unit="fraction", how="measured"),
        "latency": Reading(value=latency, unit="ms", how="measured"),
    }


@given(NETWORKS)
def test_finalists_are_those_that_meet_best_and_enough_others(drawn: list[tuple[float, float]]) -> None:
    found = {i: network(*each) for i, each in enumerate(drawn)}
    chosen = finalists(found, METRIC, (), ASKED)
    meeting = {i for i, readings in found.items() if meets(ASKED, readings)}
    assert len(set(chosen)) == len(chosen) >= min(FEWEST, len(found))
    if meeting:
        best = max(meeting, key=lambda i: (found[i]["acc"].value, -found[i]["latency"].value))
        assert found[best]["acc"].value in [found[i]["acc"].value for i in chosen if i in meeting]


def test_half_of_the_free_places_are_for_those_that_only_lack_quality() -> None:
    """Fine-tuning may bring accuracy, but never speed."""
    found = {i: network(0.4 + 0.01 * i, 0.9) for i in range(10)} | {i: network(0.69, 1.02) for i in range(10, 20)}
    chosen = finalists(found, METRIC, (), ASKED)
    assert chosen[:4] == [9, 8, 7, 6]
    assert all(i >= 10 for i in chosen[4:])


@given(NETWORKS)
def test_what_is_left_meets_everything_or_is_nearest(drawn: list[tuple[float, float]]) -> None:
    found = {i: network(*each) for i, each in enumerate(drawn)}
    kept = left(found, METRIC, (), ASKED).kept
    if any(meets(ASKED, readings) for readings in found.values()):
        assert kept
        assert all(meets(ASKED, found[i]) for i in kept)
    else:
        short = {i: sum(violations_of(ASKED, readings)) for i, readings in found.items()}
        assert len(kept) == min(NEAREST, len(found))
        assert [short[i] for i in kept] == sorted(short.values())[: len(kept)]


def test_budgets_hold_also_for_the_nearest() -> None:
    found = {1: network(0.69, 2.0), 2: network(0.2, 0.5)}
    assert left(found, METRIC, parse_budget(["latency=1ms"]), ASKED).kept == [2]
    assert finalists(found, METRIC, parse_budget(["latency=1ms"]), ASKED) == [2]


def test_without_requirements_what_is_left_is_the_front() -> None:
    found = {1: network(0.9, 1.0), 2: network(0.8, 2.0), 3: network(0.5, 0.5)}
    assert sorted(left(found, METRIC, (), ()).kept) == [1, 3]

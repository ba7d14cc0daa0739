"""Plans of a given time: they fill it and no more, keep what was given, and refuse what is too short, with the least."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.core.system.durations import parse_duration
from wb.search.beginning.config import SearchConfig
from wb.search.fidelity.rungs import AUTO, parse_rungs
from wb.search.planning.seconds import Costs, Size
from wb.search.planning.shares import (
    DEAREST,
    FEW,
    FINALISTS,
    FINALISTS_FEW,
    FINALISTS_LEAST,
    FIRST_STEPS,
    FIRST_TUNED,
    LEAST_FIRST,
    LIGHTEST,
    PART_STEPS,
    SUPERNET,
    TUNED_LEAST,
    TimePlan,
    allot,
    finalists_seconds,
    rungs_seconds,
    search_seconds,
    supernet_seconds,
)

WARM_UP = 0.3


def fake(step: float, evaluation: float = 0.8) -> Costs:
    """Costs of which the steps go with one another."""
    return Costs(
        alone=3 * step,
        sandwich=8 * step,
        tune=2 * step,
        teach=step,
        evaluation=evaluation,
        timing=0.6 * evaluation,
        score=step,
    )


def plan(seconds: float, costs: Costs, size: Size, spent: float = 20, **given: Any) -> TimePlan:
    config = SearchConfig.model_validate({"rungs": AUTO, "time": f"{seconds}s", **given})
    return allot(config, seconds, spent, costs, size, WARM_UP)


def costed(found: TimePlan, costs: Costs, size: Size) -> float:
    """Seconds that a machine with these costs takes for the plan."""
    size = size.of(found.part)
    return (
        supernet_seconds(costs, size, found.epochs, WARM_UP)
        + search_seconds(costs, size, found.trials)
        + rungs_seconds(costs, size, parse_rungs(found.rungs))
        + finalists_seconds(costs, size, found.finalists, found.finetune)
    )


@settings(max_examples=200)
@given(st.floats(300, 7200), st.floats(0.001, 0.01), st.integers(30, 150), st.integers(1, 4))
def test_a_plan_fills_its_time(seconds: float, step: float, steps: int, workers: int) -> None:
    costs, size = fake(step), Size(steps, steps, round(1.1 * steps), workers)
    found = plan(seconds, costs, size)
    whole = 20 + costed(found, costs, size)
    assert 0.8 * seconds <= whole <= 1.05 * seconds
    assert sum(found.predicted.values()) == pytest.approx(whole - 20)
    assert found.finalists <= found.trials
    rungs = parse_rungs(found.rungs)
    assert all(found.finalists < rung.candidates <= found.trials for rung in rungs)


@pytest.mark.parametrize(
    "given",
    [
        {"trials": 33},
        {"epochs": 7},
        {"finalists": 4},
        {"finetune": 3},
        {"rungs": "30x2"},
        {"rungs": "none", "trials": 50},
    ],
)
def test_what_was_given_stays_and_the_rest_shares_the_time(given: dict[str, Any]) -> None:
    costs, size = fake(0.004), Size(100, 100, 110)
    found = plan(600, costs, size, **given)
    assert found.settings | given == found.settings
    assert (0 if "finetune" in given else 480) <= 20 + costed(found, costs, size) <= 630


def test_training_the_front_once_more_is_in_the_plan() -> None:
    costs, size = fake(0.004), Size(100, 100, 110)
    once, again = (plan(900, costs, one, finalists=5) for one in (size, size._replace(again=1.1)))
    assert again.finetune == pytest.approx(once.finetune / 1.7, abs=1)
    least, more = (finalists_seconds(costs, one, 5, 7) for one in (size, size._replace(again=1.1)))
    read = finalists_seconds(costs, size, 5, 0)
    assert more - read == pytest.approx(1.7 * (least - read))
    hands = size._replace(again=1.1, hands=5)
    assert finalists_seconds(costs, hands._replace(again=0.0), 5, 7) < finalists_seconds(costs, hands, 5, 7) < more


def test_more_time_gives_more_of_everything() -> None:
    costs, size = fake(0.004), Size(100, 100, 110)
    plans = [plan(seconds, costs, size) for seconds in (120, 300, 900, 3600)]
    for less, more in itertools.pairwise(plans):
        assert less.epochs < more.epochs
        assert less.trials <= more.trials
        assert less.finetune <= more.finetune


@settings(max_examples=100)
@given(st.floats(120, 7200), st.floats(0.001, 0.02), st.integers(30, 1000))
def test_networks_that_would_take_most_of_the_time_are_left_out(seconds: float, step: float, steps: int) -> None:
    """What the largest that are left take for all epochs is a share of the finalists' time, or twice the smallest's."""
    costs = fake(step).model_copy(update={"light": step, "heavy": 6 * step, "macs": 5e6})
    size = Size(steps, steps, steps)
    try:
        found = plan(seconds, costs, size)
    except BadOption:  # too short
        return
    largest = 6 * step if found.heaviest is None else step + 5 * step * found.heaviest / 5e6
    epochs = max(TUNED_LEAST, LEAST_FIRST * min(FIRST_TUNED, max(TUNED_LEAST, FIRST_STEPS // steps)))
    room = FINALISTS * (seconds - 20)
    assert largest * steps * epochs <= max(DEAREST * room, LIGHTEST * step * steps * epochs) * 1.001
    if found.heaviest is None:
        assert found == plan(seconds, costs.model_copy(update={"macs": 0.0}), size).model_copy(update={"costs": costs})


def test_a_budget_that_was_given_stays() -> None:
    costs = fake(0.004).model_copy(update={"light": 0.004, "heavy": 0.8, "macs": 2e7})
    found = plan(600, costs, Size(100, 100, 110))
    assert found.heaviest is not None
    assert 0 < found.heaviest < 2e7
    assert f"at most {found.heaviest / 1e6:.3g} M multiply-accumulates" in found.text()
    assert "8 ms for one of a candidate alone" in found.text()  # as timed
    less = SearchConfig.model_validate({"time": "600s", "budget": ("latency=1ms",)})
    applied = found.applied(less)
    assert applied.budget == ("latency=1ms", f"macs={found.heaviest:.0f}")
    assert found.given(applied.limits) == list(less.limits)  # a twin may have twice as many
    every: list[dict[str, Any]] = [{"budget": ("macs=9M",)}, {"require": ("macs>=19M",)}, {"seeds": ("resnet",)}]
    for asked in every:
        other = plan(600, costs, Size(100, 100, 110), **asked)
        assert other.heaviest is None
        config = SearchConfig.model_validate({"time": "600s", **asked})
        assert other.applied(config).budget == config.budget


def test_networks_that_are_left_out_make_no_time_too_short() -> None:
    costs = fake(0.5).model_copy(update={"light": 0.002, "heavy": 2.0, "macs": 2e7, "alone": 0.1, "sandwich": 0.2})
    found = plan(600, costs, Size(300, 300, 300), rungs="none")
    assert found.heaviest is not None
    assert sum(found.predicted.values()) <= 600


def test_there_are_no_more_finalists_than_trials() -> None:
    assert plan(600, fake(0.004), Size(100, 100, 110), trials=3, rungs="none").finalists <= 3


def test_a_time_that_is_too_short_is_refused_with_one_that_is_not() -> None:
    costs, size = fake(0.01), Size(150, 150, 160)
    with pytest.raises(BadOption, match="--time 15s is too short: the smallest search") as refused:
        plan(15, costs, size, spent=8)
    least = re.search(r"takes about (.+?) here", str(refused.value))
    assert least is not None
    found = plan(1.05 * parse_duration(least[1]), costs, size, spent=8)
    assert found.epochs >= 1
    assert found.finetune >= 1


@pytest.mark.parametrize("steps", [600, 1200])
def test_the_supernet_sees_a_part_of_large_data_and_so_keeps_to_its_share(steps: int) -> None:
    size, less = Size(steps, steps, steps), Size(30, 30, 30)
    found = plan(300, fake(0.01), size)
    assert found.epochs == 1
    assert SUPERNET * 240 <= found.predicted["supernet"] <= SUPERNET * 300
    assert f"on {100 * found.part:.2g} % of the images" in found.text()
    assert plan(300, fake(0.01), size, epochs=1).part == plan(300, fake(0.01), less).part == 1
    assert size.of(found.part).supernet >= PART_STEPS


@pytest.mark.parametrize("steps", [50, 400, 600, 1000, 3000])
def test_of_large_data_there_are_fewer_finalists_rather_than_too_few_epochs(steps: int) -> None:
    found = plan(1200, fake(0.004), Size(steps, steps, steps))
    assert found.finalists >= FINALISTS_FEW
    assert found.finalists >= FINALISTS_LEAST or found.finetune <= 1.5 * FEW
    assert found.finetune >= FEW or found.finalists == FINALISTS_FEW


def test_trials_end_when_the_rest_of_the_time_is_needed() -> None:
    """A supernet that took longer leaves less for trials and for what comes after, unless finalists have their epochs."""
    found = plan(600, fake(0.004), Size(100, 100, 110))
    after = found.predicted["rungs"] + found.predicted["finalists"]
    before = found.begun + found.predicted["supernet"]
    assert not found.late(before, 0.0)
    assert not found.late(before, 0.9 * found.predicted["search"])
    assert found.late(before, 600 - before - after)
    late = before + 100  # the supernet took longer: everything else shares the loss
    share = (600 - late) / (600 - before)
    assert not found.late(late, 0.99 * share * found.predicted["search"])
    assert found.late(late, 1.01 * share * (600 - before - after))
    assert found.model_copy(update={"settled": True}).late(late, 0.0)
    assert found.late(600, 0.0)


def test_a_plan_is_told_in_a_sentence_and_kept() -> None:
    found = plan(600, fake(0.004), Size(100, 100, 110))
    assert f"10 min planned: {found.epochs} epochs of the supernet " in found.text()
    assert (
        f"{found.finalists} finalists, {found.finetune} epochs in the mean, the largest 60 % of the time"
        in found.text()
    )
    assert "2 epochs each" in plan(600, fake(0.004), Size(100, 100, 110), finetune=2).text()
    assert TimePlan.model_validate_json(found.model_dump_json()) == found


def test_a_supernet_that_several_processes_train_gets_more_of_its_epochs() -> None:
    size = Size(supernet=12, ranking=10, whole=12)
    one, four = (plan(600, fake(0.05), each) for each in (size, size._replace(faster=4.0)))
    assert four.epochs > 2 * one.epochs
    assert four.predicted["supernet"] <= 1.1 * one.predicted["supernet"]
    assert supernet_seconds(fake(0.05), size._replace(faster=4.0), 8, WARM_UP) == pytest.approx(
        supernet_seconds(fake(0.05), size, 8, WARM_UP) / 4
    )

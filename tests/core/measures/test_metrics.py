from __future__ import annotations

import re

import pytest

from wb.core.errors import BadOption
from wb.core.measures.metrics import (
    METRICS,
    Rules,
    device_of,
    find_metric,
    of_runs,
    parse_budget,
    parse_objectives,
    the_metric,
)
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import parse_requirements


def test_objectives_keep_their_order() -> None:
    assert [m.name for m in parse_objectives("latency, acc")] == ["latency", "acc"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "0 objectives"),
        ("acc,latency,size,macs,params", "5 objectives"),
        ("acc,speed", "no objective 'speed'; there are acc, latency, size, macs, params"),
        ("acc,acc", "comes twice"),
    ],
)
def test_wrong_objectives(text: str, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        parse_objectives(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("latency=2ms", 2.0),
        ("latency=0.5s", 500.0),
        ("latency=300us", 0.3),
        ("size=1MB", 1e6),
        ("size=1.5kb", 1500.0),
        ("macs=1.2G", 1.2e9),
        ("params=3e4", 3e4),
        ("acc=98%", 0.98),
        ("energy=2uJ", 2e6),
        ("energy=1.5nJ", 1500.0),
    ],
)
def test_budgets_in_every_unit(text: str, value: float) -> None:
    (limit,) = parse_budget([text])
    assert limit.value == pytest.approx(value)
    assert not limit.relative


def test_relative_and_several_budgets() -> None:
    latency, size = parse_budget(["latency=0.5x,size=1MB"])
    assert latency.relative
    assert latency.value == 0.5
    assert size.metric is METRICS["size"]


def test_a_loss_of_accuracy_is_in_points_of_the_input_model() -> None:
    loss, size = parse_budget(["acc=-0.5,size=0.25x"], Rules(changes=True))
    assert loss.change
    assert loss.text() == "acc >= -0.5 points"
    given = Reading(value=0.9, unit="fraction", how="measured")
    absolute = loss.against(given)
    assert absolute.value == pytest.approx(0.895)
    assert absolute.excess(given.model_copy(update={"value": 0.8951})) < 0
    assert absolute.excess(given.model_copy(update={"value": 0.8949})) > 0
    assert absolute.against(given) == absolute
    assert size.against(Reading(value=400, unit="B", how="counted")).value == 100
    assert parse_budget(["acc=-1%"], Rules(changes=True))[0].value == pytest.approx(-0.01)
    for text in ("acc=-0.5", "acc=-1%"):
        with pytest.raises(BadOption, match="which only `wb quantize` keeps to"):
            parse_budget([text])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("acc=-0.5x", "is no unit of a loss of accuracy"),
        ("acc=-100", "a loss of more than 100 points"),
        ("acc=--1", "is no budget"),
        ("acc=-1.2.3", "is no number"),
        ("size=-5B", "allows nothing"),
    ],
)
def test_wrong_losses(text: str, words: str) -> None:
    with pytest.raises(BadOption, match=words):
        parse_budget([text], Rules(changes=True))


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["latency"], "is no budget"),
        (["latency=fast"], "is no budget"),
        (["speed=2"], "no metric 'speed'"),
        (["latency=2MB"], "'MB' in budget 'latency=2MB' is no unit of latency"),
        (["size=0MB"], "allows nothing"),
        (["size=1.2.3MB"], "is no number"),
        (["latency=1ms", "latency=2ms"], "two budgets on latency"),
        (["acc=150%"], "asks for more than 100 %"),
        (["acc=98"], "asks for more than 100 %"),
    ],
)
def test_wrong_budgets(texts: list[str], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        parse_budget(texts)


EVERYWHERE = (Rules(), Rules(shares=False), Rules(("latency", "macs", "params")), Rules(("size", "acc"), changes=True))


@pytest.mark.parametrize("rules", EVERYWHERE)
@pytest.mark.parametrize(
    "text",
    ["acc=-1", "acc=-0.5x", "acc=-100", "acc=0.9", "acc=98", "speed=2", "latency", "macs=x", "size=1.2.3MB", "macs=0x"],
)
def test_what_an_error_advises_is_allowed(text: str, rules: Rules) -> None:
    """Also where it was not: `wb prune nvit --budget acc=-1` advised acc=0.95, which is refused there."""
    try:
        assert parse_budget([text], rules)[0].metric.name in rules.metrics
        return
    except BadOption as error:
        words = str(error)
    advised = re.findall(r"\w+=[-0-9][0-9.]*[a-zA-Z%]*", words.replace(text, "").partition("example")[2])
    assert advised or "for example" not in words
    for budget in advised:
        assert parse_budget([budget], rules)


def test_excess_has_the_sign_of_the_violation() -> None:
    (latency,), (accuracy,) = parse_budget(["latency=2ms"]), parse_budget(["acc=0.9"])
    over, under = (Reading(value=v, unit="ms", how="measured") for v in (3.0, 1.0))
    assert latency.excess(over) == pytest.approx(0.5)
    assert latency.excess(under) < 0
    assert accuracy.excess(Reading(value=0.8, unit="fraction", how="measured")) > 0


def test_latency_of_what_continues_texts_is_that_of_a_token() -> None:
    limits = parse_budget(["latency=0.5x", "size=0.5x"])
    assert of_runs(limits, continues=False) == limits
    assert [one.metric.name for one in of_runs(limits, continues=True)] == ["latency@token", "size"]
    both = parse_budget(["latency=0.5x,latency@token=0.4x"], Rules(tuple(METRICS)))
    with pytest.raises(BadOption, match="budgets on both"):
        of_runs(both, continues=True)
    with pytest.raises(BadOption, match="write latency instead"):
        of_runs(both, continues=False)
    rules = Rules(tuple(METRICS), changes=True)
    assert rules.on_quality(METRICS["ppl"]) == "ppl=1.02x"
    with pytest.raises(BadOption, match=r"write ppl=1\.02x"):
        parse_budget(["ppl=-0.5"], rules)


def test_latency_on_a_device_is_a_metric_of_its_own_where_devices_count() -> None:
    metric = the_metric("latency@pi-4.b")
    assert (metric.title, metric.unit, device_of(metric.name)) == ("latency on pi-4.b", "ms", "pi-4.b")
    assert parse_objectives("acc,latency@pi-4.b")[1] is metric
    (limit,) = parse_budget(["latency@pi-4.b=2us"], Rules(("acc",), devices=True))
    assert limit.metric is metric
    assert limit.value == pytest.approx(0.002)
    assert parse_requirements(["latency@pi-4.b<=2ms"])[0].metric is metric
    assert device_of("latency@prompt") is None
    assert find_metric("latency@") is None
    assert find_metric("size@pi") is None
    with pytest.raises(BadOption, match="cannot be aimed at here"):
        parse_budget(["latency@pi=2ms"], Rules(("acc", "latency")))

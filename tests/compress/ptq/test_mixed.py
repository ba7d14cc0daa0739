"""Policies under budgets, on networks whose true size, latency and accuracy are known formulas."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx
import pytest

from tests.compress.ptq.graphs import inputs, subject
from wb.compress.ptq.calibration import first
from wb.compress.ptq.mixed import (
    FINEST,
    KEPT,
    NO_FASTER,
    NO_KERNEL,
    NO_SMALLER,
    NOT_NEEDED,
    SLOWER,
    TOO_SENSITIVE,
    Found,
    find,
)
from wb.compress.ptq.sensitivity import Sensitivity, sensitivities
from wb.compress.ptq.subject import Choice, Subject
from wb.core.errors import BadOption, BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading
from wb.core.records import Precision
from wb.hardware.device import Device

WHOLE = 10_000
ALL: tuple[Precision, ...] = ("int4", "int8", "fp32")


class Told(Subject):
    """Its graphs say only what was chosen."""

    def lowered(self, choice: Choice) -> onnx.ModelProto:
        self.check(choice)
        graph = onnx.ModelProto()
        graph.metadata_props.add(key="choice", value=json.dumps(dict(choice)))
        return graph


def told(groups: Sequence[str]) -> Told:
    graph = onnx.ModelProto()
    graph.doc_string = "x" * (WHOLE - 3)  # with its tag and length
    assert graph.ByteSize() == WHOLE
    return Told(graph, {group: (group,) for group in groups}, dict.fromkeys(groups, ALL))


@dataclass
class World:
    """What is true of choices: `extra` bytes and ms beyond the sum, accuracy 0.9 less ten times the error."""

    measured: Sequence[Sensitivity]
    extra_bytes: int = 0
    extra_ms: float = 0.0
    noise: float = 0.0
    asked: list[Choice] = field(default_factory=list)

    def parts(self, choice: Choice) -> list[Sensitivity]:
        return [one for one in self.measured if choice.get(one.group) == one.precision]

    def error(self, choice: Choice) -> float:
        return sum(one.error for one in self.parts(choice))

    def size(self, choice: Choice) -> int:
        return WHOLE - sum(one.saved for one in self.parts(choice)) + (self.extra_bytes if choice else 0)

    def latency(self, choice: Choice) -> float:
        return 10 - sum(one.faster or 0.0 for one in self.parts(choice)) + (self.extra_ms if choice else 0)

    def readings(self, choice: Choice) -> dict[str, Reading]:
        ms = self.latency(choice)
        return {
            "size": Reading(value=self.size(choice), unit="B", how="counted"),
            "latency": Reading(value=ms, unit="ms", how="measured", interval=(ms - self.noise, ms + self.noise)),
            "acc": Reading(value=0.9 - 10 * self.error(choice), unit="fraction", how="measured"),
        }

    def assess(self, graph: onnx.ModelProto) -> Mapping[str, Reading]:
        choice = json.loads(graph.metadata_props[0].value)
        assert choice not in self.asked  # never twice
        self.asked.append(choice)
        return self.readings(choice)

    def every(self) -> list[Choice]:
        groups = list(dict.fromkeys(one.group for one in self.measured))
        return [
            {group: p for group, p in zip(groups, choice, strict=True) if p != "fp32"}
            for choice in itertools.product(ALL, repeat=len(groups))
        ]

    def find(self, keep: Sequence[str] = (), more: Sequence[str] = (), **limits: float) -> Found:
        groups = [*dict.fromkeys(one.group for one in self.measured), *keep, *more]
        wanted = [Limit(METRICS[name], value) for name, value in limits.items()]
        return find(told(groups), self.measured, wanted, self.readings({}), self.assess, lambda *_: None, keep=keep)


def one(group: str, precision: Precision, error: float, saved: int, faster: float, spread: float = 0.05) -> Sensitivity:
    times = {"faster": faster, "faster_low": faster - spread, "faster_high": faster + spread}
    return Sensitivity(group=group, precision=precision, error=error, saved=saved, **times)


SIX = [
    item
    for i in range(6)
    for item in (
        one(f"g{i}", "int8", 1e-4 * (i + 1) ** 2, 700 + 50 * i, 0.3 + 0.1 * i),
        one(f"g{i}", "int4", 9e-4 * (i + 1) ** 1.5, 900 + 90 * i, 0.1 - 0.05 * i),
    )
]


@pytest.mark.parametrize("size", [9900, 7000, 5000, 3650])
def test_no_choice_of_that_size_has_a_smaller_error(size: int) -> None:
    world = World(SIX)
    found = world.find(size=size)
    best = min(world.error(choice) for choice in world.every() if world.size(choice) <= size)
    assert world.size(found.choice) <= size
    assert world.error(found.choice) == pytest.approx(best)
    assert len(world.asked) == 1
    assert found.chosen.bytes == world.size(found.choice)


@pytest.mark.parametrize("size", [7000, 5000])
def test_what_was_not_predicted_is_made_up_for(size: int) -> None:
    world = World(SIX, extra_bytes=333)
    found = world.find(size=size)
    best = min(world.error(choice) for choice in world.every() if world.size(choice) <= size)
    assert world.size(found.choice) <= size
    assert world.error(found.choice) == pytest.approx(best)
    assert len(found.trials) == 2
    assert found.trials[0].bytes > size


def test_latency_and_size_together() -> None:
    world = World(SIX, extra_bytes=50, extra_ms=0.2, noise=0.05)
    found = world.find(size=5500, latency=7.5)
    assert world.size(found.choice) <= 5500
    assert world.latency(found.choice) <= 7.5
    assert len(world.asked) <= 5


def test_an_extreme_choice_is_tried_although_it_was_not_predicted_to_do() -> None:
    smallest = World(SIX).size(dict.fromkeys([f"g{i}" for i in range(6)], "int4"))
    world = World(SIX, extra_bytes=-40)
    assert world.find(size=smallest - 30).chosen.bytes == smallest - 40


@pytest.mark.parametrize("lost", [0.005, 0.02, 0.05, 0.3])
def test_the_smallest_that_holds_the_accuracy(lost: float) -> None:
    world = World(SIX)
    found = world.find(acc=0.9 - lost)
    assert found.chosen.readings["acc"].value >= 0.9 - lost
    best = min(world.size(choice) for choice in world.every() if 10 * world.error(choice) <= lost)
    assert found.chosen.bytes <= best + 2 * FINEST * WHOLE
    assert len(world.asked) <= 8


def test_all_limits_together() -> None:
    world = World(SIX, extra_ms=0.1)
    found = world.find(acc=0.83, size=6000, latency=8)
    kept = [c for c in world.every() if 10 * world.error(c) <= 0.07 and world.latency(c) <= 8 and world.size(c) <= 6000]
    assert found.choice in kept
    assert found.chosen.bytes <= min(map(world.size, kept)) + 2 * FINEST * WHOLE


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"size": 2000}, r"size <= 2 kB; the closest of 1 that were measured has file size 3\.25 kB"),
        ({"latency": 1}, r"latency <= 1 ms; .* has latency 6\.7 ms"),
        ({"acc": 0.8999}, r"acc >= 89\.99 %; .* has accuracy"),
        ({"acc": 0.89, "size": 4000}, r"acc >= 89\.00 % and size <= 4 kB; .* has accuracy .* %, file size"),
    ],
)
def test_what_nothing_reaches(limits: dict[str, float], says: str) -> None:
    with pytest.raises(BudgetMissed, match=says):
        World(SIX).find((), (), **limits)


def test_a_latency_over_the_limit_within_its_noise_is_taken_last() -> None:
    fastest = 10 - sum(item.faster or 0 for item in SIX if item.precision == "int8")
    found = World(SIX, noise=0.2).find(latency=fastest - 0.1)
    assert found.chosen.readings["latency"].value == pytest.approx(fastest)
    with pytest.raises(BudgetMissed):
        World(SIX, noise=0.2).find(latency=fastest - 0.3)


def test_reasons_for_floating_point() -> None:
    measured = [
        one("good", "int8", 1e-4, 1000, 2.0),
        one("slow", "int8", 1e-6, 1000, -0.1),
        one("slow", "int4", 1e-4, 1500, -0.5),
        one("spare", "int8", 1e-3, 1000, 1.0),
        one("large", "int8", 1e-6, -10, 0.5),
        one("equal", "int8", 1e-6, 100, -0.1, 0.2),
    ]
    world = World(measured)
    by_latency = world.find(latency=9, keep=["mine"], more=["strange"])
    assert by_latency.choice == {"good": "int8"}
    assert by_latency.reasons == {
        "slow": SLOWER, "equal": NO_FASTER, "spare": NOT_NEEDED, "large": NOT_NEEDED, "mine": KEPT, "strange": NO_KERNEL
    }  # fmt: skip
    by_accuracy = World(measured).find(acc=0.8985)
    assert by_accuracy.reasons == {"spare": TOO_SENSITIVE, "large": NO_SMALLER}


def test_budgets_that_make_no_sense() -> None:
    with pytest.raises(BadOption, match="in floating point keeps size <= 20 kB already"):
        World(SIX).find(size=20_000)
    with pytest.raises(BadOption, match="no limit to find"):
        World(SIX).find()
    with pytest.raises(BadOption, match="macs"):
        World(SIX).find(macs=5)
    with pytest.raises(BadOption, match="no group can be put into fewer bits"):
        World([]).find(size=5000)
    with pytest.raises(BadOption, match=r"0\.5x"):
        find(
            told(["g0"]), SIX[:1], [Limit(METRICS["size"], 0.5, relative=True)], {}, World(SIX).assess, lambda *_: None
        )


def test_a_real_graph_becomes_as_small_as_asked() -> None:
    given = subject()

    def ignored(*_: object) -> None:
        pass

    measured = sensitivities(given, first(inputs(), 2), Device(), timed=False, found=ignored, report=ignored)

    def assess(graph: onnx.ModelProto) -> dict[str, Reading]:
        return {"size": Reading(value=len(graph.SerializeToString()), unit="B", how="counted")}

    floating = assess(given.graph)
    aim = 0.5 * floating["size"].value
    found = find(given, measured, [Limit(METRICS["size"], aim)], floating, assess, ignored)
    size = len(given.lowered(found.choice).SerializeToString())
    assert 0.95 * aim < size == found.chosen.bytes <= aim
    assert set(found.reasons) == set(given.groups) - set(found.choice)

"""The judgement to requirements: verdicts, what binds, and which relaxation would do, on a space that can be counted through."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from wb.core.measures.metrics import parse_budget
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Asked, parse_requirements
from wb.core.space import Choices, Option
from wb.search.judgement.judge import Evidence, binding, judge
from wb.search.judgement.record import Judgement
from wb.search.judgement.relax import attainable, relaxation
from wb.search.judgement.shown import missed, preferred, rows, sentences
from wb.search.study.trials import readings_of

IMPOSSIBLE = Asked(parse_requirements(["latency<=4.5ms,acc>=0.8"]))


class Widths:
    genes: ClassVar[dict[str, tuple[Option, ...]]] = {f"b{i}.width": (1, 2, 3, 4) for i in range(4)}

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(choices)


def readings(choices: Choices) -> dict[str, Reading]:
    """Every unit of width costs a millisecond and is worth five points."""
    total = sum(map(int, choices.values()))
    acc = 0.3 + 0.05 * total
    return {
        "latency": Reading(value=total, unit="ms", how="measured", interval=(0.99 * total, 1.01 * total)),
        "acc": Reading(value=acc, unit="fraction", how="measured", interval=(acc - 0.02, acc + 0.02)),
    }


def trials(largest: int = 4) -> list[FrozenTrial]:
    """All networks with at most that total width over the least, in order."""
    found: list[FrozenTrial] = []
    for row in itertools.product((1, 2, 3, 4), repeat=4):
        choices = dict(zip(Widths.genes, row, strict=True))
        if sum(row) <= 4 + largest:
            known = readings(choices)
            trial = optuna.trial.create_trial(
                values=[known["acc"].value, known["latency"].value],
                params=choices,
                distributions={name: CategoricalDistribution(options) for name, options in Widths.genes.items()},
                user_attrs={"readings": {name: reading.model_dump(mode="json") for name, reading in known.items()}},
            )
            trial.number = len(found)
            found.append(trial)
    return found


@pytest.fixture(scope="module")
def unmet() -> Judgement:
    left: Mapping[int, Mapping[str, Reading]] = {0: readings(dict.fromkeys(Widths.genes, 1))}
    return judge(IMPOSSIBLE, (), Widths(), Evidence(trials(), left), None, 0)


def test_verdicts_and_what_binds(unmet: Judgement) -> None:
    assert not unmet.met
    first = unmet.verdicts[0]
    assert first["latency <= 4.5 ms"].state == "met"
    assert first["acc >= 80.00 %"].text.startswith("missed by 30.00 points")
    assert unmet.reached == 0
    assert sum(unmet.binding.values()) == unmet.evaluated == len(trials())
    assert unmet.binds == "acc >= 80.00 %"


def test_the_least_relaxation_is_what_the_archive_has_and_predictions_go_further(unmet: Judgement) -> None:
    """Nothing evaluated has 80 %, so relaxing latency does not help in the archive; the predictors know that ten would do."""
    latency = unmet.relaxations["latency <= 4.5 ms"]
    assert latency.network is None
    assert latency.predicted is not None
    assert latency.predicted.value == pytest.approx(10, abs=1.5)
    accuracy = unmet.relaxations["acc >= 80.00 %"]
    assert accuracy.network == 0
    assert accuracy.reading is not None
    assert accuracy.reading.value == pytest.approx(0.5)
    assert accuracy.predicted is not None
    assert accuracy.predicted.value == pytest.approx(0.5, abs=0.05)


def test_what_is_attainable_relaxes_one_requirement_by_least(unmet: Judgement) -> None:
    """All networks miss 80 %. Those that keep 4.5 ms miss it alone: the only one has a width of four, and half of it right."""
    assert unmet.attainable is not None
    assert unmet.attainable.network == 0
    assert unmet.attainable.requirements == ("latency <= 4.5 ms", "acc >= 50.00 %")


def test_where_one_is_not_enough_the_nearest_is_attainable_and_budgets_are_kept() -> None:
    asked = parse_requirements(["latency<=6ms,acc>=0.8"])
    known = {2: readings(dict.fromkeys(Widths.genes, 2)), 3: readings(dict.fromkeys(Widths.genes, 3))}
    several = attainable(parse_requirements(["latency<=4ms,acc>=0.95"]), known)
    assert several is not None
    assert several.network == 3
    assert several.requirements == ("latency <= 12.2 ms", "acc >= 90.00 %")
    single = attainable(asked, known)
    assert single is not None
    assert single.requirements == ("latency <= 12.2 ms", "acc >= 80.00 %")
    assert attainable(asked, {}) is None
    left = {0: readings(dict.fromkeys(Widths.genes, 1))}
    kept = judge(Asked(asked), parse_budget(["latency=4.2ms"]), Widths(), Evidence(trials(), left), None, 0)
    assert kept.attainable is not None
    assert kept.attainable.network == 0


def test_it_is_told_in_sentences_that_name_what_helps(unmet: Judgement) -> None:
    told = " ".join(sentences(unmet))
    assert "No network meets latency <= 4.5 ms, acc >= 80.00 %" in told
    assert "network 0 meets all others and has 50.00 % ±2.0 points (measured)" in told
    assert "acc >= 80.00 % binds most often" in told
    said = missed(unmet, "wb search --resume r")
    assert "network 0 is nearest (acc >= 80.00 %: missed by 30.00 points" in said
    assert "Search on with: wb search --resume r --trials N" in said
    assert 'wb search --resume r --sampler generate --require "latency<=4.5ms,acc>=50.00%"' in said
    assert rows(unmet)[0][0] == "0"
    assert preferred({"a": 0.2, "b": 0.8}) == "b 80 %, a 20 %"


def test_met_needs_no_relaxation() -> None:
    asked = Asked(parse_requirements(["latency<=9ms,acc>=0.6"]))
    left = {7: readings(dict.fromkeys(Widths.genes, 2))}
    found = judge(asked, (), Widths(), Evidence(trials(), left), None, 0)
    assert found.met
    assert found.meeting == (7,)
    assert not found.relaxations
    assert "One network meets" in sentences(found)[0]
    assert Judgement.model_validate_json(found.model_dump_json()) == found


def test_binding_counts_the_worst_of_each_network_once() -> None:
    asked = parse_requirements(["latency<=4ms,acc>=0.6"])
    known = {i: readings(dict.fromkeys(Widths.genes, i)) for i in (1, 2, 3, 4)}
    assert binding(asked, known) == {"latency <= 4 ms": 3, "acc >= 60.00 %": 1}


def test_where_nothing_helps_it_says_so() -> None:
    one, other = parse_requirements(["latency<=4ms,acc>=0.9"])
    found = relaxation(one, [other], {1: readings(dict.fromkeys(Widths.genes, 1))}, None)
    assert found.reading is None
    assert found.predicted is None


def test_predictions_are_of_networks_that_were_trained_alike() -> None:
    """Half of the networks were trained alone, and all of them are twelve points better then than as inherited."""
    found = trials()
    better = {
        trial.number: Reading(value=readings_of(trial)["acc"].value + 0.12, unit="fraction", how="measured")
        for trial in found[::2]
    }
    evidence = Evidence(found, {}, better, better)
    assert evidence.last(["acc"]).keys() == {trial.number for trial in found}
    assert evidence.fair(["acc"]).keys() == better.keys()
    assert all(evidence.fair(["acc"])[number]["acc"] == reading for number, reading in better.items())
    judgement = judge(IMPOSSIBLE, (), Widths(), evidence, None, 0)
    predicted = judgement.relaxations["latency <= 4.5 ms"].predicted
    assert predicted is not None
    assert predicted.value == pytest.approx(0.38 / 0.05, abs=1.0)
    few = dict(itertools.islice(better.items(), 3))
    assert len(Evidence(found, {}, few, few).fair(["acc"])) == len(found)


def test_a_prediction_that_is_no_better_than_what_was_evaluated_is_left_out() -> None:
    one, other = parse_requirements(["latency<=4ms,acc>=0.6"])
    known = {2: readings(dict.fromkeys(Widths.genes, 2))}
    assert relaxation(one, [other], known, 9.0).predicted is None
    better = relaxation(one, [other], known, 7.0).predicted
    assert better is not None
    assert better.value == 7.0

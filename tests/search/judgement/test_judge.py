"""The judgement to requirements: verdicts, what binds, and which relaxation would do, on a space that can be counted through."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import ClassVar

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from wb.core.readings import Reading
from wb.core.requirements import Asked, parse_requirements
from wb.core.space import Choices, Option
from wb.search.judgement.judge import binding, judge
from wb.search.judgement.record import Judgement
from wb.search.judgement.relax import relaxation
from wb.search.judgement.shown import missed, preferred, rows, sentences

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
    return judge(IMPOSSIBLE, Widths(), trials(), left, {}, None, 0)


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


def test_it_is_told_in_sentences_that_name_what_helps(unmet: Judgement) -> None:
    told = " ".join(sentences(unmet))
    assert "No network meets latency <= 4.5 ms, acc >= 80.00 %" in told
    assert "network 0 meets all others and has 50.00 % ±2.0 points (measured)" in told
    assert "acc >= 80.00 % binds most often" in told
    said = missed(unmet, "continue with: wb search --resume r")
    assert "network 0 is nearest (acc >= 80.00 %: missed by 30.00 points" in said
    assert "Relax one, for example acc >= 80.00 %" in said
    assert rows(unmet)[0][0] == "0"
    assert preferred({"a": 0.2, "b": 0.8}) == "b 80 %, a 20 %"


def test_met_needs_no_relaxation() -> None:
    asked = Asked(parse_requirements(["latency<=9ms,acc>=0.6"]))
    left = {7: readings(dict.fromkeys(Widths.genes, 2))}
    found = judge(asked, Widths(), trials(), left, {}, None, 0)
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

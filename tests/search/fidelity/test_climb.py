"""Candidates that climb: as many as the rungs have room for, none twice, and an interruption changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import FrozenTrial

from tests.hands import Here
from tests.search.conftest import DIGITS
from wb.core.measures.metrics import parse_budget
from wb.data import Dataset
from wb.hardware.device import Device
from wb.models.model import save
from wb.models.passes.base import apply
from wb.search.beginning.config import SearchConfig
from wb.search.crew.hands import Hands, Order
from wb.search.fidelity.climb import Climb
from wb.search.fidelity.forecast import Climbed, chosen, rung_counts
from wb.search.fidelity.rungs import Rung
from wb.search.fidelity.teacher import largest, largest_quality, unreliable
from wb.search.page.contents import read_trials
from wb.search.run import Run
from wb.search.study.trials import readings_of
from wb.search.supernet import Supernet
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.training.fit import Recipe
from wb.training.train import Finetune

CONFIG = SearchConfig(trials=12, rungs="5x1,3x2", finetune=4, finalists=2)


class _Killed(BaseException):
    """As a signal ends a process: in the middle, past every handler."""


@pytest.fixture
def trials(fabricate: Callable[..., Run]) -> Sequence[FrozenTrial]:
    run = fabricate(trials=12, finished=False, classes=("a", "b", "c"))
    return read_trials(run, run.read())


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return Supernet.fresh(Vit(TINY, DIGITS, 3, ("a", "b", "c"), "tiny"), 0)


def climb(supernet: Supernet, data: Dataset, note: Callable[[Climbed], None] = lambda _: None, **changes: Any) -> Climb:
    given = {
        "supernet": supernet,
        "teacher": largest(supernet),
        "requirements": (),
        "data": data,
        "device": Device(),
        "metrics": CONFIG.metrics,
        "limits": (),
        "rungs": CONFIG.halving,
        "recipe": lambda epochs: Recipe(epochs=epochs, learning_rate=1e-2),
        "seed": 0,
        "progress": lambda *_: None,
        "note": note,
        "hands": Hands(CONFIG, Path(), 1, print),
    }
    return Climb(**{**given, **changes})


def test_an_interrupted_climb_ends_as_one_that_was_not(
    supernet: Supernet, stripes: Dataset, trials: Sequence[FrozenTrial]
) -> None:
    some = replace(stripes, train=stripes.train.take(slice(0, 64)))
    whole = climb(supernet, some)(trials, {})
    assert {epochs: len(found) for epochs, found in whole.items()} == {1: 5, 2: 3}
    assert set(whole[2]) < set(whole[1])
    for kills in (2, 6):
        kept: list[Climbed] = []

        def note(climbed: Climbed, kept: list[Climbed] = kept, kills: int = kills) -> None:
            kept.append(climbed)
            if len(kept) == kills:
                raise _Killed

        with pytest.raises(_Killed):
            climb(supernet, some, note)(trials, {})
        again: list[Climbed] = []
        assert climb(supernet, some, again.append)(trials, kept[-1]) == whole
        assert len(again) == 8 - kills


def test_several_processes_climb_as_one_does(
    supernet: Supernet, stripes: Dataset, trials: Sequence[FrozenTrial]
) -> None:
    some = replace(stripes, train=stripes.train.take(slice(0, 64)))
    teacher = largest(supernet)

    def trained(order: Order) -> None:
        assert order.ranks
        tune = Finetune(some, order.recipe, teacher, 0)
        save(apply(tune, supernet.extract(order.architecture, some.train)), order.out)

    hands = Here(CONFIG, Path(), trained, leaves=True)
    kept: list[Climbed] = []
    assert climb(supernet, some, kept.append, hands=hands)(trials, {}) == climb(supernet, some)(trials, {})
    assert len(kept) == 8
    assert len(hands.done) == 5, "not the first of a rung, nor what they leave"


def test_training_alone_makes_better_and_finalists_are_of_the_last_rung(
    supernet: Supernet, stripes: Dataset, trials: Sequence[FrozenTrial]
) -> None:
    config = CONFIG.model_copy(update={"rungs": "5x1,3x8", "finalists": 1})
    whole = climb(supernet, stripes, rungs=config.halving)(trials, {})
    assert sum(whole[8][n].value - whole[1][n].value for n in whole[8]) > 0
    (found,) = chosen(config, trials, whole)
    assert found in whole[8]
    assert rung_counts(config, 12, whole) == (8, 8)


def test_only_candidates_within_the_budget_climb(
    supernet: Supernet, stripes: Dataset, trials: Sequence[FrozenTrial]
) -> None:
    sizes = sorted(readings_of(trial)["params"].value for trial in trials)
    limits = parse_budget([f"params={sizes[2]:.0f}", "acc=0.99"])
    whole = climb(supernet, stripes, limits=limits, rungs=(Rung(6, 1),))(trials, {})
    assert {trial.number for trial in trials if readings_of(trial)["params"].value <= sizes[2]} == set(whole[1])


def test_a_teacher_answers_what_the_largest_network_does_and_once(supernet: Supernet) -> None:
    teacher, biggest = largest(supernet), supernet.space.largest()
    images = torch.rand(5, 1, 8, 8)
    answer = teacher(images)
    torch.testing.assert_close(answer, supernet.run(biggest, images).detach())
    assert teacher(images.clone()) is answer
    assert teacher(images.flip(0)) is not answer
    assert not answer.requires_grad


def test_the_supernets_largest_network_teaches_who_needs_it(supernet: Supernet, stripes: Dataset) -> None:
    """Not where candidates alone were soon better; without any alone, not who will see the images more often than it did."""
    own = largest_quality(supernet, stripes).value
    assert unreliable(supernet, stripes, [own - 0.1, own], 0.5, 10) is None
    better = unreliable(supernet, stripes, [own + 0.1], 20, 10)
    assert better is not None
    assert f"alone, a candidate soon had {100 * (own + 0.1):.2f} %" in better
    assert unreliable(supernet, stripes, [], 10, 10) is None
    assert unreliable(supernet, stripes, [], math.inf, 10) is None, "one that started from a trained model"
    brief = unreliable(supernet, stripes, [], 0.63, 9)
    assert brief is not None
    assert "it saw the images 0.63 times, and they will 9 times" in brief

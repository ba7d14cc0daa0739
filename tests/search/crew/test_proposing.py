"""One worker that proposes for all: what it adds, when, and how the others take it."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.search.sampler.layers import Layers, Tiny, both, objective
from wb.search.crew.crew import Crew
from wb.search.crew.proposing import ADDING_S, EACH, NothingWaits, Proposer
from wb.search.sampler.batched import PREDICTED
from wb.search.sampler.guided import GuidedSampler

WORKERS = 4 * EACH


def proposer(folder: Path, space: type[Layers | Tiny] = Layers, workers: int = WORKERS) -> Proposer:
    sampler = GuidedSampler(space(), seed=0, initial=15, workers=workers)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    return Proposer(study, sampler, Crew(folder), workers)


def waiting(one: Proposer) -> list[optuna.trial.FrozenTrial]:
    return one.study.get_trials(states=(TrialState.WAITING,))


def do(one: Proposer, count: int) -> None:
    for _ in range(count):
        one.queue(one.study.get_trials(deepcopy=False)).optimize(objective(Layers(), both), n_trials=1)


def done(seconds: float) -> list[optuna.trial.FrozenTrial]:
    """Five evaluations that took so long each."""
    trial = optuna.trial.create_trial(values=[0.0, 0.0])
    trial.datetime_complete = datetime.now()
    trial.datetime_start = trial.datetime_complete - timedelta(seconds=seconds)
    return [trial] * 5


def test_it_serves_more_workers_than_can_well_propose_for_themselves(tmp_path: Path) -> None:
    few, many = proposer(tmp_path, workers=EACH), proposer(tmp_path)
    assert [few.serves(running, []) for running in (0, EACH - 1, EACH)] == [False, False, True]
    assert many.serves(0, [])
    short, long = (done(factor * WORKERS * ADDING_S) for factor in (0.9, 1.1))
    assert not many.serves(0, short), "it cannot keep up"
    assert many.serves(0, long)


def test_first_a_spread_start_for_all_then_batches_before_the_last_one_is_used_up(tmp_path: Path) -> None:
    one = proposer(tmp_path)
    assert one.fill([], 500)
    first = len(waiting(one))
    assert WORKERS - 5 < first <= WORKERS, "one for each, but for those that differ in inactive genes only"
    assert one.fill(one.study.trials, 500)
    assert len(waiting(one)) == first, "nobody is in need"
    ahead, one.planning = WORKERS // 4, 0.0
    do(one, first - ahead + 1)
    assert one.fill(one.study.trials, 500)
    found = waiting(one)
    assert len(found) == 2 * ahead - 1
    assert sum(PREDICTED in trial.user_attrs for trial in found) == ahead
    assert [term.state for term in one.lease.terms()] == [TrialState.COMPLETE] * 2
    rows = [tuple(trial.params.items()) for trial in one.study.trials]
    assert len(set(rows)) == len(rows)


def test_the_shorter_evaluations_are_the_more_candidates_wait(tmp_path: Path) -> None:
    """As many as are taken while a batch is planned, between a quarter of the workers and all of them."""
    one = proposer(tmp_path)
    one.planning = 2.0
    assert one.needed([]) == WORKERS // 4
    assert [one.needed(done(seconds)) for seconds in (0.0, 1.0, 4.0, 8.0, 100.0)] == [
        WORKERS,
        WORKERS,
        WORKERS // 2,
        WORKERS // 4,
        WORKERS // 4,
    ]


def test_no_more_than_is_wanted(tmp_path: Path) -> None:
    one = proposer(tmp_path)
    one.fill([], 10)
    assert len(waiting(one)) == 10
    do(one, 10)
    assert not one.fill(one.study.trials, 10)
    assert one.fill(one.study.trials, 12)
    assert len(waiting(one)) == 2


def test_workers_take_what_waits_and_write_no_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = proposer(tmp_path)
    one.fill([], 20)
    taken = []
    with monkeypatch.context() as patch:
        patch.setattr(type(one.study._storage), "set_trial_param", None)
        for _ in range(20):
            trial = one.queue(waiting(one)).ask()
            taken.append(tuple(trial.suggest_categorical(name, options) for name, options in Layers.genes.items()))
    assert len(set(taken)) == 20
    with pytest.raises(NothingWaits):
        one.queue(waiting(one)).ask()
    assert not waiting(one)


def test_nothing_is_planned_while_another_is_at_it(tmp_path: Path) -> None:
    one = proposer(tmp_path)
    other = Proposer(one.study, one.sampler, Crew(tmp_path), WORKERS)
    with other.crew.join(), other.lease.held():
        assert not one.fill([], 20)
    assert one.fill([], 20)


def test_what_others_claimed_while_a_batch_was_planned_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = proposer(tmp_path)
    plan = one.sampler.batch

    def slow(study: optuna.Study, least: int) -> list[optuna.trial.FrozenTrial]:
        found = plan(study, least)
        for trial in found[:5]:
            study.enqueue_trial(trial.params)
        return found

    monkeypatch.setattr(one.sampler, "batch", slow)
    one.fill([], WORKERS // 2)
    rows = [tuple(sorted((t.params or t.system_attrs["fixed_params"]).items())) for t in one.study.trials]
    assert len(rows) == len(set(rows)) == WORKERS // 2


def test_a_space_that_is_used_up_is_noticed(tmp_path: Path) -> None:
    one = proposer(tmp_path, Tiny)
    total = 0
    for _ in range(5):
        one.fill(one.study.trials, 50)
        total += len(found := waiting(one))
        for _ in found:
            values = objective(Tiny(), lambda c: [float(c["depth"]), float(c["0.width"])])
            one.queue(waiting(one)).optimize(values, n_trials=1)
        if one.exhausted:
            break
    assert (total, one.exhausted) == (12, True)
    assert not one.fill(one.study.trials, 50)


def test_a_batch_that_another_has_just_added_is_not_planned_again(tmp_path: Path) -> None:
    one = proposer(tmp_path)
    before = one.study.trials
    one.fill(before, 500)
    first = len(waiting(one))
    assert one.fill(before, 500), "it knows that some wait, though none did when it looked"
    assert len(waiting(one)) == first

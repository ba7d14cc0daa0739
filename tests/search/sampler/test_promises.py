"""What the sampler promises whatever it finds: about repeats, resuming and the end."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import optuna
import pytest
from optuna.trial import TrialState

from tests.processes import Program
from tests.search.sampler.layers import Layers, Tiny, both, cost, evaluated, gain, objective, study_of
from wb.core.errors import BadOption, NotInSpace, WbError
from wb.core.space import Choices, canonical
from wb.search.sampler.batched import SpaceExhausted
from wb.search.sampler.guided import GuidedSampler


@pytest.mark.parametrize("objectives", [1, 3, 4])  # two elsewhere
def test_any_number_of_objectives(objectives: int) -> None:
    functions: list[Callable[[Choices], float]] = [
        cost,
        lambda c: -gain(c),
        lambda c: abs(cost(c) - 14),
        lambda c: float(c["depth"]),
    ]
    study = study_of(["minimize"] * objectives, batch=10, initial=20)
    study.optimize(objective(Layers(), lambda c: [f(c) for f in functions[:objectives]]), n_trials=35)
    assert len(set(evaluated(study))) == 35
    assert set(cast(GuidedSampler, study.sampler).quality) == set(range(objectives))


def test_maximising_is_minimising_the_negative() -> None:
    up, down = (study_of([first, "minimize"], batch=15, initial=15) for first in ("maximize", "minimize"))
    up.optimize(objective(Layers(), lambda c: [gain(c), cost(c)]), n_trials=30)
    down.optimize(objective(Layers(), lambda c: [-gain(c), cost(c)]), n_trials=30)
    assert evaluated(up) == evaluated(down)
    for a, b in zip(up.trials[15:], down.trials[15:], strict=True):
        assert a.user_attrs["predicted"][0] == pytest.approx(-b.user_attrs["predicted"][0])


def test_the_same_seed_gives_the_same_search_and_another_seed_another() -> None:
    runs = [study_of(seed=seed, batch=15, initial=15) for seed in (5, 5, 6)]
    for study in runs:
        study.optimize(objective(Layers(), both), n_trials=25)
    assert evaluated(runs[0]) == evaluated(runs[1])
    assert evaluated(runs[0]) != evaluated(runs[2])


class TestTheEnd:
    def test_a_small_space_is_searched_completely_and_the_study_stops(self) -> None:
        study = study_of(space=Tiny(), batch=4, initial=4)
        study.optimize(objective(Tiny(), lambda c: [float(c["depth"]), float(c["0.width"])]), n_trials=100)
        assert len(set(evaluated(study, Tiny()))) == len(evaluated(study, Tiny())) == 3 + 9
        assert [trial.state for trial in study.trials[12:]] == [TrialState.PRUNED]

    def test_outside_of_optimize_it_is_an_error_of_ours(self) -> None:
        study = study_of(["minimize"], space=Tiny())
        for i in range(12):
            trial = study.ask()
            objective(Tiny(), lambda c: 0)(trial)
            study.tell(trial, float(i))
        with pytest.raises(SpaceExhausted, match="all 12 candidates") as raised:
            study.ask().suggest_categorical("depth", (1, 2))
        assert isinstance(raised.value, WbError)

    def test_known_candidates_are_left_out(self) -> None:
        known = [{"depth": 1, "0.width": w, "1.width": v} for w in (1, 2, 3) for v in (2, 3)]
        study = study_of(["minimize"], space=Tiny(), known=known)
        study.optimize(objective(Tiny(), lambda c: float(c["0.width"])), n_trials=100)
        assert len(evaluated(study, Tiny())) == 9
        assert all(trial.params["depth"] == 2 for trial in study.trials[:9])

    def test_failed_candidates_come_once_more_at_the_end(self) -> None:
        calls: list[str] = []

        def fails(choices: Choices) -> float:
            calls.append(str(canonical(Tiny(), choices)))
            if choices["0.width"] == 2:
                raise MemoryError
            return 1.0

        study = study_of(["minimize"], space=Tiny(), batch=6, initial=3)
        study.optimize(objective(Tiny(), fails), n_trials=100, catch=(MemoryError,))
        assert len(set(calls[:12])) == 12
        assert sorted(calls[12:]) == sorted({c for c in calls if "'0.width': 2" in c})


def test_infinite_values_are_no_obstacle() -> None:
    study = study_of(["minimize", "minimize"], batch=10, initial=10)
    values = lambda c: [cost(c), float("inf") if c["depth"] == 8 else -gain(c)]  # noqa: E731
    study.optimize(objective(Layers(), values), n_trials=40)
    assert len(set(evaluated(study))) == 40


def test_enqueued_candidates_are_evaluated_and_not_repeated() -> None:
    study = study_of(["minimize"], space=Tiny(), batch=4, initial=4)
    given = {"depth": 2, "0.width": 3, "1.width": 3}
    study.enqueue_trial(given)
    study.optimize(objective(Tiny(), lambda c: float(c["0.width"])), n_trials=100)
    assert study.trials[0].params == given
    assert len(set(evaluated(study, Tiny()))) == 12


def test_running_candidates_of_other_workers_are_not_proposed() -> None:
    study = study_of(["minimize"], space=Tiny(), batch=4, initial=4)
    trials = [study.ask() for _ in range(12)]
    seen = [str({n: trial.suggest_categorical(n, o) for n, o in Tiny.genes.items()}) for trial in trials]
    assert len(set(seen)) == 12


def test_threads_that_share_a_sampler_do_not_repeat() -> None:
    study = study_of(batch=8, initial=8)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: study.optimize(objective(Layers(), both), n_trials=10), range(4)))
    assert len(set(evaluated(study))) == 40


WORKER = """
import os, sys
import optuna
from tests.search.sampler.layers import GuidedSampler, Layers, both, objective
study = optuna.load_study(study_name="s", storage=sys.argv[1], sampler=GuidedSampler(Layers(), seed=0, batch=8, initial=8))
def dies(choices):
    if len(study.trials) > int(sys.argv[2]):
        os._exit(9)
    return both(choices)
study.optimize(objective(Layers(), dies), n_trials=12)
"""


def work(storage: str, trials: int) -> Program:
    return Program(WORKER, storage, trials)


def test_a_new_process_continues_after_a_killed_one_without_repeats(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(study_name="s", storage=storage, directions=["minimize", "maximize"])
    assert work(storage, 10).end().returncode == 9  # in the middle of the second batch, with a running trial
    sampler = GuidedSampler(Layers(), seed=0, batch=8, initial=8)
    study = optuna.load_study(study_name="s", storage=storage, sampler=sampler)
    assert [trial.state for trial in study.trials].count(TrialState.RUNNING) == 1
    study.optimize(objective(Layers(), both), n_trials=12)
    claimed = [str(canonical(Layers(), trial.params)) for trial in study.trials]
    assert len(set(claimed)) == len(claimed) == 10 + 1 + 12
    assert all("predicted" in trial.user_attrs for trial in study.trials[11:])


def test_processes_with_the_same_seed_share_a_study_without_repeats(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.create_study(study_name="s", storage=storage, directions=["minimize", "maximize"])
    workers = [work(storage, 10**6) for _ in range(2)]
    assert [worker.end().returncode for worker in workers] == [0, 0]
    assert len(set(evaluated(study))) == 24


def test_a_pickled_sampler_goes_on() -> None:
    study = study_of(batch=10, initial=10)
    study.optimize(objective(Layers(), both), n_trials=15)
    study.sampler = pickle.loads(pickle.dumps(study.sampler))
    study.optimize(objective(Layers(), both), n_trials=15)
    assert len(set(evaluated(study))) == 30


def test_other_parameters_than_genes_are_left_to_chance() -> None:
    study = study_of(["minimize"], space=Tiny())
    study.optimize(lambda trial: objective(Tiny(), lambda c: 0)(trial) + trial.suggest_float("rate", 0, 1), n_trials=5)
    assert len({trial.params["rate"] for trial in study.trials}) == 5


def test_wrong_use_is_refused() -> None:
    with pytest.raises(BadOption, match="at least 1"):
        GuidedSampler(Layers(), batch=0)
    with pytest.raises(BadOption, match="at least 2"):
        GuidedSampler(Layers(), initial=1)
    with pytest.raises(NotInSpace, match="missing"):
        GuidedSampler(Layers(), known=[{"depth": 2}])

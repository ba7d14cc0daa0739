"""The sampler on problems whose fronts are known, and what it promises about repeats, resuming and the end."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tests.processes import Program
from wb.core.errors import BadOption, NotInSpace, WbError
from wb.core.space import Choices, Option, canonical, random_choices
from wb.search.sampler.batched import SpaceExhausted
from wb.search.sampler.guided import GuidedSampler
from wb.search.sampler.hypervolume import hypervolume

optuna.logging.set_verbosity(optuna.logging.ERROR)


class Layers:
    """Up to eight layers with a width each; a width matters only below the depth."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {
        "depth": (2, 4, 6, 8),
        **{f"{i}.width": (1, 2, 3, 4) for i in range(8)},
    }

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(["depth", *(f"{i}.width" for i in range(int(choices["depth"])))])


class Tiny:
    """3 candidates of depth 1 and 9 of depth 2."""

    genes: ClassVar[dict[str, tuple[Option, ...]]] = {"depth": (1, 2), "0.width": (1, 2, 3), "1.width": (1, 2, 3)}

    def active(self, choices: Choices) -> frozenset[str]:
        return frozenset(list(self.genes)[: 1 + int(choices["depth"])])


def cost(choices: Choices) -> float:
    return float(sum(int(choices[f"{i}.width"]) for i in range(int(choices["depth"]))))


def gain(choices: Choices) -> float:
    """Early layers are worth more: the front gives the widths to them first."""
    return sum(int(choices[f"{i}.width"]) * (8 - i) for i in range(int(choices["depth"])))


def both(choices: Choices) -> list[float]:
    return [cost(choices), gain(choices)]


def objective(space: Any, function: Callable[[Choices], Any]) -> Callable[[optuna.Trial], Any]:
    return lambda trial: function(chosen(trial, space))


def chosen(trial: optuna.Trial, space: Any) -> Choices:
    """Every gene, asked for one by one."""
    return {name: cast(Option, trial.suggest_categorical(name, options)) for name, options in space.genes.items()}


def study_of(directions: Sequence[str] = ("minimize", "maximize"), **options: Any) -> optuna.Study:
    options = {"space": Layers(), "seed": 0, **options}
    return optuna.create_study(
        directions=[StudyDirection[d.upper()] for d in directions],
        sampler=GuidedSampler(options.pop("space"), **options),
    )


def evaluated(study: optuna.Study, space: Any = None) -> list[str]:
    trials = study.get_trials(states=(TrialState.COMPLETE,))
    return [str(canonical(space or Layers(), trial.params)) for trial in trials]


@pytest.fixture(scope="module")
def searches() -> list[optuna.Study]:
    """Two whole searches for the known front, with other seeds."""
    studies = [study_of(seed=seed, batch=20, initial=20) for seed in range(2)]
    for study in studies:
        study.optimize(objective(Layers(), both), n_trials=80)
    return studies


def test_no_candidate_twice_although_most_differ_in_inactive_genes(searches: list[optuna.Study]) -> None:
    study = searches[0]
    assert len(set(evaluated(study))) == 80
    assert [trial.params for trial in study.trials] == [canonical(Layers(), t.params) for t in study.trials]


def test_more_hypervolume_than_random_search_on_a_known_front(searches: list[optuna.Study]) -> None:
    rng = random.Random(0)
    gaps: dict[str, list[float]] = {"guided": [], "random": []}
    exact = []
    for depth in (2, 4, 6, 8):
        for extra in range(3 * depth + 1):  # widths grow from the first layer on
            widths = [1 + min(3, max(0, extra - 3 * i)) for i in range(depth)]
            exact.append([sum(widths), -sum(width * (8 - i) for i, width in enumerate(widths))])
    best = hypervolume(exact, [33, 0])
    for study in searches:
        gaps["guided"].append(best - hypervolume([[c, -g] for c, g in (t.values for t in study.trials)], [33, 0]))
        some = [random_choices(Layers(), rng) for _ in range(80)]
        gaps["random"].append(best - hypervolume([[cost(c), -gain(c)] for c in some], [33, 0]))
    assert min(gaps["guided"]) >= -1e-9
    assert np.mean(gaps["guided"]) < 0.15 * np.mean(gaps["random"])


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


def test_a_single_objective_is_driven_to_its_optimum() -> None:
    target = random_choices(Layers(), random.Random(3)) | {"depth": 8}

    def distance(choices: Choices) -> float:
        return float(sum(abs(int(choices[g]) - int(target[g])) for g in Layers.genes if choices[g] != target[g]))

    study = study_of(["minimize"], batch=10, initial=20)
    study.optimize(objective(Layers(), distance), n_trials=100)  # of some 87,000
    assert study.best_value <= 1


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


def test_predictions_are_kept_with_the_candidates_and_are_about_right(searches: list[optuna.Study]) -> None:
    study = searches[0]
    assert all("predicted" not in trial.user_attrs for trial in study.trials[:20])
    later = study.trials[20:]
    predicted = np.array([trial.user_attrs["predicted"] for trial in later])
    assert np.array([trial.user_attrs["predicted_std"] for trial in later]).shape == predicted.shape == (60, 2)
    for column, true in zip(predicted.T, np.array([trial.values for trial in later]).T, strict=True):
        assert np.corrcoef(column, true)[0, 1] > 0.9
    quality = cast(GuidedSampler, study.sampler).quality
    assert quality[0].samples == 60
    assert quality[0].kendall > 0.9


class TestConstraints:
    def test_set_on_the_trial(self) -> None:
        def limited(trial: optuna.Trial) -> list[float]:
            choices = chosen(trial, Layers())
            trial.set_constraint("cost", cost(choices) - 12)
            return both(choices)

        study = study_of(batch=20, initial=20)
        study.optimize(limited, n_trials=60)
        self.check(study)

    def test_given_as_a_function_that_optuna_knows_too(self) -> None:
        def excess(trial: FrozenTrial) -> list[float]:
            return [trial.user_attrs["cost"] - 12]

        def limited(trial: optuna.Trial) -> list[float]:
            choices = chosen(trial, Layers())
            trial.set_user_attr("cost", cost(choices))
            return both(choices)

        study = study_of(batch=20, initial=20, constraints_func=excess)
        study.optimize(limited, n_trials=60)
        self.check(study)
        assert all(trial.values[0] <= 12 for trial in study.best_trials)

    @staticmethod
    def check(study: optuna.Study) -> None:
        early, late = ([t.values[0] <= 12 for t in part] for part in (study.trials[:20], study.trials[20:]))
        assert np.mean(late) > 0.8 > np.mean(early)
        assert max(t.values[1] for t in study.trials if t.values[0] <= 12) >= 4 * (8 + 7 + 6) - 4

    def test_that_nothing_can_meet_come_as_near_as_possible(self) -> None:
        def impossible(trial: optuna.Trial) -> list[float]:
            choices = chosen(trial, Layers())
            trial.set_constraint("gain", 1000 - gain(choices))
            return both(choices)

        study = study_of(batch=10, initial=20)
        study.optimize(impossible, n_trials=50)
        assert (
            np.mean([t.values[1] for t in study.trials[20:]])
            > max(110, *(t.values[1] for t in study.trials[2:20])) - 40
        )


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

        study = study_of(["minimize"], space=Tiny(), batch=3, initial=3)
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
sys.path.insert(0, sys.argv[2])
from test_guided import *
study = optuna.load_study(study_name="s", storage=sys.argv[1], sampler=GuidedSampler(Layers(), seed=0, batch=8, initial=8))
def dies(choices):
    if len(study.trials) > int(sys.argv[3]):
        os._exit(9)
    return both(choices)
study.optimize(objective(Layers(), dies), n_trials=12)
"""


def work(storage: str, trials: int) -> Program:
    return Program(WORKER, storage, Path(__file__).parent, trials)


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


@pytest.mark.reference
def test_published_results_are_reached_on_nas_bench_macro(reference: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DyNAS-T's LINAS has a gap of 25 after 100 evaluations."""
    folder = reference / "data" / "nas"
    if not (folder / "problems.py").is_file():
        pytest.skip(f"{folder} has no problems.py")
    monkeypatch.syspath_prepend(str(folder))
    problem = __import__("problems").Macro()

    class Macro:
        genes: ClassVar[dict[str, tuple[Option, ...]]] = {f"x{i}": (0, 1, 2) for i in range(8)}

        def active(self, choices: Choices) -> frozenset[str]:
            return frozenset(choices)

    gaps = []
    for seed in range(3):
        study = study_of(["minimize", "minimize"], space=Macro(), seed=seed)
        study.optimize(objective(Macro(), lambda c: problem(list(c.values()))), n_trials=100)
        gaps.append(problem.best - hypervolume([trial.values for trial in study.trials], problem.reference))
    assert np.mean(gaps) < 25

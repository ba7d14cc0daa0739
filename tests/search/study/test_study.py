from __future__ import annotations

import random
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption, StorageFailed
from wb.core.measures.metrics import METRICS, Limit, parse_budget
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput
from wb.export.graph import ExportDiffers
from wb.models.counting import count_parameters
from wb.search.crew.crew import Crew
from wb.search.evaluate import Evaluation
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import public
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import choices_of, evaluated, readings_of
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit

METRICS2 = (METRICS["acc"], METRICS["params"])


@pytest.fixture
def space(image: ImageInput) -> Vit:
    return Vit(options_with(TINY, {"embed": [8, 16], "depth": [1, 2], "mixer": ["none", "pool", "softmax"]}), image, 3)


def evaluate(architecture: Architecture) -> Evaluation:
    """A stand-in with the same trade-off: more parameters, more accuracy."""
    params = count_parameters(architecture).value
    readings = {
        "acc": Reading(value=1 - 100 / params, unit="fraction", how="measured"),
        "params": Reading(value=params, unit="parameters", how="counted"),
    }
    return Evaluation(readings, {"score": 0.0})


def run(url: str, space: Vit, sampler: str, trials: int, limits: tuple[Limit, ...] = (), seed: int = 0) -> optuna.Study:
    exists = Path(url.removeprefix("sqlite:///")).exists()
    study = load_study(url, "s") if exists else create_study(url, "s", METRICS2)
    crew = Crew(Path(url.removeprefix("sqlite:///")).parent)
    study.sampler = make_sampler(sampler, space, limits, seed, crew.name)  # type: ignore[arg-type]
    Optimization(study, space, METRICS2, limits, evaluate, trials, lambda done, trial: None, crew)()
    return study


def keys(space: Vit, trials: list[FrozenTrial]) -> list[str]:
    return [str(choices_of(space, trial)) for trial in trials]


@pytest.mark.parametrize("sampler", ["guided", "nsga2", "tpe", "random"])
def test_every_sampler_gives_as_many_different_candidates_as_asked_also_in_a_second_process(
    space: Vit, tmp_path: Path, sampler: str
) -> None:
    """Which does not draw again what the first drew, although the seed is the same."""
    url = f"sqlite:///{tmp_path}/a.db"
    first = run(url, space, sampler, 20)
    before, numbers = len(first.trials), [trial.number for trial in evaluated(first)]
    study = run(url, space, sampler, 22)
    found = evaluated(study)
    assert [trial.number for trial in found][:20] == numbers
    assert len(set(keys(space, found))) == len(found) == 22
    assert len(study.trials) - before <= 8


def test_a_trial_remembers_its_readings_and_violations(space: Vit, tmp_path: Path) -> None:
    limits = parse_budget(["params=1k"])
    study = run(f"sqlite:///{tmp_path}/a.db", space, "guided", 8, limits)
    for trial in evaluated(load_study(f"sqlite:///{tmp_path}/a.db", "s")):
        expected = evaluate(space.decode(choices_of(space, trial))).readings
        assert readings_of(trial) == expected
        assert trial.values == [expected["acc"].value, expected["params"].value]
        assert (trial.user_attrs["violations"][0] > 0) is (expected["params"].value > 1000)
    assert study.metric_names == ["acc", "params"]


def test_a_candidate_that_does_not_export_fails_alone(space: Vit, tmp_path: Path) -> None:
    rng = random.Random(0)

    def moody(architecture: Architecture) -> Evaluation:
        if rng.random() < 0.3:
            raise ExportDiffers("differs")
        return evaluate(architecture)

    study = create_study(f"sqlite:///{tmp_path}/a.db", "s", METRICS2)
    study.sampler = make_sampler("guided", space, (), 0)
    Optimization(study, space, METRICS2, (), moody, 20, lambda done, trial: None, Crew(tmp_path))()
    assert len(evaluated(study)) == 20
    assert any(trial.state == optuna.trial.TrialState.FAIL for trial in study.trials)


def test_a_small_space_ends_when_it_is_exhausted(image: ImageInput, tmp_path: Path) -> None:
    changes = {"embed": [8, 16], "depth": [1], "stem_width": [8], "mixer": ["none", "pool"], "mlp": [0, 1]}
    space = Vit(options_with(TINY, changes), image, 3)
    study = run(f"sqlite:///{tmp_path}/a.db", space, "guided", 100)
    assert len(evaluated(study)) == 8


def test_a_damaged_database_is_named_and_left_alone(space: Vit, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(BadArtefact, match=r"the study at .*a\.db is damaged"):
        run(f"sqlite:///{path}", space, "random", 3)
    assert path.read_bytes() == b"this is no database" * 100


@pytest.mark.parametrize(
    ("url", "error", "words"),
    [
        ("nonsense", BadOption, "nonsense cannot be used"),
        ("oracle9://x/y", BadOption, "give an Optuna URL"),
        ("sqlite:////proc/none/a.db", StorageFailed, "cannot be used"),
    ],
)
def test_wrong_storages(space: Vit, url: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        run(url, space, "random", 3)


def test_two_runs_never_share_a_study(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    create_study(url, "s", METRICS2)
    with pytest.raises(BadOption, match="has a study 's' already"):
        create_study(url, "s", METRICS2)


def test_passwords_are_not_shown() -> None:
    assert "SECRET" not in public("postgresql+psycopg2://me:SECRET@host/db")
    with pytest.raises(BadOption) as caught:
        create_study("nodatabase://me:SECRET@host/db", "s", METRICS2)
    assert "SECRET" not in str(caught.value)


def test_a_last_block_that_is_off_is_no_other_network(space: Vit, tmp_path: Path) -> None:
    """It gets the values of the network without it, and is not evaluated again."""
    one = {name: options[0] for name, options in space.genes.items()} | {"b0.mixer": "pool"}
    two = one | {"depth": 2, "b1.mixer": "none", "b1.mlp": 0.0}
    study = create_study(f"sqlite:///{tmp_path}/a.db", "s", METRICS2)
    for choices in (one, two):
        study.enqueue_trial(choices)
    asked: list[Architecture] = []

    def counting(architecture: Architecture) -> Evaluation:
        asked.append(architecture)
        return evaluate(architecture)

    study.sampler = make_sampler("random", space, (), 0)
    Optimization(study, space, METRICS2, (), counting, 2, lambda done, trial: None, Crew(tmp_path))()
    assert len(asked) == 2
    assert study.trials[1].user_attrs["repeat_of"] == 0
    assert study.trials[1].values == study.trials[0].values


def test_a_missing_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="there is no study at"):
        load_study(f"sqlite:///{tmp_path}/a.db", "x")
    assert not (tmp_path / "a.db").exists()

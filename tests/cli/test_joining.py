"""Workers without the run folder: they find what they need in the storage, or a cluster of Ray gives it to them."""

from __future__ import annotations

import json
import os
import re
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.commands import succeeded, wb
from wb.search.crew.on_ray import OnRay
from wb.search.crew.shelf import Shelf
from wb.search.run import Run
from wb.search.study.storage import file_url, open_storage
from wb.search.study.study import load_study
from wb.search.study.trials import WORKER, evaluated

SMALL = ["--epochs", "1", "--finetune", "0", "--limit", "100", "--set", "embed=8,16", "--set", "depth=1"]
SMALL += ["--objectives", "acc,params", "--rungs", "none", "--finalists", "1"]
TRIALS = 3


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, str, str]:
    """A finished run whose study is in a storage that others may reach, the URL of that, and what the search said."""
    folder = tmp_path_factory.mktemp("shared")
    url = file_url(folder / "there.db")
    done = succeeded("search", *SMALL, "--trials", TRIALS, "--storage", url, "-o", folder / "run")
    return Run(folder / "run"), url, done.stderr


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where joined workers keep their folders."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "wb" / "joined"


def refused(*arguments: object) -> str:
    """What a command says that does not go, in one line."""
    result = wb(*arguments)
    assert result.exit_code == 2, result.output
    return " ".join(result.output.split())


def changed(run: Run, url: str, **fields: object) -> Mapping[str, bytes]:
    """Has the storage say something else of the run; returns the files that are there."""
    study = run.read().study
    record = json.loads(run.record_path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        record[name] = {**record[name], **value} if isinstance(value, dict) else value
    Shelf(url, study).put({run.record_path.name: json.dumps(record).encode()})
    return Shelf(url, study).get()


def test_a_machine_without_the_run_folder_evaluates_what_is_missing(shared: tuple[Run, str, str], place: Path) -> None:
    run, url, said = shared
    study = run.read().study
    assert re.search(rf"wb search --join {study} --storage \S+there\.db", said)
    assert changed(run, url, config={"trials": TRIALS + 2})["supernet.safetensors"] == run.supernet_path.read_bytes()
    done = succeeded("search", "--join", study, "--storage", url, "--json")
    assert json.loads(done.stdout) == {"study": study, "evaluated": TRIALS + 2}
    trials = evaluated(load_study(url, study))
    here = Counter("." in str(trial.user_attrs[WORKER]) for trial in trials)  # a joined machine has another name
    assert here == {False: TRIALS, True: 2}
    assert not list(place.glob("*")), "nothing is left behind"


def test_a_storage_is_enough_where_one_run_is_under_way(shared: tuple[Run, str, str], place: Path) -> None:
    run, url, _ = shared
    name = run.read().study
    study = load_study(url, name)
    wanted = len(evaluated(study)) + 1
    assert "has no run under way" in refused("search", "--join", url)
    assert "--storage does too" in refused("search", "--join", url, "--storage", url)
    assert "***" in refused("search", "--join", "postgresql://me:SECRET@host/db", "--storage", url)
    assert Shelf.studies(file_url(place / "none.db")) == {}
    changed(run, url, config={"trials": wanted})
    study.enqueue_trial({})
    done = succeeded("search", "--join", url, "--json")
    assert json.loads(done.stdout) == {"study": name, "evaluated": wanted}


def test_several_runs_under_way_are_named(tmp_path: Path) -> None:
    url = file_url(tmp_path / "there.db")
    for name in ("b", "a"):
        optuna.create_study(storage=open_storage(url, create=True), study_name=name).enqueue_trial({})
        Shelf(url, name).put({})
    study = load_study(url, "b")
    study._storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.RUNNING)
    said = refused("search", "--join", url)
    assert re.search(
        r"several runs under way \(a, not begun; b, last at work [\d.]+ [\d:]+\); say which with --join STUDY", said
    )
    study._storage.set_trial_state_values(study.trials[0]._trial_id, TrialState.COMPLETE, [0.0])
    assert Shelf.studies(url) == {"a": None}


def test_a_machine_of_another_kind_is_told_what_differs(shared: tuple[Run, str, str], place: Path) -> None:
    run, url, _ = shared
    changed(run, url, versions={"onnxruntime": "0.1"}, machine={"device": "cpu: abacus, onnxruntime 0.1, 1 thread"})
    said = refused("search", "--join", run.read().study, "--storage", url)
    assert "onnxruntime: 0.1 there" in said
    assert "abacus" in said
    assert not list(place.glob("*"))


def test_a_machine_with_other_data_is_told_which(shared: tuple[Run, str, str], place: Path) -> None:
    run, url, _ = shared
    changed(run, url, data={"fingerprint": "0" * 16})
    result = wb("search", "--join", run.read().study, "--storage", url)
    assert result.exit_code == 1, result.output
    said = " ".join(result.output.split())
    assert "the data at 'digits' are not those of the run, 'digits' there (fingerprint" in said
    assert f"there {'0' * 16}); bring the same files to this machine, and say with --data where they are" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--join", "none"], "needs the storage"),
        (["--join", "none", "--storage", "URL"], "no files of a run called 'none'"),
        (["--join", "../none", "--storage", "URL"], "no name of a study"),
        (["--join", "none", "--storage", "URL", "--trials", "3", "--dry-run"], "leave out --dry-run, --trials"),
        (["--ray", "local"], "say --workers 2 or more"),
    ],
)
def test_what_cannot_be_joined_is_refused(shared: tuple[Run, str, str], options: list[str], said: str) -> None:
    assert said in refused("search", *(shared[1] if option == "URL" else option for option in options))


def test_a_worker_on_ray_evaluates_what_is_missing(
    shared: tuple[Run, str, str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    )
    run, url, _ = shared
    study = load_study(url, run.read().study)
    wanted = len(evaluated(study)) + 2
    config = run.read().config.model_copy(update={"storage": url, "trials": wanted})
    told: list[str] = []
    with OnRay("local", config, run, 1, told.append):
        until = time.monotonic() + 240
        while len(evaluated(study)) < wanted:
            assert time.monotonic() < until
            time.sleep(0.1)
    assert not told
    assert all("." in str(trial.user_attrs[WORKER]) for trial in evaluated(study)[-2:])
    assert not study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
    assert not list(place.glob("*"))


def test_no_cluster_at_an_address_is_told_before_there_is_work(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    result = wb("search", *SMALL, "--ray", "127.0.0.1:1", "--workers", "2", "-o", tmp_path / "run")
    assert result.exit_code == 1, result.output
    assert "no cluster of Ray answers at '127.0.0.1:1'" in " ".join(result.output.split())
    assert "reading the data" not in result.output
    assert not (tmp_path / "run").exists()

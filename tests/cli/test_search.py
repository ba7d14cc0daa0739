"""`wb search` by several processes at once, in odd places, and where it has to say no before it spends time."""

from __future__ import annotations

import html
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from PIL import Image

from tests.commands import succeeded, wb
from tests.processes import Command
from wb.core.architecture import Architecture
from wb.data import load as load_data
from wb.jobs.verbs.classifier import Classifier
from wb.models.model import load as load_model
from wb.search.crew.crew import FOLDER
from wb.search.ending.finalists import Finish
from wb.search.planning.costs import Probe
from wb.search.planning.enough import Epochs
from wb.search.planning.seconds import Costs
from wb.search.results.answers import read_answers
from wb.search.results.baselines import read_baselines
from wb.search.results.curves import read_curves
from wb.search.run import Run
from wb.search.study.storage import file_url
from wb.search.study.study import load_study
from wb.search.study.trials import evaluated

SMALL = ["--epochs", "1", "--finetune", "1", "--limit", "200", "--set", "embed=8,16", "--set", "depth=1,2"]
COUNTED = ["--objectives", "acc,params"]
RUNGS = ["--rungs", "5x1,3x2", "--finalists", "2"]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that two processes worked on, and what the second said; its folder has a name that no URL would have."""
    folder = tmp_path_factory.mktemp("odd") / "a?b#c 50%41 é{x}"
    first = Command("search", *SMALL, *COUNTED, *RUNGS, "--trials", 12, "--flip", "-o", folder).until(
        (folder / "run.json").exists
    )
    second = succeeded("search", "--resume", folder, "--json")
    done = first.end()
    assert done.returncode == 0, done.stderr
    assert json.loads(second.stdout)["front"] == json.loads((folder / "front.json").read_text(encoding="utf-8"))
    return folder, second.stderr


def test_finalists_that_were_flipped_have_twins_with_the_same_weights(together: tuple[Path, str]) -> None:
    points = Run(together[0]).read_front()
    named = {number for point in points for number in (point.id, *point.alike)}
    assert {1000 + point.number for point in points} <= named  # in the front, or not to be told from a network of it
    for point in points:
        model = load_model(together[0] / point.model)
        assert model.architecture.image.mirrored == (point.mirrors is not None)
        assert [step.name for step in model.history].count("mirror") == model.architecture.input.views - 1


def test_the_script_on_the_page_of_a_fresh_run_names_pictures(together: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = together
    page = (folder / "report.html").read_text(encoding="utf-8")
    code = html.unescape(page.partition('<code id="script">')[2].partition("</code>")[0])
    image = load_data("digits").test.images[0]
    Image.fromarray(image[0]).save(tmp_path / "picture.png")
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "picture.png")]
    said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    best = next(point for point in Run(folder).read_front() if point.onnx in code)
    name, chance = said.removeprefix(f"{tmp_path / 'picture.png'}: ").split()
    assert name == Classifier(folder / best.onnx)(image)[0]
    assert 10 < float(chance.strip("(%)")) <= 100


def test_a_fresh_run_knows_what_its_networks_answered_and_how_they_were_trained(together: tuple[Path, str]) -> None:
    run = Run(together[0])
    answers, points = read_answers(run.answers_path), run.read_front()
    assert answers is not None
    assert sorted(answers.networks) == sorted(point.id for point in points)
    for point in points:
        matrix = answers.networks[point.id].matrix(len(answers.classes))
        assert (matrix.sum(), matrix.trace() / matrix.sum()) == (point.test.n, point.test.value)
    curves = read_curves(run.curves_path)
    assert {"supernet", *(str(point.number) for point in points)} <= set(curves)
    assert {epoch for curve in curves.values() for epoch, _ in curve} == {1}


def test_known_networks_are_trained_beside_a_front_which_has_none_of_them(
    together: tuple[Path, str], tmp_path: Path
) -> None:
    run = Run(Path(shutil.copytree(together[0], tmp_path / "run")))
    before, names = run.read_front(), {"transformer-8", "transformer-16"}
    planned = succeeded("search", "--resume", run.folder, "--baselines", "--dry-run")
    assert "up to 3 known networks" in " ".join(planned.stdout.replace("│", " ").split())
    succeeded("search", "--resume", run.folder, "--baselines")
    found = read_baselines(run.baselines_path)
    assert {one.name for one in found} == names
    assert all({"acc", "latency", "params"} <= one.values.keys() and one.test is not None for one in found)
    assert [point.id for point in run.read_front()] == [point.id for point in before]
    assert names <= read_curves(run.curves_path).keys()
    page = run.report_path.read_text(encoding="utf-8")
    shown = succeeded("show", run.folder).stdout
    assert all(f"known network {name}: " in text for name in names for text in (page, shown))
    kept, lost = sorted(run.beside.glob("*.safetensors"))
    changed, model = kept.stat().st_mtime_ns, load_model(lost)
    lost.unlink()  # as if the run had been killed in between
    run.front_path.unlink()
    run.baselines_path.unlink()
    succeeded("search", "--resume", run.folder)
    again = load_model(lost)
    assert again.history == model.history
    assert all(torch.equal(again.weights[name], weight) for name, weight in model.weights.items())
    assert kept.stat().st_mtime_ns == changed
    assert {one.name for one in read_baselines(run.baselines_path)} == names
    refused = wb("search", *SMALL, "--set", "mixer=none,pool", "--baselines", "-o", tmp_path / "other")
    assert refused.exit_code == 2
    assert "has no known network" in refused.stderr


def test_two_processes_on_one_run_do_it_once(together: tuple[Path, str]) -> None:
    """Exactly as many candidates as were asked for, none twice, one front, and the second said that it waited or joined."""
    folder, said = together
    assert "another process" in " ".join(said.split())
    done = evaluated(load_study(file_url(folder / "study.db"), "search"))
    assert len(done) == len({json.dumps(trial.params) for trial in done}) == 12
    assert not (folder / "finalists").exists()
    assert not (folder / "supernet.checkpoint.pt").exists()
    points, record = Run(folder).read_front(), Run(folder).read()
    assert {epochs: len(climbed) for epochs, climbed in record.rungs.items()} == {1: 5, 2: 3}
    assert {point.number for point in points} <= set(record.rungs[2])
    kept = {f"{point.id}.{kind}" for point in points for kind in ("onnx", "safetensors")}
    kept |= {f"{point.number}.safetensors" for point in points}  # a twin's own network is there, too
    assert {path.name for path in (folder / "models").iterdir()} == kept
    assert not list((folder / FOLDER).glob("worker-*"))


def test_everything_of_a_run_is_in_its_folder_whatever_its_name(together: tuple[Path, str]) -> None:
    folder, _ = together
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert (folder / "study.db").is_file()
    shown = succeeded("show", folder)
    assert "12 of 12 candidates evaluated" in shown.stdout
    assert "mixers by depth and number of tokens" in shown.stdout
    assert "continue with" not in shown.stdout


def test_a_dry_run_of_a_continuation_plans_what_is_left(together: tuple[Path, str]) -> None:
    folder, _ = together
    before = (folder / "run.json").read_bytes(), (folder / "front.json").read_bytes()
    result = succeeded("search", "--resume", folder, "--trials", 15, "--dry-run", "--json")
    stages = {stage["name"]: stage for stage in json.loads(result.stdout)}
    assert (stages["supernet"]["what"], stages["supernet"]["seconds"]) == ("is trained", 0)
    assert stages["search"]["what"].startswith("3 evaluations by")
    assert "12 of 15 are there" in stages["search"]["what"]
    assert ((folder / "run.json").read_bytes(), (folder / "front.json").read_bytes()) == before


def test_helpers_evaluate_with_the_search_and_end_with_it(together: tuple[Path, str], tmp_path: Path) -> None:
    folder = shutil.copytree(together[0], tmp_path / "run")
    result = succeeded("search", "--resume", folder, "--trials", 15, "--workers", 2, "--json")
    study = load_study(file_url(folder / "study.db"), "search")
    assert len(evaluated(study)) == 15
    assert not {TrialState.RUNNING, TrialState.FAIL} & {trial.state for trial in study.trials}
    assert "ended early" not in result.stderr
    assert wb("search", "--workers", 0).exit_code == 2


def test_a_front_is_not_lost_to_a_table_that_cannot_be_kept(
    together: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(together[0], tmp_path / "run")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    result = succeeded("search", "--resume", folder, "--finetune", 0)
    assert "the per-block latency table was not checked" in result.stderr
    assert Run(folder).read().table is None
    assert Run(folder).read_front()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_cache_that_cannot_be_written_is_found_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dry: list[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/cache")
    result = wb("search", *SMALL, "--latency", "table", "-o", tmp_path / "run", *dry)
    assert result.exit_code == 1
    assert "could not make /dev/null/cache/wb" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--set", "embd=16"], 2, "no field 'embd' (did you mean 'embed'?); its fields are embed"),
        (["--preset", "tinny"], 2, "no preset 'tinny' (did you mean 'tiny'?)"),
        (["--set", "embed=60000"], 2, "cannot be built (mlp: Input should be less than or equal to 65536)"),
        (["--set", "embed=30000"], 2, "of memory, of which there are"),
        (
            ["--set", "embed=1000000", "--set", "heads=1000000", "--set", "qk=1000000"],
            2,
            "choose fewer or smaller options",
        ),
        (["--set", "depth=100000"], 2, "less than or equal to 256"),
        (["--storage", "sqlite://"], 2, "keeps nothing"),
        (["--data", "imagefolder:~nosuchuser/images"], 2, "nosuchuser"),
        (["--threads", "100000"], 2, "threads"),
        (["--rungs", "20x1,30x3"], 2, "rung 30x3 does not have fewer candidates"),
        (["--rungs", "6x1", "--finalists", "8"], 2, "rung 6x1 leaves fewer candidates than 8 finalists"),
        (["--trials", "4", "--finalists", "8"], 2, "8 finalists need --trials 8 or more"),
        (["--time", "soon"], 2, "'soon' is no duration; write for example 90s"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = wb("search", *arguments, "-o", "run")
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert len(result.stderr.strip().splitlines()[-1:]) == 1
    assert "mistake" not in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_dry_run_says_sizes_classes_finalists_and_what_a_budget_leaves() -> None:
    given = ["--budget", "params=5k", "--budget", "latency=1000ms", "--trials", 25, "--workers", 2]
    result = succeeded("search", *SMALL, *given, "--dry-run", "--json")
    what = {stage["name"]: stage["what"] for stage in json.loads(result.stdout)}
    assert "images of 1x8x8 in 10 classes" in what["data"]
    assert "25 evaluations in 2 processes" in what["search"]
    assert "% of the space is within params <= 5 k, latency <= 1000 ms" in what["search"]
    assert "of 100 drawn at random, latency predicted from the smallest and the largest network" in what["search"]
    assert what["finalists"].startswith("about 5, each fine-tuned for 1 epoch")


def slow(seconds: float) -> Probe:
    costs = {"alone": 2, "sandwich": 6, "tune": 2, "teach": 1, "score": 1}
    return Probe(Costs(evaluation=0.5, timing=0.0, **{name: seconds * times for name, times in costs.items()}), {})


def test_a_search_that_is_given_a_time_keeps_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Costs are made up, and so high that the plan is small; a dry run plans the same."""
    for module in ("planning.plan", "planning.costs"):
        monkeypatch.setattr(f"wb.search.{module}.probe", lambda *_: slow(0.5))
    monkeypatch.setattr("wb.search.planning.enough.epochs_left", lambda *_: Epochs(3, 2))
    asked: list[Architecture] = []

    def epoch(_: Any, __: Any, network: Architecture, ___: Any) -> float:
        """The first finalist is said to take forever."""
        asked.append(network)
        return 1e9 if network == asked[0] else 0.0

    monkeypatch.setattr("wb.search.ending.ending.epoch_seconds", epoch)
    made, finish = list[list[int]](), Finish.__call__

    def noted(self: Finish, finalists: Any) -> Any:
        made.append([*finalists])
        return finish(self, finalists)

    monkeypatch.setattr(Finish, "__call__", noted)
    small = ["--limit", "60", *SMALL[6:], *COUNTED, "--trials", "12", "--time", "3min"]
    result = wb("search", *small, "--time", "20s", "--dry-run")
    assert result.exit_code == 2
    assert "--time 20s is too short: the smallest search of this space on these data takes about" in result.stderr
    dry = wb("search", *small, "--dry-run", "--json")
    assert dry.exit_code == 0, dry.output
    result = wb("search", *small, "-o", tmp_path / "run")
    assert result.exit_code == 0, result.output
    run = Run(tmp_path / "run")
    record = run.read()
    assert record.plan is not None
    assert record.plan.text().split(" trials")[0] in result.stderr
    assert "the largest finalist, and 2 for each of the others fit into the time" in result.stderr
    assert (record.plan.finetune, record.plan.settled) == (2, True)
    epochs = {number: len(curve) for number, curve in read_curves(run.curves_path).items()}
    assert record.plan.first_epochs == 3
    assert len(made[0]) > 1
    assert sorted(epochs[str(number)] for number in made[0]) == [*[2] * (len(made[0]) - 1), 3]
    assert record.plan.settings == {name: getattr(record.config, name) for name in record.plan.settings}
    told = next(stage["what"] for stage in json.loads(dry.stdout) if stage["name"] == "time")
    assert told.split(" of the supernet")[0] == record.plan.text().split(" of the supernet")[0]
    again = wb("search", "--resume", tmp_path / "run", "--dry-run", "--json")
    assert "the front is there" in again.stdout
    run.report_path.unlink()  # as if it had been ended just before it wrote it
    again = wb("search", "--resume", run.folder)
    assert run.report_path.exists(), again.output
    run.front_path.unlink()
    again = wb("search", "--resume", run.folder)
    assert again.exit_code == 0, again.output
    assert len(record.plan.dear) == 1
    assert made[0] == made[1], "who was too dear stays left out"
    refused = wb("search", "--resume", tmp_path / "run", "--time", "1h")
    assert "--time cannot change when a run is resumed" in refused.stderr

"""The commands as a user runs them, on one small run that the whole file shares."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from tests.commands import succeeded, wb
from tests.processes import Command, Done
from wb.core.precision import precisions
from wb.data import load
from wb.export.graph import read_architecture
from wb.models.model import load as load_model
from wb.search.run import Run
from wb.search.study.study import load_study
from wb.search.study.trials import evaluated

LIMIT = 300
SMALL = ["--epochs", "2", "--finetune", "1", "--limit", str(LIMIT), "--set", "embed=8,16", "--set", "depth=1,2"]
COUNTED = ["--objectives", "acc,params"]  # for tests that nothing need be timed in
QUICK = [*SMALL, *COUNTED, "--epochs", "1", "--finetune", "0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished search: 2 epochs, 8 candidates."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    succeeded("search", *SMALL, "--trials", 8, "-o", folder)
    return folder


def test_a_run_leaves_what_it_promises(run: Path) -> None:
    assert {path.name for path in run.iterdir()} >= {
        "run.json",
        "study.db",
        "supernet.safetensors",
        "largest.safetensors",
        "front.json",
        "answers.json",
        "curves.json",
        "models",
        "report.html",
    }
    points = Run(run).read_front()
    assert points
    latencies = [point.values["latency"].value for point in points]
    assert latencies == sorted(latencies)
    files = {f"models/{path.name}" for path in (run / "models").iterdir()}
    assert files == {path for point in points for path in (point.model, point.onnx)}
    assert Run(run).read().table is not None
    (stage,) = load_model(run / "largest.safetensors").architecture.stages
    assert (stage.embed, len(stage.blocks)) == (16, 2)


def check_front(folder: Path) -> None:
    """Every accuracy of `front.json`, recomputed from its ONNX file with nothing but the runtime."""
    data = load("digits", limit=LIMIT)
    for point in Run(folder).read_front():
        session = onnxruntime.InferenceSession(str(folder / point.onnx), providers=["CPUExecutionProvider"])
        for split, reported in ((data.test, point.test), (data.validation, point.values["acc"])):
            (logits,) = session.run(None, {"pixel_values": split.pixels()})
            assert float(np.mean(logits.argmax(1) == split.labels)) == reported.value
        assert (folder / point.onnx).stat().st_size == point.values["size"].value


def test_reported_accuracies_are_those_of_the_files(run: Path) -> None:
    check_front(run)


def test_precision_is_searched_and_every_file_has_what_its_architecture_says(tmp_path: Path) -> None:
    given = ["--precision", "int8,fp32", "--objectives", "acc,latency,size", "--trials", 6]
    result = succeeded("search", *SMALL, *given, "-o", tmp_path / "run")
    points = Run(tmp_path / "run").read_front()
    kinds = {"MatMulInteger", "ConvInteger"}
    quantized = 0
    for point in points:
        model = load_model(tmp_path / "run" / point.model)
        chosen = precisions(model.architecture)
        nodes = onnx.load(tmp_path / "run" / point.onnx).graph.node
        assert any(node.op_type in kinds for node in nodes) is ("int8" in chosen.values())
        quantized += "int8" in chosen.values()
        assert read_architecture(tmp_path / "run" / point.onnx) == model.architecture
    assert quantized
    assert "groups int8" in " ".join(result.stdout.split())
    assert wb("search", "--precision", "int8", "--set", "precision=fp32").exit_code == 2
    assert wb("search", "--precision", "w1,fp32").exit_code == 2


def test_the_front_and_its_files_stay_together_when_finishing_is_interrupted(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wb.search.ending.finalists.table_error", fail)
        assert wb("search", "--resume", copy, "--finetune", 2).exit_code == 130
    check_front(copy)
    assert any((copy / "finalists").iterdir())
    assert wb("search", "--resume", copy, "--finetune", 2).exit_code == 0
    check_front(copy)
    assert not (copy / "finalists").exists()


def test_resume_extends_a_run_and_repeats_nothing(run: Path) -> None:
    before = {trial.number: trial.datetime_complete for trial in evaluated(study(run))}
    result = succeeded("search", "--resume", run, "--trials", len(before) + 2, "--json")
    assert json.loads(result.stdout)["front"]
    after = {trial.number: trial.datetime_complete for trial in evaluated(study(run))}
    assert len(after) == len(before) + 2
    assert before.items() <= after.items()


def test_resume_refuses_other_settings(run: Path) -> None:
    result = wb("search", "--resume", run, "--epochs", 5)
    assert result.exit_code == 2
    assert "--epochs cannot change when a run is resumed" in result.stderr


def study(folder: Path):  # type: ignore[no-untyped-def]
    record = Run(folder).read()
    return load_study(Run(folder).storage(record.config), record.study)


def test_a_killed_search_resumes_and_loses_at_most_the_evaluation_under_way(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    Command("search", *QUICK, "--trials", 12, "-o", folder).until(lambda: completed(folder) >= 3).kill()
    finished = {trial.number: trial.values for trial in evaluated(study(folder))}
    succeeded("search", "--resume", folder)
    after = {trial.number: trial.values for trial in evaluated(study(folder))}
    assert finished.items() <= after.items()
    assert len(after) == 12
    assert {trial.state.name for trial in study(folder).trials} == {"COMPLETE"}, "what was under way is taken up again"
    assert sorted(after) == list(range(12)), "under its number"
    assert len({json.dumps(trial.params, sort_keys=True) for trial in evaluated(study(folder))}) == 12


def completed(folder: Path) -> int:
    """How many trials are in the database, read without disturbing it."""
    try:
        with sqlite3.connect(f"file:{folder / 'study.db'}?mode=ro", uri=True) as db:
            return int(db.execute("select count(*) from trials where state = 'COMPLETE'").fetchone()[0])
    except sqlite3.Error:
        return 0


def test_show_measure_export_and_report(run: Path, tmp_path: Path) -> None:
    point = Run(run).read_front()[-1]
    shown = succeeded("show", run / point.model)
    assert "s0.b0" in shown.stdout
    assert "search" in shown.stdout
    assert json.loads(wb("show", run / point.onnx, "--json").stdout)["architecture"] == point.architecture
    assert "candidates evaluated" in wb("show", run).stdout
    measured = wb("measure", run / point.model, "--json", "--cap", 0.5)
    readings = json.loads(measured.stdout)
    assert readings["accuracy (digits, test)"]["value"] == point.test.value
    assert readings["params"]["value"] == point.values["params"].value
    exported = wb("export", run / point.model, "-o", tmp_path / "a.onnx")
    assert exported.stdout.splitlines()[-1] == f"wrote {tmp_path / 'a.onnx'}"
    assert wb("export", run / point.model, "-o", tmp_path / "a.onnx").exit_code == 2
    reported = wb("report", run, "-o", tmp_path / "r.html")
    assert reported.stdout.splitlines()[-1] == f"wrote {tmp_path / 'r.html'}"


def test_train_gives_a_model_that_shows_and_measures(tmp_path: Path) -> None:
    result = succeeded("train", "--epochs", 1, "--limit", 200, "-o", tmp_path / "a.pt", "--json")
    assert 0 <= json.loads(result.stdout)["test"]["value"] <= 1
    assert not list(tmp_path.glob("*.checkpoint"))
    assert wb("show", tmp_path / "a.pt").exit_code == 0
    again = wb("train", "--epochs", 1, "-o", tmp_path / "a.pt")
    assert again.exit_code == 2
    assert "exists already" in again.stderr


def test_dry_run_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = succeeded("search", *SMALL, "--dry-run", "--json")
    stages = json.loads(result.stdout)
    assert [stage["name"] for stage in stages] == ["data", "supernet", "search", "finalists"]
    assert all(stage["seconds"] > 0 for stage in stages)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["search", "--objectives", "acc,speed"], 2, "no objective 'speed'"),
        (["search", "--space", "cnn"], 2, "space: Input should be 'auto', 'vit', 'hybrid', 'text' or 'decoder'"),
        (["search", "--preset", "huge"], 2, "no preset 'huge'"),
        (["search", "--sampler", "magic"], 2, "sampler: Input should be 'guided'"),
        (["search", "--set", "embed"], 2, "not of the form name=value"),
        (["search", "--set", "embed=a,b"], 2, "space 'vit' cannot take"),
        (["search", "--budget", "latency=0.5x"], 2, "is relative"),
        (["search", "--trials", "0"], 2, "trials"),
        (["search", "--budget", "params=10", "--epochs", "1"], 3, "params <= 10 cannot be met: the smallest network"),
        (["search", "--data", "imagefolder:/nowhere"], 1, "/nowhere"),
        (["search", "--data", "cloud"], 2, "cloud"),
        (["search", "--device", "tpu"], 2, "there is no device 'tpu'"),
        (["search", "--resume", "/nowhere"], 1, "is no run folder"),
        (["show", "/nowhere.pt"], 1, "there is no file"),
        (["measure", "/nowhere.onnx"], 1, "there is no file"),
        (["report", "/nowhere"], 1, "is no run folder"),
        (["spaces", "small46"], 2, "no preset 'small46' (did you mean 'small64'?)"),
        (["train", "-o", "a.bin"], 2, "end it in .safetensors or .pt"),
        (["frobnicate"], 2, "No such command"),
    ],
)
def test_wrong_use_is_one_paragraph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = wb(*arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.rglob("*")) or not list((tmp_path / "runs").iterdir()), "nothing is left behind"


def test_spaces_and_doctor() -> None:
    assert "softmax" in wb("spaces", "tiny").stdout
    listed = json.loads(wb("spaces", "--json").stdout)
    assert set(listed["hybrid"]) == set(listed["published"]) == {"tiny28", "small64", "photo224"}
    shown = " ".join(wb("spaces", "small64").stdout.split())
    assert "space hybrid, preset small64" in shown
    assert all(name in shown for name in listed["published"]["small64"])
    assert set(listed["vit"]) >= {
        "tiny",
        "small",
        "deit-tiny",
        "deit-small",
        "deit-base",
    }
    doctor = succeeded("doctor", "--json")
    assert {check["what"] for check in json.loads(doctor.stdout)} >= {"torch", "onnxruntime", "clock", "export and run"}


def with_files_up_to(size: int, *arguments: object) -> Done:
    """Runs wb where the largest file a process may write stands in for the space on a disk."""
    return Command(*arguments, first=f"import resource as r; r.setrlimit(r.RLIMIT_FSIZE, ({size}, {size}))").end()


def test_a_disk_that_is_full_from_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = with_files_up_to(40_000, "search", *QUICK, "--trials", 4, "-o", folder)
    assert result.returncode == 1
    assert "study.db cannot be used" in result.stderr
    assert "Traceback" not in result.stderr
    assert not folder.exists(), "what was half made is gone"


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    result = with_files_up_to(130_000, "search", *QUICK, "--trials", 4, "-o", folder)
    assert result.returncode == 1
    assert "error: could not write" in result.stderr
    assert f"continue with: wb search --resume {folder}" in result.stderr
    assert "Traceback" not in result.stderr
    succeeded("search", "--resume", folder, "--trials", 4)


def test_a_finished_run_is_left_alone(run: Path) -> None:
    """The test split is not read again, and the front stays as it is."""
    before = (run / "front.json").read_bytes(), (run / "front.json").stat().st_mtime_ns
    assert wb("search", "--resume", run).exit_code == 0
    assert ((run / "front.json").read_bytes(), (run / "front.json").stat().st_mtime_ns) == before


def test_damaged_run_files_are_named(run: Path, tmp_path: Path) -> None:
    for name, words in (
        ("run.json", "run.json is damaged"),
        ("study.db", "is damaged"),
        ("front.json", "front.json is damaged"),
    ):
        copy = tmp_path / name.replace(".", "-")
        shutil.copytree(run, copy)
        for companion in copy.glob("study.db-*"):
            companion.unlink()
        (copy / name).write_bytes(b"{ not what it was" * 200)
        result = wb("show", copy)
        assert result.exit_code == 1, name
        assert words in result.stderr
        assert "Traceback" not in result.stderr


def test_changed_data_are_noticed(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        for i in range(12):
            (tmp_path / "data" / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(255, size=(8, 8), dtype=np.uint8)).save(tmp_path / "data" / label / f"{i}.png")
    where = f"imagefolder:{tmp_path / 'data'}"
    assert wb("search", *QUICK, "--data", where, "--trials", 3, "-o", tmp_path / "run").exit_code == 0
    (tmp_path / "data" / "cat" / "0.png").write_bytes(b"broken")
    broken = wb("search", "--resume", tmp_path / "run", "--trials", 4)
    assert broken.exit_code == 1
    assert "0.png" in broken.stderr
    (tmp_path / "data" / "cat" / "0.png").unlink()
    changed = wb("search", "--resume", tmp_path / "run", "--trials", 4)
    assert changed.exit_code == 1
    assert "no longer those of the run" in changed.stderr

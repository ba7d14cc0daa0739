"""`wb search --retrain`: the front is that of before, and what is delivered has learned from validation examples too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import Result

from tests.commands import succeeded, wb
from wb.data import load as load_data
from wb.data.dataset import TRAINED_ON, WHOLE
from wb.export.score import score
from wb.hardware.device import Device
from wb.jobs.inputs import choose
from wb.models.model import Model
from wb.models.model import load as load_model
from wb.search.results.baselines import read_baselines
from wb.search.results.point import FrontPoint
from wb.search.run import Run
from wb.tasks.known import task_of

SMALL = ["--epochs", "1", "--finetune", "1", "--limit", "100", "--set", "embed=8,16", "--set", "depth=1,2"]
FEW = ["--objectives", "acc,params", "--rungs", "none", "--trials", "4", "--finalists", "2"]


def models(run: Run, points: list[FrontPoint]) -> dict[int, Model]:
    return {point.id: load_model(run.folder / point.model) for point in points}


def seen(model: Model) -> bool:
    return any(step.arguments.get(TRAINED_ON) == WHOLE for step in model.history)


def equal(a: Model, b: Model) -> bool:
    return all(torch.equal(b.weights[name], weight) for name, weight in a.weights.items())


@pytest.mark.usefixtures("brief")
def test_a_front_is_trained_once_more_and_is_the_same_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(tmp_path / "run")
    succeeded("search", *SMALL, *FEW, "-o", run.folder)
    before, first = run.read_front(), models(run, run.read_front())
    assert not run.judged.exists()
    assert not any(map(seen, first.values()))
    planned = succeeded("search", "--resume", run.folder, "--retrain", "--dry-run", "--json").stdout
    (stage,) = (one for one in json.loads(planned) if one["name"] == "finalists")
    assert "those of the front once more, on validation examples too" in stage["what"]
    said = succeeded("search", "--resume", run.folder, "--retrain", "--baselines")
    assert "on the validation images too" in " ".join(said.stdout.split())
    points, data = run.read_front(), load_data("digits", limit=100)
    second = models(run, points)
    assert [point.id for point in points] == [point.id for point in before]
    for now, was in zip(points, before, strict=True):
        assert now.validation.model_copy(update={"note": was.validation.note}) == was.validation
        assert now.validation.note
        assert "before it was trained once more" in now.validation.note
        assert now.values["size"].value == (run.folder / now.onnx).stat().st_size
        assert seen(second[now.id])
        assert not equal(second[now.id], first[now.id])
        task = task_of(second[now.id].architecture)
        assert now.test.value == score(run.folder / now.onnx, data.test, task, Device()).value
        assert equal(load_model(run.judged / f"{now.number}.safetensors"), first[now.id])
    assert "on the validation images too" in run.report_path.read_text(encoding="utf-8")
    known = read_baselines(run.baselines_path)
    assert known
    for one in known:
        assert seen(load_model(run.beside / f"{one.name}.safetensors"))
        assert not seen(load_model(run.judged / f"{one.name}.safetensors"))
        assert one.values["acc"].note
    notes: list[str] = []
    choose([run.folder / points[0].model], None, say=notes.append)
    choose([run.folder / points[0].model], "digits", say=notes.append)
    for note in notes[1:]:
        assert note.endswith("has learned from the validation examples too: what is read on them is too good")
    assert len(notes) == 3, "where the data come from, and twice what the model has seen"

    def train(*_: object) -> None:
        raise AssertionError("it was trained before")

    monkeypatch.setattr("wb.search.ending.tuner.apply", train)
    run.front_path.unlink()  # as if it had been ended just before
    succeeded("search", "--resume", run.folder)
    assert all(equal(model, second[number]) for number, model in models(run, run.read_front()).items())
    succeeded("search", "--resume", run.folder, "--no-retrain")
    again = models(run, run.read_front())
    assert all(equal(model, first[number]) and not seen(model) for number, model in again.items())
    assert not any(point.validation.note and "once more" in point.validation.note for point in run.read_front())


@pytest.mark.usefixtures("brief")
def test_what_was_judged_is_not_timed_again_where_training_once_more_is_cut_off(tmp_path: Path) -> None:
    """Another timing might have another front. A damaged file of timings is made again."""
    run = Run(tmp_path / "run")
    timings = run.judged / "timings.json"

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def resumed(patch: pytest.MonkeyPatch, what: str) -> Result:
        patch.setattr(what, cut)
        return wb("search", "--resume", run.folder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.search.ending.retrained.Retraining.__call__", cut)
        assert wb("search", "--retrain", *SMALL, *FEW, "-o", run.folder).exit_code == 130
    kept = timings.read_text(encoding="utf-8")
    timings.write_text("{")
    for what, code in (
        ("judging.measure_runs", 130),
        ("retrained.Retraining.__call__", 130),
        ("judging.measure_runs", 0),
    ):
        with pytest.MonkeyPatch.context() as patch:
            got = resumed(patch, f"wb.search.ending.{what}")
            assert got.exit_code == code, got.output
        if code and "retrained" in what:
            (costs,) = json.loads(timings.read_text(encoding="utf-8")).values()
            assert costs.keys() == next(iter(json.loads(kept).values())).keys()
    assert not timings.exists()
    for point in run.read_front():
        assert point.values["latency"].model_dump(mode="json") == costs[str(point.id)]["latency"]


@pytest.mark.usefixtures("brief")
def test_networks_of_texts_are_trained_once_more(tmp_path: Path) -> None:
    """With R-Drop it runs twice over each."""
    run = Run(tmp_path / "run")
    succeeded(
        "search",
        "--space",
        "text",
        "--retrain",
        *SMALL,
        *FEW[:-4],
        "--rdrop",
        "2",
        "--trials",
        "1",
        "--finalists",
        "1",
        "-o",
        run.folder,
    )
    (point,) = run.read_front()
    delivered, judged = load_model(run.folder / point.model), load_model(run.judged / f"{point.number}.safetensors")
    assert seen(delivered)
    assert not seen(judged)
    for model in (delivered, judged):
        (tuned,) = (step.arguments for step in model.history if step.name == "finetune")
        assert (tuned["rdrop"], tuned["epochs"]) == (2, 1)
    recipes = run.read().recipes
    assert ["each batch twice, whose answers agree by 2" in recipes[what] for what in ("finalists", "supernet")] == [
        True,
        False,
    ]


def test_what_has_nothing_to_train_once_more_is_refused(tmp_path: Path) -> None:
    for options, words in (
        (["--finetune", "0"], "--finetune 0 fine-tunes none"),
        (["--space", "decoder"], "--retrain is for examples with labels"),
    ):
        result = wb("search", "--retrain", *options, "-o", tmp_path / "run")
        assert result.exit_code == 2, result.output
        assert words in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())

"""`wb prune nvit` and `wb prune depth` as a user runs them, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from typer.testing import Result

from tests.commands import files, succeeded, wb
from tests.networks import answering, of_digits
from tests.processes import Command
from wb.compress.prune.record import Pruning
from wb.core.records import Softmax
from wb.data import load as load_data
from wb.models.counting import count_macs, count_parameters
from wb.models.model import load, save

pytestmark = pytest.mark.usefixtures("untimed")
QUICK = ("--limit", 300, "--calib", 64, "--rounds", 2, "--recovery", 1)
BUDGET = ("--budget", "macs=0.5x")


def prune(*arguments: object) -> Result:
    return wb("prune", "nvit", *arguments, *QUICK)


@pytest.fixture(scope="session")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two blocks, trained for two epochs."""
    folder = tmp_path_factory.mktemp("dense")
    (folder / "a.json").write_text(of_digits().to_json())
    succeeded("train", "--architecture", folder / "a.json", "--epochs", 2, "-o", folder / "dense.safetensors")
    return folder / "dense.safetensors"


def check(out: Path, record_path: Path) -> None:
    """Every accuracy of the record, recomputed with nothing but the runtime from what `wb export` writes."""
    data = load_data("digits", limit=300)
    for one in Pruning.read(record_path).results:
        model = out.parent / one.model
        graph = model.with_suffix(".onnx")
        assert wb("export", model, "-o", graph, "--force").exit_code == 0
        session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
        for split, reading in ((data.validation, one.after["acc"]), (data.test, one.test)):
            (logits,) = session.run(None, {"pixel_values": split.pixels()})
            assert float(np.mean(logits.argmax(1) == split.labels)) == reading.value
        again = load(model)
        assert count_macs(again.architecture).value == one.after["macs"].value
        assert count_parameters(again.architecture).value == one.after["params"].value
        x = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        (logits,) = session.run(None, {"pixel_values": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(logits), again.network()(x).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("page")
def test_one_run_leaves_several_models(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = prune(dense, "-o", out, *BUDGET, "--snapshots", "0.75x", "--finetune", 1)
    assert result.exit_code == 0, result.output
    written = ("out.html", "out.json", "out-0.75x.onnx", "out-0.75x.safetensors", "out.onnx", "out.safetensors")
    assert files(tmp_path) == set(written)
    assert result.stdout.splitlines()[-6:] == [f"wrote {tmp_path / name}" for name in written]
    for name in ("0.75x", "out"):
        assert f"{name}: before → after" in result.stdout
    record = Pruning.read(tmp_path / "out.json")
    for one, share in zip(record.results, (0.75, 0.5), strict=True):
        assert 0.9 * share < one.after["macs"].value / record.dense["macs"].value <= share
    for place in ("s0 ", "s0.b0", "s0.b1", "stream", "mixer"):
        assert place in result.stdout
    check(out, tmp_path / "out.json")
    shown = succeeded("show", out)
    assert "prune nvit" in shown.stdout
    again = prune(dense, "-o", out, *BUDGET)
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    reported = succeeded("report", tmp_path / "out.json", "-o", tmp_path / "again.html")
    assert (tmp_path / "again.html").stat().st_size == pytest.approx((tmp_path / "out.html").stat().st_size, rel=0.01)
    damaged = json.loads((tmp_path / "out.json").read_text())
    del damaged["results"][0]["after"]["latency"]
    (tmp_path / "bad.json").write_text(json.dumps(damaged))
    reported = wb("report", tmp_path / "bad.json")
    assert reported.exit_code == 1
    assert "no reading of latency" in reported.stderr
    assert not (tmp_path / "bad.html").exists()


def test_a_latency_budget_and_json(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.pt"
    result = prune(dense, "-o", out, "--budget", "latency=0.6x", "--finetune", 0, "--json", "--align", 2)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert record == json.loads((tmp_path / "out.json").read_text())
    (one,) = record["results"]
    assert one["verdict"] == "met"
    assert one["after"]["latency"]["value"] <= 0.6 * record["dense"]["latency"]["value"]
    measured = json.loads(wb("measure", out, "--cap", 0.1, "--json").stdout)
    assert measured["macs"]["value"] == one["after"]["macs"]["value"]
    assert measured["params"]["value"] == one["after"]["params"]["value"]
    assert measured["accuracy (digits, test)"]["value"] == one["test"]["value"]


def test_kinds_that_are_kept(dense: Path, tmp_path: Path) -> None:
    result = prune(
        dense,
        "-o",
        tmp_path / "a.pt",
        "--budget",
        "params=0.8x",
        "--keep",
        "embed, heads,blocks",
        "--finetune",
        0,
        "--eta",
        10,
    )
    assert result.exit_code == 0, result.output
    before, after = (load(path).architecture for path in (dense, tmp_path / "a.pt"))
    assert after.stages[0].embed == before.stages[0].embed
    for (_, _, was), (_, _, now) in zip(before.blocks(), after.blocks(), strict=True):
        assert isinstance(now.mixer, Softmax)
        assert isinstance(was.mixer, Softmax)
        assert now.mixer.heads == was.mixer.heads
        assert now.ffn is not None


def test_depth(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = succeeded(
        "prune", "depth", dense, "-o", out, "--budget", "macs=0.8x", "--calib", 64, "--limit", 300, "--finetune", 1
    )
    assert files(tmp_path) == {"out.safetensors", "out.onnx", "out.json", "out.html"}
    assert "gone" in result.stdout
    check(out, tmp_path / "out.json")


def test_the_stock_model_is_the_default(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wb.training.fit import Recipe

    small = load(dense).architecture  # in place of the preset's
    monkeypatch.setattr("wb.spaces.stock.Stock.architecture", property(lambda _: small))
    monkeypatch.setattr("wb.spaces.stock.RECIPE", Recipe(epochs=1))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    result = prune(*BUDGET, "--finetune", 0, "--rounds", 1)
    assert result.exit_code == 0, result.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        f"pruned.{end}" for end in ("safetensors", "onnx", "json", "html")
    }
    assert len(list((tmp_path / "cache" / "wb" / "models").iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--budget", "macs=3"], 3, "macs <= 3 cannot be reached, the least is ~"),
        (["--budget", "latency=0.01x"], 3, "latency <= "),
        (["--budget", "macs=0.3x", "--keep", "embed,mlp,blocks"], 3, "with --keep blocks,embed,mlp"),
        (["--budget", "macs=1x"], 2, "the budget is met already: macs is"),
        (["--budget", "latency=1s,params=10M"], 2, "the budget is met already: latency is"),
        (
            ["--budget", "macs=0.5x", "--keep", "embed,depth"],
            2,
            "no axis depth to keep; this model has embed, heads, qk",
        ),
        (["--budget", "acc=0.9"], 2, "cannot be aimed at here; limit one of latency, size, macs"),
        (["--budget", "half"], 2, "is no budget; write for example"),
        (["--budget", ""], 2, "[''] is no budget; say for example --budget latency=0.5x"),
        (["--eta", "11"], 2, "eta"),
        (["--eta", "-1"], 2, "eta"),
        (["--budget", "macs=0.5x", "--budget", "macs=0.4x"], 2, "two budgets on macs"),
        (["--budget", "macs=0.5x", "--snapshots", "0.4x"], 2, "snapshot 0.4x is not above the budget"),
        (["--snapshots", "0.5x,0.75x"], 2, "has to fall"),
        (["--method", "hessian"], 2, "method: Input should be 'nvit'"),
        (["--rounds", "0"], 2, "rounds"),
        (["--device", "tpu"], 2, "there is no device 'tpu'"),
        (["--data", "imagefolder:/nowhere"], 1, "/nowhere"),
        (["--seed", "-1"], 2, "seed"),
    ],
)
def test_bad_input_is_one_clear_error(dense: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    result = wb("prune", "nvit", dense, "-o", tmp_path / "sub" / "out.pt", *QUICK, *arguments)
    assert result.exit_code == code, result.output
    assert words in result.stderr
    assert result.stderr.count("error:") <= 1
    assert "Traceback" not in result.stderr
    assert "mistake of wb's" not in result.stderr
    assert files(tmp_path) == set(), "nothing is written"


def test_bad_models_and_data(dense: Path, tmp_path: Path) -> None:
    model = load(dense)
    nan = {**model.weights, "head_bias": torch.full((10,), float("nan"))}
    save(type(model)(model.architecture, nan), tmp_path / "nan.pt")
    huge = {**model.weights, "head": model.weights["head"] * 1e38}
    save(type(model)(model.architecture, huge), tmp_path / "huge.pt")
    other = answering(model.architecture, classes=3, labels=())
    three = {**model.weights, "head": model.weights["head"][:3], "head_bias": model.weights["head_bias"][:3]}
    save(type(model)(other, three), tmp_path / "three.pt")
    (tmp_path / "text.pt").write_text("no model")
    before = files(tmp_path)
    for name, words in (
        ("nan.pt", "has NaN or infinite weights, first in head_bias"),
        ("huge.pt", "the loss on the calibration images is inf"),
        ("three.pt", "has 3, which are not named; name data with those classes"),
        ("text.pt", "cannot be read as weights only"),
        ("none.pt", "there is no file"),
    ):
        result = prune(tmp_path / name, "-o", tmp_path / "out.pt", *BUDGET, "--data", "digits")
        assert result.exit_code == 1, (name, result.output)
        assert words in result.stderr
        assert "Traceback" not in result.stderr
        assert "mistake of wb's" not in result.stderr
        assert files(tmp_path) == before
    wrong = prune(dense, "-o", tmp_path / "out.onnx", *BUDGET)
    assert wrong.exit_code == 2
    assert "end it in .safetensors or .pt" in wrong.stderr


def test_a_model_in_half_precision(dense: Path, tmp_path: Path) -> None:
    """It is stored so and worked with in whole precision."""
    model = load(dense)
    half = {name: weight.bfloat16() for name, weight in model.weights.items()}
    for name in ("half.safetensors", "half.pt"):
        save(type(model)(model.architecture, half), tmp_path / name)
    assert all(torch.equal(weight, half[name].float()) for name, weight in load(tmp_path / "half.pt").weights.items())
    result = prune(tmp_path / "half.safetensors", "-o", tmp_path / "out.pt", *BUDGET, "--finetune", 0, "--rounds", 1)
    assert result.exit_code == 0, result.output
    weights = load(tmp_path / "out.pt").weights.values()
    assert {weight.dtype for weight in weights} == {torch.float32}


def test_the_model_is_not_its_own_output(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.safetensors"
    own.write_bytes(dense.read_bytes())
    monkeypatch.chdir(tmp_path)
    for out in (own, "own.safetensors", "../" + tmp_path.name + "/own.safetensors"):
        result = prune(own, "-o", out, *BUDGET, "--force")
        assert result.exit_code == 2
        assert "is the model that is pruned; choose another name" in result.stderr
    assert own.read_bytes() == dense.read_bytes()
    assert files(tmp_path) == {"own.safetensors"}


def test_an_empty_folder_of_the_user_s_stays(dense: Path, tmp_path: Path) -> None:
    """One that was made for the output does not, after an error before anything was done."""
    (tmp_path / "theirs").mkdir()
    for folder in ("theirs", "ours"):
        assert prune(dense, "-o", tmp_path / folder / "out.pt", "--budget", "macs=3").exit_code == 3
    assert files(tmp_path) == {"theirs"}


def test_a_folder_that_is_something_else_s(dense: Path, tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "thesis.txt").write_text("mine")
    result = prune(dense, "-o", tmp_path / "out.pt", *BUDGET, "--force")
    assert result.exit_code == 1
    assert "out.partial is no folder of an interrupted pruning" in result.stderr
    assert files(tmp_path) == {"out.partial", "out.partial/thesis.txt"}


def test_a_budget_that_is_missed_at_last(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models are there all the same, and what is said of them; noise alone is no failure."""
    for verdicts, code in (
        (["within noise", "missed"], 3),
        (["met", "within noise"], 0),
        (["missed", "met"], 0),  # a model on the way
    ):
        left = list(verdicts)
        monkeypatch.setattr("wb.compress.prune.finish.worst", lambda _, left=left: left.pop(0))
        options = (*BUDGET, "--finetune", 0, "--rounds", 1, "--snapshots", "0.75x", "--force")
        result = prune(dense, "-o", tmp_path / "out.pt", *options)
        assert result.exit_code == code, result.output
        assert ("0.75x: the last readings are over macs <= 0.75x; whether" in result.stdout) == (
            verdicts[0] == "within noise"
        )
        assert ("out: the last readings are over macs <= 0.5x; whether" in result.stdout) == (
            verdicts[1] == "within noise"
        )
        assert ("the budget of out is missed: the last readings are over macs <= 0.5x" in result.stderr) == (code == 3)
        assert f"wrote {tmp_path / 'out.pt'}" in result.stdout
        graphs = {"out.onnx", "out-0.75x.onnx"}
        assert files(tmp_path) == {"out.pt", "out-0.75x.pt", "out.json", "out.html", *graphs}
        assert [one.verdict for one in Pruning.read(tmp_path / "out.json").results] == verdicts


CLOCKLESS = """
from pathlib import Path
import wb.export.assess, wb.export.timing.table, wb.jobs.frame.begin
from wb.core.measures.readings import Reading
from wb.export.timing.measure import Latency

def latency(graphs, *_, **__):
    def read(graph):
        ms = Reading(value=Path(graph).stat().st_size / 1e5, unit="ms", how="measured")
        return Latency(ms, ms, 1, 0, ms.value)
    return {name: read(graph) for name, graph in graphs.items()}

wb.export.timing.runs.measure_latency = latency
wb.jobs.frame.begin.reference_pace = lambda *_: Reading(value=1.0, unit="ms", how="measured")
"""


def test_a_killed_pruning_continues(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    arguments = ["prune", "nvit", dense, "-o", out, *BUDGET, "--finetune", 1, *QUICK, "--rounds", 3]
    record = tmp_path / "out.partial" / "record.json"  # it is replaced in one step
    Command(*arguments, first=CLOCKLESS).until(lambda: record.exists() and Pruning.read(record).rounds).kill()
    assert not out.exists()
    done = Pruning.read(record).rounds
    assert done
    succeeded(*arguments)
    finished = Pruning.read(tmp_path / "out.json")
    assert finished.rounds[: len(done)] == done, "nothing is done twice"
    assert len(finished.rounds) == 3
    assert finished.results[0].verdict == "met"
    assert files(tmp_path) == {"out.safetensors", "out.onnx", "out.json", "out.html"}


def test_an_interrupted_pruning_says_how_to_go_on(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.pt"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wb.compress.nvit.nvit.NViT.recovered", stop)
        stopped = prune(dense, "-o", out, *BUDGET, "--finetune", 0)
    assert stopped.exit_code == 130
    assert f"what is done is in {tmp_path / 'out.partial'}; the same command with -o {out} continues" in stopped.stderr

"""`wb prune depgraph` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from wb.cli.main import app
from wb.core.measures.readings import Reading
from wb.data import load
from wb.export.timing.measure import Latency

MODULE = '''
"""A small convnet for the digits."""
import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(12, 24, 3, 1, 1), nn.BatchNorm2d(24), nn.Conv2d(24, 12, 3, 1, 1)

    def forward(self, x):
        return torch.relu(x + self.b(torch.relu(self.n(self.a(x)))))


def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.BatchNorm2d(12), Residual(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(48, 10)
    )


def colours():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def three():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


def broken():
    module = small()
    module[0].weight.data.fill_(float("nan"))
    return module
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module in it."""
    (tmp_path / "wb_test_convnets.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed: latency is the file's size."""

    def latency(graphs: dict[str, Path], *_: object, **__: object) -> dict[str, Latency]:
        def read(path: Path) -> Latency:
            ms = Reading(value=path.stat().st_size / 1e5, unit="ms", how="measured")
            return Latency(ms, ms, 1, 0, ms.value)

        return {name: read(path) for name, path in graphs.items()}

    monkeypatch.setattr("wb.compress.depgraph.job.measure_latency", latency)
    monkeypatch.setattr("wb.compress.depgraph.latency.measure_latency", latency)


def prune(factory: str, *arguments: object) -> Result:
    names = ("prune", "depgraph", f"wb_test_convnets:{factory}", "--limit", 200, "--calib", 64, "--rounds", 2)
    return CliRunner().invoke(app, [str(a) for a in (*names, *arguments)])


@pytest.mark.usefixtures("quick")
def test_what_is_reported_is_what_the_files_are(place: Path) -> None:
    out = place / "out.onnx"
    result = prune("small", "--budget", "macs=0.5x", "-o", out, "--finetune", 2, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    dense, pruned, tuned = report["dense"], report["pruned"], report["fine-tuned"]
    assert 0.49 * dense["macs"]["value"] <= tuned["macs"]["value"] <= 0.5 * dense["macs"]["value"]
    assert pruned["macs"] == tuned["macs"]
    assert "accuracy (test)" not in pruned
    data = load("digits", limit=200)
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    for split, name in ((data.validation, "validation"), (data.test, "test")):
        (logits,) = session.run(None, {"pixel_values": split.pixels()})
        assert float(np.mean(logits.argmax(1) == split.labels)) == tuned[f"accuracy ({name})"]["value"]
    assert tuned["size"]["value"] == out.stat().st_size
    weights = load_file(place / "out.safetensors")
    # The state has the counters of the norms as well, which are no parameters.
    assert (
        sum(w.numel() for n, w in weights.items() if "running" not in n and "num_batches" not in n)
        == (tuned["params"]["value"])
    )


@pytest.mark.usefixtures("quick")
def test_a_module_sees_images_as_its_loader_prepares_them_and_its_file_says_so(place: Path) -> None:
    given = ("--budget", "macs=0.6x", "-o", "out.onnx", "--finetune", 1, "--json")
    result = prune("small", *given, "--mean", 0.5, "--std", 0.25)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    split = load("digits", limit=200).test
    session = onnxruntime.InferenceSession("out.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"pixel_values": (split.pixels() - np.float32(0.5)) / np.float32(0.25)})
    right = float(np.mean(logits.argmax(1) == split.labels))
    assert report["fine-tuned"]["accuracy (test)"]["value"] == right
    note = report["dense"]["accuracy (validation)"]["note"]
    assert note.startswith(
        "images in [0, 1], less the mean 0.5, over the std 0.25; the classes of digits are taken in their"
    )
    assert "chance" in note  # the dense module was not trained
    measured = CliRunner().invoke(app, ["measure", "out.onnx", "--data", "digits", "--json"])
    assert json.loads(measured.stdout)["accuracy (digits, test)"]["value"] == right
    assert str(place).encode() not in Path("out.onnx").read_bytes()
    assert "say --mean" in json.loads(prune("small", *given, "--force").stdout)["dense"]["accuracy (test)"]["note"]


@pytest.mark.usefixtures("quick")
def test_the_table_ends_with_what_was_written(place: Path) -> None:
    result = prune("small", "--budget", "params=0.6x", "-o", "out.onnx", "--finetune", 0)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-2:] == ["wrote out.safetensors", "wrote out.onnx"]
    assert result.stderr.splitlines()[-1].startswith(
        "out.onnx is the deliverable; out.safetensors has the pruned shapes"
    )
    assert "validation" in result.stdout
    assert "fine-tuned" not in result.stdout
    again = prune("small", "--budget", "params=0.6x", "-o", "out.onnx", "--finetune", 0)
    assert again.exit_code == 2
    assert "exists already" in again.stderr


@pytest.mark.usefixtures("quick")
def test_a_latency_budget_corrects_the_macs(place: Path) -> None:
    result = prune("small", "--budget", "latency=0.7x", "-o", "out.onnx", "--finetune", 0, "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    share = report["pruned"]["latency"]["value"] / report["dense"]["latency"]["value"]
    assert 0.6 < share <= 0.7


@pytest.mark.usefixtures("quick")
def test_a_latency_that_is_over_in_the_end_is_said_when_all_is_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(graphs: dict[str, Path], *_: object, **__: object) -> dict[str, Latency]:
        values = dict(zip(graphs, (2.0, 1.5), strict=True))
        readings = {
            name: Reading(value=ms, unit="ms", how="measured", interval=(0.98 * ms, 1.02 * ms))
            for name, ms in values.items()
        }
        return {name: Latency(ms, ms, 1, 0, ms.value) for name, ms in readings.items()}

    monkeypatch.setattr("wb.compress.depgraph.job.measure_latency", slower)  # the last timing, not those of the tries
    result = prune("small", "--budget", "latency=0.7x", "-o", "out.onnx", "--finetune", 1, "--json")
    assert result.exit_code == 3
    words = "latency is 0.750x of the dense module’s (95 % interval 0.729x to 0.772x); latency <= 0.7x was asked for"
    assert words in result.stderr
    report = json.loads(result.stdout)
    assert report["fine-tuned"]["latency"]["value"] == 1.5
    assert report["fine-tuned"]["latency / dense"]["value"] == report["budget"]["reading"]["value"] == 0.75
    assert report["budget"]["verdict"] == "missed"
    assert (place / "out.onnx").exists()
    assert (place / "out.safetensors").exists()


@pytest.mark.usefixtures("quick")
def test_a_kill_between_the_files_is_mended_with_force(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    replace = Path.replace

    def killed(self: Path, target: Path) -> Path:
        if Path(target).name == "out.onnx":
            raise Killed
        return replace(self, target)

    command = ("small", "--budget", "macs=0.5x", "-o", "out.onnx", "--finetune", 0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        assert prune(*command).exit_code == 1
    assert not (place / "out.onnx").exists()
    weights = (place / "out.safetensors").read_bytes()
    assert "out.safetensors exists already" in prune(*command).stderr
    mended = prune(*command, "--force")
    assert mended.exit_code == 0, mended.output
    assert (place / "out.onnx").exists()
    assert (place / "out.safetensors").read_bytes() == weights


@pytest.mark.usefixtures("quick", "place")
@pytest.mark.parametrize(
    ("factory", "budget", "code", "message"),
    [
        ("nothing", "macs=0.5x", 2, "wb_test_convnets:nothing does not exist"),
        ("MODULE", "macs=0.5x", 2, "does not exist"),
        ("colours", "macs=0.5x", 1, "does not take images of 1x8x8"),
        ("three", "macs=0.5x", 1, "gives [2, 3] for 2 images of 10 classes"),
        ("broken", "macs=0.5x", 1, "0.weight of Sequential are not finite"),
        ("small", "macs=2x", 2, "is met already"),
        ("small", "macs=10", 3, "is below what is left"),
        ("small", "latency=1e-9ms", 3, "no pruning kept the budget: of what was tried the fastest latency is "),
        # A budget is refused before the module, which does not exist, is looked for.
        ("nothing", "latency=0.5x,macs=0.5x", 2, "cannot be combined"),
        ("nothing", "acc=0.5", 2, "cannot be aimed at here; limit one of latency, macs, params"),
        ("nothing", "size=0.5x,macs=0.5x", 2, "cannot be aimed at here; limit one of latency, macs, params"),
        ("nothing", "", 2, "there is no budget"),
        ("nothing", "half", 2, "is no budget"),
    ],
)
def test_each_wrong_input_has_its_message(factory: str, budget: str, code: int, message: str) -> None:
    result = prune(factory, "--budget", budget, "-o", "out.onnx")
    assert message in result.stderr
    assert result.exit_code == code
    assert not Path("out.onnx").exists()
    assert not Path("out.safetensors").exists()


@pytest.mark.usefixtures("quick", "place")
def test_names_and_weights_are_checked_first() -> None:
    wrong = prune("small", "--budget", "macs=0.5x", "-o", "out.pt")
    assert "end it in .onnx" in wrong.stderr
    none = prune("small", "--budget", "macs=0.5x", "-o", "out.onnx", "--weights", "none.pt")
    assert "there is no file none.pt" in none.stderr
    cost = prune("small", "--budget", "macs=0.5x", "-o", "out.onnx", "--cost", "time")
    assert "no cost 'time'" in cost.stderr

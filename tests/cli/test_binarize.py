"""`wb binarize` as a user runs it, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from tests.networks import assembled
from wb.cli.main import app
from wb.compress.binarize.record import Binarization
from wb.core.architecture import Block, Stage
from wb.core.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.data import load as load_data
from wb.models.model import from_network, load, save
from wb.models.network import build

QUICK = ("--limit", 150, "--finetune", 1)
ENDINGS = ("safetensors", "onnx", "json", "html")


@pytest.fixture(autouse=True)
def _paced(untimed: None) -> Iterator[None]:
    pace = Reading(value=1.0, unit="ms", how="measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.compress.binarize.begin.reference_pace", lambda *_: pace)
        yield


def wb(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block for the digits, untrained."""
    data = load_data("digits")
    image = ImageInput(channels=1, height=8, width=8, mean=data.mean, std=data.std)
    block = Block(mixer=Softmax(heads=2, qk=8, v=8), ffn=Mlp(mlp=64))
    a = assembled(
        input=image,
        stem=PatchStem(patch=2),
        stages=(Stage(embed=32, blocks=(block,)),),
        classes=10,
        labels=data.classes,
    )
    torch.manual_seed(0)
    network = build(a)
    network.reset()
    path = tmp_path_factory.mktemp("dense") / "dense.safetensors"
    save(from_network(a, network), path)
    return path


def test_by_default_weights_are_binary_and_all_is_told(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    result = wb("binarize", dense, "-o", out, *QUICK)
    assert result.exit_code == 0, result.output
    assert files(tmp_path) == {f"b.{ending}" for ending in ENDINGS}
    record = Binarization.read(tmp_path / "b.json")
    assert [stage.name for stage in record.stages] == ["w1"]
    told = " ".join(result.stdout.split())
    for reading in (record.stages[0].after["energy"], record.stages[0].after["size"]):
        assert reading.text() in told
    assert "predicted" in told
    assert "energy: a model" in told
    assert result.stdout.splitlines()[-1] == f"wrote {out}"
    shown = " ".join(wb("show", out).stdout.split())
    assert "w1" in shown


def test_a_report_is_made_again_from_the_record(dense: Path, tmp_path: Path) -> None:
    result = wb("binarize", dense, "-o", tmp_path / "b.pt", "--weights", "w2", *QUICK, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["kind"] == "binarization"
    again = tmp_path / "again.html"
    assert wb("report", tmp_path / "b.json", "-o", again).exit_code == 0
    assert again.read_text() == (tmp_path / "b.html").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--weights", "w3"), "wrong option: weights"),
        (("--bits", "8"), "--bits is of hash attention; add --attention hash"),
        (("--weights", "keep", "--all"), "with --weights keep none are"),
        (("--weights", "keep"), "there is nothing to do"),
        (("--keep", "s0.b7"), "no group named s0.b7 to keep"),
        (("--data", "nowhere:x"), "nowhere"),
    ],
)
def test_wrong_options_are_one_paragraph(dense: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    result = wb("binarize", dense, "-o", tmp_path / "b.pt", *options)
    assert result.exit_code in (1, 2)
    assert words in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert files(tmp_path) == set()


def test_nothing_is_replaced_unasked(dense: Path, tmp_path: Path) -> None:
    assert "is no name for a model file" in wb("binarize", dense, "-o", tmp_path / "b.onnx").stderr
    assert "choose another name" in wb("binarize", dense, "-o", dense).stderr
    for ending in ENDINGS:
        mine = tmp_path / f"b.{ending}"
        mine.write_text("mine")
        result = wb("binarize", dense, "-o", tmp_path / "b.safetensors")
        assert result.exit_code == 2
        assert f"{mine} exists already" in " ".join(result.stderr.split())
        assert mine.read_text() == "mine"
        mine.unlink()


def test_binary_models_are_refused(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.pt"
    assert wb("binarize", dense, "-o", out, *QUICK, "--finetune", 0).exit_code == 0
    result = wb("binarize", out, "-o", tmp_path / "c.pt", *QUICK)
    assert result.exit_code == 2
    assert "binary already (4 groups)" in " ".join(result.stderr.split())


CLOCKLESS = """
import sys
from pathlib import Path
import wb.export.assess, wb.compress.binarize.begin
from wb.core.readings import Reading
from wb.export.timing.measure import Latency

def latency(graphs, *_, **__):
    def read(graph):
        ms = Reading(value=Path(graph).stat().st_size / 1e5, unit="ms", how="measured")
        return Latency(ms, ms, 1, 0, ms.value)
    return {name: read(graph) for name, graph in graphs.items()}

wb.export.assess.measure_latency = latency
wb.compress.binarize.begin.reference_pace = lambda *_: Reading(value=1.0, unit="ms", how="measured")
sys.argv[0] = "wb"
from wb.cli.main import main
main()
"""


def test_what_was_killed_continues(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    arguments = ["binarize", dense, "-o", out, "--limit", 150, "--finetune", 24]
    command = [sys.executable, "-c", CLOCKLESS, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    record = tmp_path / "b.partial" / "record.json"
    deadline = time.monotonic() + 120
    while not (
        record.exists() and (stages := Binarization.read(record).stages) and stages[0].epochs
    ):  # replaced in one step
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert files(tmp_path).isdisjoint(f"b.{ending}" for ending in ENDINGS)
    done = Binarization.read(record).stages[0]
    result = wb(*arguments)
    assert result.exit_code == 0, result.output
    (finished,) = Binarization.read(tmp_path / "b.json").stages
    assert finished.before == done.before
    assert finished.epochs[: len(done.epochs)] == done.epochs, "nothing is done twice"
    assert finished.epochs[-1].number == 24
    assert files(tmp_path) == {f"b.{ending}" for ending in ENDINGS}
    assert load(out).history[-1].readings["acc"] == finished.after["acc"]


def test_an_interrupted_one_says_how_to_go_on(dense: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "b.pt"

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("wb.compress.binarize.job.BinarizeJob._tuned", stop)
        stopped = wb("binarize", dense, "-o", out, *QUICK)
    assert stopped.exit_code == 130
    told = " ".join(stopped.stderr.split())
    assert f"what is done is in {tmp_path / 'b.partial'}; the same command with -o {out} continues" in told

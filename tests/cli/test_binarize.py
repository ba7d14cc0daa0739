"""`wb binarize` as a user runs it, on one tiny network of the digits and without a clock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.commands import files, succeeded, wb
from tests.networks import of_digits
from tests.processes import Command
from wb.compress.binarize.record import Binarization
from wb.core.measures.readings import Reading
from wb.models.model import from_network, load, save
from wb.models.network import build

QUICK = ("--limit", 150, "--finetune", 1)
ENDINGS = ("safetensors", "onnx", "json", "html")


@pytest.fixture(autouse=True)
def _paced(untimed: None) -> Iterator[None]:
    pace = Reading(value=1.0, unit="ms", how="measured")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wb.jobs.frame.begin.reference_pace", lambda *_: pace)
        yield


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One block for the digits, untrained."""
    a = of_digits(embed=32, depth=1, width=8, mlp=64)
    torch.manual_seed(0)
    network = build(a)
    network.reset()
    path = tmp_path_factory.mktemp("dense") / "dense.safetensors"
    save(from_network(a, network), path)
    return path


def test_by_default_weights_are_binary_and_all_is_told(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    result = succeeded("binarize", dense, "-o", out, *QUICK)
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


@pytest.mark.usefixtures("page")
def test_a_report_is_made_again_from_the_record(dense: Path, tmp_path: Path) -> None:
    result = succeeded("binarize", dense, "-o", tmp_path / "b.pt", "--weights", "w2", *QUICK, "--json")
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
from pathlib import Path
import wb.export.assess, wb.jobs.frame.begin
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


def test_what_was_killed_continues(dense: Path, tmp_path: Path) -> None:
    out = tmp_path / "b.safetensors"
    arguments = ["binarize", dense, "-o", out, "--limit", 150, "--finetune", 24]
    record = tmp_path / "b.partial" / "record.json"

    def begun() -> bool:
        stages = Binarization.read(record).stages if record.exists() else ()  # replaced in one step
        return bool(stages and stages[0].epochs)

    Command(*arguments, first=CLOCKLESS).until(begun).kill()
    assert files(tmp_path).isdisjoint(f"b.{ending}" for ending in ENDINGS)
    done = Binarization.read(record).stages[0]
    succeeded(*arguments)
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

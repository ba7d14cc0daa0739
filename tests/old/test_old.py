"""Files that earlier versions wrote are read, shown, exported, reported and continued by this one.

`0.1/` is what version 0.1.0 left: models as `wb train` wrote them, with their logits (`logits.npz`: four images, and what the
network of each file gave for them), the record of a job of every kind, and the folders of two searches, one finished and one
interrupted with Ctrl-C after some trials. Reports and
caches are left out. None of them is ever written again.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from wb.cli.main import app
from wb.models.model import load

pytestmark = pytest.mark.usefixtures("brief")
OLD = Path(__file__).parent / "0.1"
MODELS = sorted(path.name for path in OLD.iterdir() if path.suffix in (".safetensors", ".pt"))
RECORDS = sorted(path.name for path in OLD.glob("*.json"))


def wb(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exit_code == 0, result.output
    return result


def copy(name: str, folder: Path) -> Path:
    """A copy, since reading may leave locks and reports."""
    return Path(shutil.copytree(OLD / name, folder / name))


def check_page(path: Path) -> None:
    assert "</html>" in path.read_text(encoding="utf-8")[-100:]


def test_there_is_one_of_each() -> None:
    assert MODELS == ["binarize.pt", "plain.safetensors", "post.pt", "stages.safetensors"]
    assert RECORDS == ["binarize.json", "depth.json", "fuse.json", "prune.json", "quantize.json"]
    with np.load(OLD / "logits.npz") as known:
        assert set(known) == {"images", *MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_what_it_did(name: str) -> None:
    with np.load(OLD / "logits.npz") as known, torch.inference_mode():
        logits = load(OLD / name).network()(torch.from_numpy(known["images"]))
        np.testing.assert_allclose(logits.numpy(), known[name], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_shown_and_exported(name: str, tmp_path: Path) -> None:
    assert "train" in wb("show", OLD / name).stdout
    assert json.loads(wb("show", OLD / name, "--json").stdout)
    wb("export", OLD / name, "-o", tmp_path / "a.onnx")
    assert "train" in wb("show", tmp_path / "a.onnx").stdout


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_gives_its_report(name: str, tmp_path: Path) -> None:
    shutil.copy(OLD / name, tmp_path / name)
    wb("report", tmp_path / name)
    check_page((tmp_path / name).with_suffix(".html"))


def test_a_finished_run_is_shown_and_reported_and_its_models_exported(tmp_path: Path) -> None:
    run = copy("run", tmp_path)
    assert "4 of 4 candidates evaluated" in wb("show", run).stdout
    wb("report", run)
    check_page(run / "report.html")
    for point in json.loads((OLD / "run" / "front.json").read_text(encoding="utf-8")):
        wb("show", run / point["onnx"])
        wb("export", run / point["model"], "-o", tmp_path / f"{point['id']}.onnx")


def test_a_finished_run_is_extended(tmp_path: Path) -> None:
    """The plan of it; that a search goes on is in the next test."""
    run = copy("run", tmp_path)
    stages = json.loads(wb("search", "--resume", run, "--trials", 6, "--dry-run", "--json").stdout)
    assert "4 of 6 are there" in next(stage["what"] for stage in stages if stage["name"] == "search")


def test_an_interrupted_run_is_continued(tmp_path: Path) -> None:
    run = copy("interrupted", tmp_path)
    assert "No front yet" in " ".join(wb("show", run).stdout.split())
    before = (run / "supernet.safetensors").read_bytes()
    result = wb("search", "--resume", run, "--json")
    assert (run / "supernet.safetensors").read_bytes() == before
    front = json.loads(result.stdout)["front"]
    assert front == json.loads((run / "front.json").read_text(encoding="utf-8"))
    wb("export", run / front[0]["model"], "-o", tmp_path / "a.onnx")
    check_page(run / "report.html")

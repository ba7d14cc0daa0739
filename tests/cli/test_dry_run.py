"""`--dry-run`: what would be done, of what, into which files, and about how long; nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.commands import succeeded, wb
from tests.networks import assembled
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.export.timing.measure import Latency
from wb.models.model import from_network, save
from wb.models.network import build

MODULE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""
DATA = ("--data", "digits", "--limit", 100)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model for digits and a module, where nothing is timed but training and scoring."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=2, qk=6, v=5), ffn=Mlp(mlp=20))
    stage = Stage(embed=12, blocks=(block, block))
    architecture = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=10)
    network = build(architecture)
    network.reset()
    save(from_network(architecture, network), tmp_path / "m.safetensors")
    (tmp_path / "wb_test_dry.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def latency(graphs: Mapping[str, Path], *_: object, **__: object) -> dict[str, Latency]:
        ms = Reading(value=1.0, unit="ms", how="measured")
        return dict.fromkeys(graphs, Latency(ms, ms.model_copy(update={"unit": "x"}), 1, 0, 1.0))

    for module in ("export.timing.runs", "export.timing.estimate"):
        monkeypatch.setattr(f"wb.{module}.measure_latency", latency)
    monkeypatch.setattr("wb.jobs.frame.begin.reference_pace", lambda *_: Reading(value=1.0, unit="ms", how="measured"))
    return tmp_path


def planned(place: Path, *arguments: object) -> Any:
    before = sorted(place.rglob("*"))
    result = succeeded(*arguments, "--dry-run", "--json")
    assert [path for path in sorted(place.rglob("*")) if "__pycache__" not in path.parts] == before, (
        "nothing is written"
    )
    found = json.loads(result.stdout)
    assert found["seconds"] == pytest.approx(sum(stage["seconds"] for stage in found["stages"]))
    assert all(stage["seconds"] >= 0 for stage in found["stages"])
    (data,) = [stage["what"] for stage in found["stages"] if stage["name"] == "data"]
    assert "of 1x8x8 in 10 classes (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)" in data
    (network,) = [stage["what"] for stage in found["stages"] if stage["name"] == "network"]
    assert "parameters" in network
    assert "multiply-accumulates" in network
    return found


CASES = {
    "train": (
        ("train", "-o", "t.pt", *DATA, "--epochs", 7),
        ("data", "network", "training", "scoring"),
        ("t.pt",),
    ),
    "nvit": (
        ("prune", "nvit", "m.safetensors", "-o", "p.pt", *DATA, "--budget", "latency=0.5x", "--snapshots", "0.75x"),
        ("data", "network", "timing parts", "pruning", "compensation", "fine-tuning", "final readings"),
        ("p.html", "p.json", "p-0.75x.onnx", "p-0.75x.pt", "p.onnx", "p.pt"),
    ),
    "depth": (
        ("prune", "depth", "m.safetensors", "-o", "p.pt", *DATA, "--budget", "macs=0.7x", "--finetune", 0),
        ("data", "network", "pruning", "compensation", "final readings"),
        ("p.html", "p.json", "p.onnx", "p.pt"),
    ),
    "depgraph": (
        ("prune", "depgraph", "wb_test_dry:net", "-o", "g.onnx", *DATA, "--budget", "macs=0.5x"),
        ("data", "network", "pruning", "fine-tuning", "readings"),
        ("g.safetensors", "g.onnx"),
    ),
    "binarize": (
        ("binarize", "m.safetensors", "-o", "b.pt", *DATA, "--attention", "hash", "--anchors", 4, "--bits", 4),
        ("data", "network", "hash", "hash, fine-tuning", "w1", "w1, fine-tuning", "final readings"),
        ("b.html", "b.json", "b.onnx", "b.pt"),
    ),
    "convert": (
        ("convert", "m.safetensors", "-o", "c.pt", *DATA, "--mixer", "linear", "--norm", "repbn"),
        ("data", "network", "mixers", "mixers, fine-tuning", "norms", "norms, fine-tuning", "final readings"),
        ("c.html", "c.json", "c.onnx", "c.pt"),
    ),
    "exits": (
        ("exits", "m.safetensors", "-o", "e.safetensors", *DATA, "--epochs", 1),
        ("data", "network", "heads", "tuning", "timing", "gates", "final readings"),
        ("e.html", "e.json", "e.onnx", "e.safetensors"),
    ),
    "aspect": (
        ("sweep", "aspect", "-o", "a.html", *DATA, "--heads", 2, "--depths", "2,1", "--embed", 8, "--hidden", 6),
        ("data", "network", "timing", "2 x 1", "1 x 2", "1 x 2, 15 hidden", "scoring"),
        ("a.json", "a.html"),
    ),
    "quantize": (
        ("quantize", "m.safetensors", "-o", "q.onnx", "--budget", "size=0.5x"),
        ("data", "network", "sensitivity", "policies", "readings"),
        ("q.html", "q.json", "q.safetensors", "q.onnx"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_stages_and_files_are_named_and_nothing_is_written(place: Path, name: str) -> None:
    arguments, stages, files = CASES[name]
    found = planned(place, *arguments)
    assert tuple(stage["name"] for stage in found["stages"]) == stages
    assert tuple(found["files"]) == files


def test_bases_and_compensation_are_said_unless_they_are_left_out(place: Path) -> None:
    nvit = CASES["nvit"][0]
    for options, said in (((), True), (("--no-rotate", "--no-compensate"), False)):
        stages = {stage["name"]: stage["what"] for stage in planned(place, *nvit, *options)["stages"]}
        assert ("bases" in stages["pruning"]) == said
        assert ("compensation" in stages) == said
        assert (
            not said or "refitted on 100 training images without labels, after each of 9 cuts" in stages["compensation"]
        )


def test_times_are_those_of_the_steps(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.training.estimate.step_seconds", lambda *_, **__: 2.0)
    found = planned(place, "train", "-o", "t.pt", *DATA, "--epochs", 7, "--batch", 25)
    (training,) = [stage for stage in found["stages"] if stage["name"] == "training"]
    assert training["seconds"] == 7 * 4 * 2.0
    assert training["what"].startswith("7 epochs of 4 steps")


def test_people_read_the_times(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.training.estimate.step_seconds", lambda *_, **__: 100.0)
    result = succeeded("train", "-o", "t.pt", *DATA, "--epochs", 30, "--batch", 50, "--dry-run")
    assert "1 h 40 min" in result.stdout
    assert result.stdout.splitlines()[-1] == "would write t.pt"


def test_without_a_model_the_stock_one_would_be_trained(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.spaces.stock.user_cache_dir", lambda _: str(place / "cache"))
    found = planned(place, "prune", "depth", "-o", "p.pt", *DATA, "--budget", "macs=0.7x")
    assert [stage["name"] for stage in found["stages"]][:3] == ["data", "stock model", "network"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("prune", "nvit", "m.safetensors", "-o", "p.pt", "--budget", "macs=1G"), "the budget is met already"),
        (("prune", "nvit", "m.safetensors", "-o", "p.pt", "--budget", "macs=0.001x"), "cannot be reached"),
        (("prune", "depgraph", "wb_test_dry:net", "-o", "g.onnx", "--budget", "macs=1G"), "is met already"),
        (("train", "-o", "m.safetensors"), "exists already"),
        (("binarize", "m.safetensors", "-o", "b.pt", "--weights", "keep"), "nothing to do"),
        (("quantize", "m.safetensors", "-o", "q.onnx", "--keep", "nowhere"), "no group named nowhere"),
    ],
)
def test_what_would_be_refused_is_refused(place: Path, arguments: tuple[str, ...], words: str) -> None:
    result = wb(*arguments, "--dry-run")
    assert result.exit_code in (2, 3), result.output
    assert words in " ".join(result.stderr.split())

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.commands import succeeded, wb
from tests.networks import answering
from wb.compress.depth.analysis import DepthAnalysis
from wb.data import load as load_data
from wb.models.model import Model, from_network, save
from wb.models.network import build
from wb.spaces.columnar.presets import vit_space
from wb.spaces.stock import Stock


@pytest.fixture(scope="module")
def model() -> Model:
    """Untrained, for digits."""
    torch.manual_seed(0)
    architecture = vit_space(load_data("digits"), "tiny").largest("softmax")
    network = build(architecture)
    network.reset()
    return from_network(architecture, network)


@pytest.fixture
def file(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In the working folder."""
    monkeypatch.chdir(tmp_path)
    save(model, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_depth_prints_a_table_and_writes_a_page(file: Path) -> None:
    result = succeeded("analyze", "depth", file, "--limit", 20)
    assert "s0.b0.mixer" in result.stdout
    assert "measured on 20 images of validation" in result.stdout
    assert max(len(line) for line in result.stdout.splitlines() if line[:1] in "┏┃┡│└") <= 80
    assert result.stdout.splitlines()[-1] == "wrote depth.html"
    assert "a.safetensors" in (file.parent / "depth.html").read_text()
    again = wb("analyze", "depth", file, "--limit", 20)
    assert again.exit_code == 2
    assert "depth.html exists already" in again.stderr
    assert wb("analyze", "depth", file, "--limit", 20, "--force").exit_code == 0


def test_depth_as_json(file: Path) -> None:
    result = succeeded("analyze", "depth", file, "--limit", 20, "--split", "train", "--json", "-o", "b.html")
    content = json.loads(result.stdout)
    assert content.pop("report") == "b.html"
    assert DepthAnalysis.model_validate(content).images == 20


def test_without_a_model_it_is_the_stock_model(file: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def stock(self: Stock, report: object = None) -> Model:
        asked.append(self.seed)
        return model

    monkeypatch.setattr(Stock, "__call__", stock)
    result = succeeded("analyze", "depth", "--limit", 20, "--seed", 3)
    assert asked == [3]
    assert "the stock model, seed 3" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["a.safetensors", "--split", "test"], 2, "no split 'test' here; there are validation and train"),
        (["/nowhere.pt"], 1, "there is no file"),
        (["a.safetensors", "--data", "cloud"], 2, "cloud"),
        (["a.safetensors", "--limit", "0"], 2, "limit"),
    ],
)
def test_wrong_use_is_one_paragraph(file: Path, arguments: list[str], code: int, words: str) -> None:
    result = wb("analyze", "depth", *arguments)
    assert result.exit_code == code
    assert words in result.stderr
    assert not (file.parent / "depth.html").exists()


def test_data_that_do_not_fit_are_refused(file: Path, model: Model) -> None:
    other = answering(model.architecture, classes=3, labels=())
    torch.manual_seed(0)
    network = build(other)
    network.reset()
    save(from_network(other, network), file, force=True)
    result = wb("analyze", "depth", file, "--data", "digits")
    assert result.exit_code == 1
    assert "has 3, which are not named; name data with those classes" in result.stderr
    unknown = wb("analyze", "depth", file)
    assert unknown.exit_code == 2
    assert "does not say with what it was trained; name data that fit it with --data" in unknown.stderr

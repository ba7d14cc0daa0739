"""The functions for notebooks: they do what the commands do, say the same words, and show as tables."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from wb import api
from wb.cli.main import app
from wb.core.errors import BadArtefact, BadData, BadOption, BudgetMissed, WbError
from wb.data import load as load_data
from wb.jobs.classifier import Classifier
from wb.jobs.shown import Table
from wb.models.model import load

pytestmark = pytest.mark.usefixtures("untimed", "by_size", "unpaged")
EXAMPLES = Path(__file__).parent.parent / "examples"
TINY: dict[str, Any] = {"recovery": 0, "rounds": 1, "calibration": 16, "finetune": 0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has seen a few digits once."""
    path = tmp_path_factory.mktemp("api") / "m.safetensors"
    api.train(path, limit=100, epochs=1, quiet=True)
    return path


@pytest.fixture(scope="module")
def graph(file: Path) -> Classifier:
    """Its graph."""
    return api.export(file)


def test_it_loads_nothing_before_it_is_called() -> None:
    code = (
        "import sys; from wb import api; sys.exit(any(m in sys.modules for m in ('torch', 'onnx', 'plotly', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_function_leaves_what_the_command_leaves(file: Path, tmp_path: Path) -> None:
    said = api.prune(file, budget="macs=0.7x", out=tmp_path / "api" / "p.safetensors", quiet=True, **TINY)
    options = ["--recovery", "0", "--rounds", "1", "--samples", "16", "--finetune", "0", "--budget", "macs=0.7x"]
    out = tmp_path / "cli" / "p.safetensors"
    result = CliRunner().invoke(app, ["prune", "nvit", str(file), "-o", str(out), *options])
    assert result.exit_code == 0, result.output
    assert load(out).fingerprint() == load(said.path).fingerprint() == said.model.model.fingerprint()
    assert {path.name for path in out.parent.iterdir()} == {path.name for path in said.path.parent.iterdir()}
    records = [json.loads(path.with_suffix(".json").read_text()) for path in (out, said.path)]
    for record in records:
        del record["created"], record["seconds"]
    assert records[0] == records[1]
    assert said.record.results[0].verdict == "met"


@pytest.mark.parametrize(
    ("call", "words", "error"),
    [
        (lambda m: api.prune(m, budget="macs=2x"), ["prune", "nvit", "M", "--budget", "macs=2x"], BadOption),
        (lambda m: api.prune(m, budget="speed=2x"), ["prune", "nvit", "M", "--budget", "speed=2x"], BadOption),
        (lambda m: api.prune(m, ranking="luck"), ["prune", "nvit", "M", "--method", "luck"], BadOption),
        (lambda m: api.prune(m, method="depth", out="a.txt"), ["prune", "depth", "M", "-o", "a.txt"], BadOption),
        (lambda m: api.prune(m, data="nothing"), ["prune", "nvit", "M", "--data", "nothing"], BadOption),
        (lambda m: api.quantize(m, keep=("x",)), ["quantize", "M", "--keep", "x"], BadOption),
        (lambda m: api.quantize(m, budget="size=0.01x"), ["quantize", "M", "--budget", "size=0.01x"], BudgetMissed),
        (lambda m: api.binarize(m, bits=3), ["binarize", "M", "--bits", "3"], BadOption),
        (lambda m: api.fuse(m), ["fuse", "M"], BadOption),
        (lambda m: api.fuse(m, m, method="best"), ["fuse", "M", "M", "--method", "best"], BadOption),
        (lambda m: api.search(trials=0), ["search", "--trials", "0"], BadOption),
        (lambda m: api.measure(m, split="all"), ["measure", "M", "--split", "all"], BadOption),
        (lambda m: api.export(m, "a.onnx", opset=22), ["export", "M", "-o", "a.onnx", "--opset", "22"], BadOption),
        (lambda m: api.measure("none.onnx"), ["measure", "none.onnx"], BadArtefact),
    ],
)
def test_errors_say_what_the_commands_say(
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[Path], object],
    words: list[str],
    error: type[WbError],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as raised:
        call(file)
    result = CliRunner().invoke(app, [str(file) if word == "M" else word for word in words])
    assert result.exit_code == error.exit_code
    assert f"error: {raised.value}" in result.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_results_are_given_on_and_show_as_tables(file: Path, tmp_path: Path) -> None:
    model = api.load(file)
    assert isinstance(model, api.Model)
    small = api.prune(model, budget="macs=0.7x", out=tmp_path / "p.safetensors", quiet=True, **TINY)
    low = api.quantize(small, policy="int8-dynamic", out=tmp_path / "q.onnx", quiet=True)
    for shown, name in ((model, str(file)), (small, str(tmp_path / "p.safetensors")), (low, str(tmp_path / "q.onnx"))):
        assert str(shown).splitlines()[0] == repr(shown).splitlines()[0] == name
        assert name in shown._repr_html_()
        assert "<table>" in shown._repr_html_()
    assert f"wrote {tmp_path / 'q.onnx'}" in str(low)
    assert low.record.quantized["acc"].text() in str(low)
    assert [step.name for step in low.model.model.history] == ["train", "score", "prune nvit", "quantize"]
    assert "train" in str(api.data("digits", limit=100))


def test_tables_escape_and_align() -> None:
    table = Table("<t>", ("", "a<b"), [("row", "1"), ("longer row", "23")], ["so & so"])
    assert table.text().splitlines() == ["<t>", "            a<b", "row           1", "longer row   23", "so & so"]
    assert "<t>" not in table.html()
    assert "a&lt;b" in table.html()
    assert "so &amp; so" in table.html()


def test_a_graph_names_pictures_in_every_form(graph: Classifier, tmp_path: Path) -> None:
    pixels = load_data("digits").test.pixels(slice(0, 6))
    names = graph(pixels)
    assert len(names) == 6
    assert set(names) <= {str(digit) for digit in range(10)}
    levels = np.rint(pixels * 255).astype(np.uint8)
    pictures = [Image.fromarray(picture[0]) for picture in levels]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    assert graph(levels) == graph(pictures) == graph(paths) == graph([str(path) for path in paths])
    assert graph(levels[0]) == graph(levels[0, 0]) == graph(pictures[0]) == graph(paths[0]) == graph(levels)[:1]
    larger = [picture.resize((32, 24), Image.Resampling.NEAREST).convert("RGB") for picture in pictures]
    assert graph.pixels(larger).shape == (6, 1, 8, 8)
    assert graph.pixels(np.asarray(larger[0])).shape == (1, 1, 8, 8)


@pytest.mark.parametrize("bad", [[], np.zeros((2, 2, 2, 2, 2)), np.zeros(3)])
def test_what_is_no_picture_is_refused(graph: Classifier, bad: Any) -> None:
    with pytest.raises(BadData):
        graph(bad)
    with pytest.raises(BadData):
        graph(np.zeros((1, 9, 9), np.float32))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL: dict[str, dict[str, Any]] = {
    "train": {"limit": 60, "epochs": 1},
    "search": {"limit": 60, "epochs": 1, "finetune": 0, "trials": 3, "objectives": "acc,macs", "sampler": "random"},
    "prune": {"budget": "macs=0.8x", **TINY},
    "fuse": {"method": "orth", "data": "none"},
    "quantize": {"budget": "size=0.6x", "calib": 8},
    "binarize": {"finetune": 0},
    "measure": {"cap": 0.1},
}


def test_every_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_examples_run(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    models = {"train": [], "search": [], "fuse": [str(file)] * 2}.get(name, [str(file)])
    shown = example(name).main(*models, **SMALL[name], quiet=True)
    assert str(shown) in capsys.readouterr().out

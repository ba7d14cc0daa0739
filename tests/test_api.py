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
import torch
from PIL import Image
from typer.testing import CliRunner

from tests.foreign.checkpoints import REFERENCES
from tests.networks import of_digits
from wb import api
from wb.cli.main import app
from wb.core.errors import BadArtefact, BadData, BadOption, BudgetMissed, WbError
from wb.data import load as load_data
from wb.jobs.calls.shown import Table
from wb.jobs.verbs.classifier import Classifier
from wb.models.model import load

pytestmark = pytest.mark.usefixtures("untimed", "by_size", "unpaged", "brief")
EXAMPLES = Path(__file__).parent.parent / "examples"
TINY: dict[str, Any] = {"recovery": 0, "rounds": 1, "calibration": 16, "finetune": 0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has seen a few digits once."""
    path = tmp_path_factory.mktemp("api") / "m.safetensors"
    path.with_suffix(".a").write_text(of_digits().to_json(), encoding="utf-8")
    api.train(path, architecture=path.with_suffix(".a"), limit=100, epochs=1, quiet=True)
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
    (tmp_path / "api").mkdir()
    (tmp_path / "api" / ".p.safetensors.abcdefgh.safetensors").write_text("a killed process was writing")
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
        (
            lambda m: api.quantize(m, budget="size=0.01x", calib=8),
            ["quantize", "M", "--budget", "size=0.01x", "--samples", "8"],
            BudgetMissed,
        ),
        (lambda m: api.binarize(m, bits=3), ["binarize", "M", "--bits", "3"], BadOption),
        (lambda m: api.convert(m, mixer="x"), ["convert", "M", "--mixer", "x"], BadOption),
        (lambda m: api.fuse(m), ["fuse", "M"], BadOption),
        (lambda m: api.fuse(m, m, method="best"), ["fuse", "M", "M", "--method", "best"], BadOption),
        (lambda m: api.search(objectives="acc,acc"), ["search", "--objectives", "acc,acc"], BadOption),
        (lambda m: api.measure(m, split="all"), ["measure", "M", "--split", "all"], BadOption),
        (lambda m: api.export(m, "a.onnx", opset=22), ["export", "M", "-o", "a.onnx", "--opset", "22"], BadOption),
        (
            lambda m: api.export(m, "a.onnx", exporter="x"),
            ["export", "M", "-o", "a.onnx", "--exporter", "x"],
            BadOption,
        ),
        (lambda m: api.prune(m, background="red"), ["prune", "nvit", "M", "--background", "red"], BadOption),
        (lambda m: api.prune(m, snapshots=(0.5, 0.5)), ["prune", "nvit", "M", "--snapshots", "0.5x,0.5x"], BadOption),
        (lambda m: api.train("a.pt", background="red"), ["train", "-o", "a.pt", "--background", "red"], BadOption),
        (lambda m: api.train("a.txt"), ["train", "-o", "a.txt"], BadOption),
        (lambda m: api.search(background="red"), ["search", "--background", "red"], BadOption),
        (lambda m: api.search(seeds=["x"]), ["search", "--seed-architecture", "x"], BadOption),
        (lambda m: api.search(resume=m), ["search", "--resume", "M"], BadArtefact),
        (lambda m: api.quantize(m, calibration="x.npy"), ["quantize", "M", "--calibration", "x.npy"], BadArtefact),
        (lambda m: api.measure("none.onnx"), ["measure", "none.onnx"], BadArtefact),
        (lambda m: api.prune(m, snapshots="half"), ["prune", "nvit", "M", "--snapshots", "half"], BadOption),
        (lambda m: api.prune(m, rounds=0), ["prune", "nvit", "M", "--rounds", "0"], BadOption),
        (lambda m: api.quantize(m, samples=0), ["quantize", "M", "--samples", "0"], BadOption),
        (lambda m: api.fuse(m, m, weights="a,b"), ["fuse", "M", "M", "--weights", "a,b"], BadOption),
        (lambda m: api.train("a.pt", epochs=0), ["train", "-o", "a.pt", "--epochs", "0"], BadOption),
        (lambda m: api.train("a.pt", freeze=True), ["train", "-o", "a.pt", "--freeze"], BadOption),
        (
            lambda m: api.train("a.pt", model=m, preset="tiny"),
            ["train", "--from", "M", "-o", "a.pt", "--preset", "tiny"],
            BadOption,
        ),
        (lambda m: api.search(changes="embed"), ["search", "--set", "embed"], BadOption),
        (lambda m: api.search(workers=0), ["search", "--workers", "0"], BadOption),
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


def test_an_option_that_there_is_not_is_named_with_the_one_that_was_meant(file: Path) -> None:
    with pytest.raises(BadOption, match=r"wrong option: there is none named 'finetun' \(did you mean 'finetune'\?\)"):
        api.prune(file, finetun=3, quiet=True)


def test_text_is_taken_as_on_the_command_line_and_options_by_either_name(file: Path, tmp_path: Path) -> None:
    options = {**TINY, "budget": "macs=0.7x", "quiet": True}
    said = api.prune(file, keep="embed, heads", snapshots="0.9x", out=tmp_path / "text.pt", **options)
    options["samples"] = options.pop("calibration")
    same = api.prune(file, keep=("embed", "heads"), snapshots=(0.9,), out=tmp_path / "values.pt", **options)
    assert said.record.config == same.record.config
    assert said.model.model.fingerprint() == same.model.model.fingerprint()


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


def test_what_was_returned_may_be_given(graph: Classifier, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Data that were read, a graph; and with `quiet` nothing is said."""
    data = api.data("digits", limit=50)
    measured = api.measure(graph, data=data, cap=0.1, quiet=True)
    assert any(name.startswith("accuracy (digits") for name in measured.readings)
    half = [file.with_name(name) for name in (".n.pt.abcdefgh.pt", ".n.pt.checkpoint.abcdefgh.checkpoint")]
    for path in half:
        path.write_text("a killed process was writing")
    trained = api.train(file.with_name("n.pt"), data=data, epochs=1, quiet=True)
    assert not any(path.exists() for path in half)
    assert trained.model.history[0].arguments["limit"] == 50
    tuned = api.train(file.with_name("f.pt"), model=trained, epochs=1, freeze=True, quiet=True)
    assert [step.name for step in tuned.model.history] == ["train", "score", "finetune", "score"]
    assert tuned.model.history[2].arguments["limit"] == 50, "as the model's history says"
    with pytest.raises(BadOption, match="macs"):
        api.prune(trained, budget="macs=2x", quiet=True)
    assert capsys.readouterr() == ("", "")


def test_what_is_interrupted_says_how_to_continue(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("wb.compress.prune.job.PruneJob._publish", interrupted)
        with pytest.raises(KeyboardInterrupt) as raised:
            api.prune(file, budget="macs=0.7x", out="p.pt", quiet=True, **TINY)
    assert raised.value.__notes__ == ["what is done is in p.partial; the same call with out='p.pt' continues"]
    assert api.prune(file, budget="macs=0.7x", out="p.pt", quiet=True, **TINY).path.exists()
    with monkeypatch.context() as patch:
        patch.setattr("wb.search.stages.Stages.supernet", interrupted)
        with pytest.raises(KeyboardInterrupt) as raised:
            api.search(out="r", limit=60, quiet=True)
    assert raised.value.__notes__ == ["api.search(resume='r') continues"]
    with pytest.raises(WbError):
        api.search(out="s", preset="none", quiet=True)
    assert not (tmp_path / "s").exists(), "nothing was begun"


@pytest.mark.parametrize("opset", [5, 16, 24])
def test_an_opset_that_there_is_not_is_refused(file: Path, tmp_path: Path, opset: int) -> None:
    with pytest.raises(BadOption, match=rf"no opset {opset}; there are 17 to 23"):
        api.export(file, tmp_path / "a.onnx", opset=opset)


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
    assert api.predict(graph, pixels, quiet=True).names == names
    assert api.predict(graph, pixels[0], quiet=True).names == names[:1]
    levels = np.rint(pixels * 255).astype(np.uint8)
    pictures = [Image.fromarray(picture[0]) for picture in levels]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(6)]
    assert names == graph(torch.tensor(pixels))  # type: ignore[arg-type]  # not promised, but taken
    assert graph(levels) == graph(pictures) == graph(paths) == graph([str(path) for path in paths])
    assert graph(levels[0]) == graph(levels[0, 0]) == graph(pictures[0]) == graph(paths[0]) == graph(levels)[:1]
    larger = [picture.resize((32, 24), Image.Resampling.NEAREST).convert("RGB") for picture in pictures]
    assert graph.pixels(larger).shape == (6, 1, 8, 8)
    assert graph.pixels(np.asarray(larger[0])).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ([], "no pictures"),
        (None, "NoneType is no picture"),
        ("none.png", r"none\.png \(does not exist\)"),
        (np.zeros((2, 2, 2, 2, 2)), "shape"),
        (np.zeros(3), "shape"),
        (np.zeros((1, 0, 8), np.uint8), "shape"),
        (np.zeros((4, 8, 8), np.uint8), "several pictures have four dimensions"),
        (np.zeros((8, 8, 4), np.uint8), "one or three channels"),
        (np.full((1, 8, 8), 16.0), "values from 16 to 16; give uint8, or values in 0 to 1"),
        (np.full((1, 8, 8), 255), "of int64 with values"),
        (np.full((1, 8, 8), np.nan), "values from nan to nan"),
        (np.zeros((1, 9, 9), np.float32), "do not fit"),
    ],
)
def test_what_is_no_picture_is_refused(graph: Classifier, bad: Any, why: str) -> None:
    with pytest.raises(BadData, match=why):
        graph(bad)


def test_a_picture_taken_sideways_is_turned_also_when_it_is_open(graph: Classifier, tmp_path: Path) -> None:
    levels = np.zeros((8, 8), np.uint8)
    levels[:2] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # EXIF orientation: a quarter turn
    Image.fromarray(levels).save(tmp_path / "p.png", exif=exif)
    with Image.open(tmp_path / "p.png") as picture:
        opened = graph.pixels(picture)
    np.testing.assert_array_equal(opened, graph.pixels(tmp_path / "p.png"))
    np.testing.assert_array_equal(opened[0, 0], np.rot90(levels / 255, -1))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SMALL: dict[str, dict[str, Any]] = {
    "train": {"limit": 60, "epochs": 1},
    "train_from": {"data": "digits", "limit": 60, "epochs": 1},
    "search": {"limit": 60, "epochs": 1, "finetune": 0, "trials": 2, "objectives": "acc,macs", "sampler": "random"},
    "search_from": {"budget": "macs=0.8x", "limit": 60, "samples": 16, "alternatives": 3, "finetune": 0},
    "prune": {"budget": "macs=0.8x", **TINY},
    "fuse": {"method": "orth", "data": "none"},
    "quantize": {"budget": "size=0.8x", "calib": 8},
    "binarize": {"finetune": 0},
    "convert": {"finetune": 0, "steps": 1},
    "exits": {"after": "s0.b0"},
    "measure": {"cap": 0.1},
    "predict": {},
    "run": {},
    "generate": {"limit": 30, "epochs": 1},
    "import_checkpoint": {"compare": False},
    "diff": {"data": "none", "images": 4},
    "bundle": {"cap": 1.0},
    "data": {"limit": 60},
    "sweep_aspect": {"heads": 2, "depths": (2, 1), "limit": 60, "epochs": 1, "seeds": 1},
}


def test_every_example_is_tried() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SMALL.keys()


@pytest.mark.parametrize("name", SMALL)
def test_examples_run(
    name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prose.txt").write_text("a text, and another text. " * 80)
    pair, foreign = [str(file)] * 2, [str(REFERENCES / "hf-vit")]
    models = {"train": [], "search": [], "data": [], "fuse": pair, "diff": pair, "import_checkpoint": foreign}
    models["sweep_aspect"] = ["digits"]
    models["generate"] = ["g.safetensors", f"lm,length=16:{tmp_path / 'prose.txt'}"]
    quiet = {} if name in ("data", "import_checkpoint") else {"quiet": True}  # they show no progress
    shown = example(name).main(*models.get(name, [str(file)]), **SMALL[name], **quiet)
    assert str(shown) in capsys.readouterr().out

"""Every command with every kind of file: what it does not take it calls by its name, in one paragraph."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from tests.networks import assembled
from wb.cli.main import app
from wb.core.architecture import Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.jobs.kinds import KINDS, MODELS, Kind, kind_of
from wb.models.model import from_network, save
from wb.models.network import build

M: set[Kind] = set(MODELS)
# the words that call a command, the file between; which kinds it takes
COMMANDS: Mapping[str, set[Kind]] = {
    "show {}": {*M, "onnx", "run"},
    "import {} -o OUT.pt": M,
    "measure {} --cap 0.1": {*M, "onnx"},
    "export {} -o OUT.onnx": M,
    "report {} -o OUT.html": {"run", "record", "json"},
    "prune nvit {} -o OUT.pt": M,
    "prune depth {} -o OUT.pt": M,
    "prune depgraph x:y -o OUT.onnx --budget macs=0.5x --weights {}": {"weights", "model", "torch"},
    "binarize {} -o OUT.pt": M,
    "convert {} -o OUT.pt --norm repbn": M,
    "fold norms {} -o OUT.pt": M,
    "grow {} --to MODEL -o OUT.pt": M,
    "quantize {} -o OUT.onnx": {*M, "onnx"},
    "quantize -o OUT.onnx --calibration {}": {"pictures", "folder", "arrays"},
    "fuse {} {} -o OUT.pt": M,
    "fuse MODEL MODEL -o OUT.pt --data digits --to {}": {"architecture", "json", *M},
    "train -o OUT.pt --architecture {}": {"architecture", "json", *M},
    "analyze depth {} -o OUT.html": M,
    "search --resume {}": {"run"},
}
FILES: Mapping[Kind, str] = {
    "model": "m.safetensors",
    "weights": "w.safetensors",
    "torch": "m.pt",
    "pickle": "old.pt",
    "onnx": "x.onnx",
    "architecture": "a.json",
    "record": "r.json",
    "run record": "run/run.json",
    "json": "x.json",
    "run": "run",
    "unfinished": "m.partial",
    "checkpoint": "hf",
    "pictures": "photos",
    "folder": "empty",
    "picture": "p.png",
    "arrays": "c.npy",
    "study": "run/study.db",
    "page": "report.html",
    "empty": "nothing.pt",
    "special": "fifo",
    "unknown": "notes.txt",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of every kind."""
    folder = tmp_path_factory.mktemp("kinds")
    image = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
    stage = Stage(embed=8, blocks=(Block(ffn=Mlp(mlp=8)),))
    architecture = assembled(input=image, stem=PatchStem(patch=4), stages=(stage,), classes=2)
    network = build(architecture)
    network.reset()
    for name in ("m.safetensors", "m.pt"):
        save(from_network(architecture, network), folder / name)
    save_file({"a": torch.zeros(2)}, folder / "w.safetensors")
    (folder / "hf").mkdir()
    save_file({"a": torch.zeros(2)}, folder / "hf/model.safetensors")
    (folder / "hf/config.json").write_text("{}")
    (folder / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    onnx.save(helper.make_model(graph, producer_name="p"), folder / "x.onnx")
    (folder / "a.json").write_text(architecture.to_json())
    (folder / "r.json").write_text(json.dumps({"kind": "fusion"}))
    (folder / "x.json").write_text('{"a": 1}')
    for name in ("run", "m.partial", "photos/cat", "empty"):
        (folder / name).mkdir(parents=True)
    (folder / "run/run.json").write_text(json.dumps({"study": "s", "pace": {}, "config": {}}))
    sqlite3.connect(folder / "run/study.db").executescript("create table t (x); ").connection.close()
    (folder / "m.partial/record.json").write_text("{}")
    for name in ("p.png", "photos/cat/1.png"):
        Image.new("L", (8, 8)).save(folder / name)
    np.save(folder / "c.npy", np.zeros((1, 1, 8, 8), np.float32))
    (folder / "report.html").write_text("<!DOCTYPE html><html></html>")
    (folder / "nothing.pt").touch()
    os.mkfifo(folder / "fifo")
    (folder / "notes.txt").write_text("remember the milk")
    return folder


@pytest.mark.parametrize(("kind", "name"), FILES.items())
def test_a_kind_is_known_by_its_content(files: Path, tmp_path: Path, kind: Kind, name: str) -> None:
    assert set(FILES) == set(KINDS)
    assert kind_of(files / name) == kind
    if (files / name).is_file() and kind not in ("empty",):
        shutil.copy(files / name, tmp_path / "renamed.bin")
        assert kind_of(tmp_path / "renamed.bin") == kind


@pytest.mark.parametrize("looks_like", [b"PK", b"BM", b"\x80\x02", b"\x80\x04", b"\x08\x07\x12"])
def test_the_size_that_a_model_begins_with_decides_nothing(tmp_path: Path, looks_like: bytes) -> None:
    """A header of 640 bytes makes a file that begins like a pickle, one of 19,280 like an archive."""
    header = json.dumps({"__metadata__": {"wb.architecture": "{}"}}).encode()
    size = int.from_bytes(looks_like, "little")
    (tmp_path / "m.safetensors").write_bytes(size.to_bytes(8, "little") + header.ljust(size))
    assert kind_of(tmp_path / "m.safetensors") == "model"


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_does_not_take_is_called_by_its_name(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    turn = list(COMMANDS).index(command)
    for i, (kind, name) in enumerate(FILES.items()):
        every_third = turn < 2 or (i + turn) % 3 == 0  # the check is shared, so that the third command need not see all
        if kind in COMMANDS[command] or not every_third:
            continue
        given = command.replace("MODEL", str(files / "m.safetensors"))
        words = [word.replace("{}", str(files / name)) for word in given.split()]
        result = CliRunner().invoke(app, words)
        paragraphs = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
        assert result.exit_code in (1, 2), (kind, result.output)
        assert len(paragraphs) == 1
        assert result.stderr.splitlines()[-1] == paragraphs[0], "and nothing after it"
        assert f"{files / name} is {KINDS[kind].what}" in paragraphs[0]
        assert "expected " in paragraphs[0]
        assert not list(tmp_path.iterdir()), "nothing is written"


def test_the_advice_is_of_commands_that_take_the_kind() -> None:
    for kind, about in KINDS.items():
        for advised in about.advice.split("`")[1::2]:
            for command, kinds in COMMANDS.items():
                if advised == f"wb {command.split(' {}')[0]} {{path}}":
                    assert kind in kinds, advised


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "m.safetensors",
            "is a model file of wb's by its content, but not by its name; rename it to end in .safetensors",
        ),
        ("m.pt", "is a torch file by its content, but not by its name; rename it to end in .pt"),
        ("x.onnx", "is an ONNX graph by its content, but not by its name; rename it to end in .onnx"),
    ],
)
def test_a_name_that_readers_would_not_know_is_said(files: Path, tmp_path: Path, name: str, words: str) -> None:
    other = tmp_path / ("x.pt" if name != "m.pt" else "x.onnx")
    shutil.copy(files / name, other)
    result = CliRunner().invoke(app, ["show", str(other)])
    assert result.exit_code == 1
    assert f"{other} {words}" in result.stderr


def test_a_damaged_file_is_left_to_its_reader(files: Path, tmp_path: Path) -> None:
    for name, words in (("m.safetensors", "no safetensors file or is damaged"), ("m.pt", "cannot be read")):
        half = (files / name).read_bytes()[: (files / name).stat().st_size // 2]
        (tmp_path / name).write_bytes(half)
        result = CliRunner().invoke(app, ["show", str(tmp_path / name)])
        assert result.exit_code == 1
        assert words in result.stderr


def test_a_link_to_itself_is_no_mistake_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    result = CliRunner().invoke(app, ["show", str(tmp_path / "loop")])
    assert result.exit_code in (1, 2)
    assert "is a symbolic link that leads back to itself" in result.stderr
    where = f"imagefolder:{tmp_path / 'loop'}"
    result = CliRunner().invoke(app, ["prune", "depth", "--data", where, "-o", str(tmp_path / "a.pt")])
    assert result.exit_code in (1, 2)
    assert "a symbolic link leads back to itself" in result.stderr or "does not exist" in result.stderr


def test_a_user_that_does_not_exist_is_no_mistake_of_ours(tmp_path: Path) -> None:
    for command in ("prune depth --data", "train -o a.pt --data"):
        result = CliRunner().invoke(app, [*command.split(), "imagefolder:~nosuchuser/photos"])
        assert result.exit_code in (1, 2)
        assert "the name of a user that does not exist" in result.stderr

"""What is said of the data, on whichever command reads them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer.main
from PIL import Image

from tests.commands import succeeded, wb
from wb.cli.main import app
from wb.models.model import load


@pytest.fixture
def ink(tmp_path: Path) -> Path:
    """Squares of ink on a transparent ground, whose place is their class; all pixels are black."""
    for number, name in enumerate(("left", "right")):
        home = tmp_path / "ink" / name
        home.mkdir(parents=True)
        for i in range(8):
            alpha = Image.new("L", (8, 8), 0)
            alpha.paste(255, (4 * number, i // 2, 4 * number + 3, i // 2 + 3))
            Image.merge("LA", (Image.new("L", (8, 8), 0), alpha)).save(home / f"{i}.png")
        (home / "notes.txt").write_text("x", encoding="utf-8")
    return tmp_path / "ink"


def test_what_was_left_out_and_changed_is_said_once(ink: Path, tmp_path: Path) -> None:
    result = succeeded("train", "--data", f"imagefolder:{ink}", "--epochs", 1, "-o", tmp_path / "a.pt")
    assert [line for line in result.stderr.splitlines() if line.startswith("note:")] == [
        f"note: left out of {ink}: 2 files of other kinds (2 .txt), in the class folders left/, right/",
        f"note: 16 of 16 images of {ink} are transparent in parts: they are laid on white (--background)",
    ]
    assert load(tmp_path / "a.pt").architecture.image.mean[0] > 0.5  # black on white


def test_the_background_is_part_of_the_data(ink: Path, tmp_path: Path) -> None:
    given = ("train", "--data", f"imagefolder:{ink}", "--epochs", 1, "-o", tmp_path / "a.pt")
    result = wb(*given, "--background", "black")
    assert result.exit_code == 1
    assert "training images of imagefolder,background=black:" in result.stderr
    assert "are alike" in result.stderr
    assert not (tmp_path / "a.pt").exists()
    assert wb(*given, "--background", "#808080").exit_code == 0
    assert f"imagefolder,background=#808080:{ink}" in str(load(tmp_path / "a.pt").history)
    assert wb("train", "--background", "black", "-o", tmp_path / "b.pt").exit_code == 2


def test_every_command_that_resizes_folders_has_a_background() -> None:
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    commands |= {
        f"{group} {name}": c for group in ("prune", "analyze") for name, c in commands.pop(group).commands.items()
    }
    options = {name: {option for p in command.params for option in p.opts} for name, command in commands.items()}
    reading = {name for name, given in options.items() if "--image-size" in given}
    reading -= {"import"}  # of which it says the side of the network's images
    assert reading >= {"train", "search", "measure", "fuse", "quantize", "binarize", "prune nvit", "analyze depth"}
    assert all("--background" in options[name] for name in reading)


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "pipe.pt"],
        ["export", "pipe.safetensors", "-o", "x.onnx"],
        ["report", "pipe.json"],
        ["train", "--architecture", "pipe.json", "-o", "a.pt"],
        ["train", "--architecture", "loop.json", "-o", "a.pt"],
        ["prune", "depth", "loop.pt"],
        ["fuse", "pipe.pt", "loop.pt", "-o", "a.pt"],
        ["prune", "depth", "loop.pt", "-o", "a.pt"],
        ["binarize", "pipe.pt", "-o", "loop.pt"],
        ["quantize", "loop.pt", "-o", "a.onnx"],
        ["search", "--data", "imagefolder:loop.pt"],
        ["prune", "depth", "--data", "imagefolder:~nosuchuser/x"],
    ],
)
def test_pipes_and_links_to_themselves_end_in_one_paragraph(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for end in ("pt", "safetensors", "json"):
        os.mkfifo(f"pipe.{end}")
        Path(f"loop.{end}").symlink_to(f"loop.{end}")
    result = wb(*arguments)
    assert result.exit_code in (1, 2)
    assert "mistake of wb" not in result.stderr
    assert any(
        words in result.stderr
        for words in ("is a named pipe", "leads back to itself", "the name of a user that does not exist")
    )

"""Names that come from files: markup, control characters, and bytes that are no text."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from tests.networks import assembled
from wb.cli.frame import output
from wb.cli.frame.output import Plain
from wb.cli.frame.progress import Work
from wb.cli.frame.text import paragraph, printable
from wb.cli.main import app
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.models.model import Step, from_network, save
from wb.models.network import build

HOSTILE = (
    "[/]",
    "[bold]loud[/bold]",
    ":cat:",
    "\x1b[31mred\x1b]0;title\x07",
    "two\nlines",
    "\udcff",
    "\u202egnp.exe",
    "<b>&",
)
UNFIT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_printed_as_they_are_and_steer_nothing(name: str) -> None:
    for terminal in (False, True):
        out = io.StringIO()
        console = Plain(file=out, width=200, force_terminal=terminal, color_system=None)
        table = Table(title=name)
        table.add_column(name)
        table.add_row(name)
        table.add_row(Text(name, "bold"))
        console.print(name)
        console.print(table)
        shown = out.getvalue()
        shown.encode()
        assert not UNFIT.search(shown)
        assert shown.count(printable(name).splitlines()[0]) >= 4, "printed, as a title, a heading and a cell"


@pytest.mark.parametrize("name", HOSTILE)
def test_progress_shows_names_as_they_are(name: str) -> None:
    out = io.StringIO()
    with Work(Plain(file=out, width=100)) as progress:
        progress.add_task(f"reading {name}", total=None)
    assert printable(name) in out.getvalue()
    assert not UNFIT.search(out.getvalue())


def test_errors_are_one_paragraph_whatever_is_in_a_name() -> None:
    for name in HOSTILE:
        assert not UNFIT.search(paragraph(f"{name} is damaged"))
        assert "\n" not in paragraph(f"{name} is damaged")
    assert paragraph("a\n  b") == "a b"
    assert len(printable("\x1b[31m\udcff")) == 6


def test_json_can_be_read_by_every_program(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({name: [name, {"x": 1.5}] for name in HOSTILE})
    text = capsys.readouterr().out
    assert text.isascii()
    found = json.loads(text)
    json.dumps(found, ensure_ascii=False).encode()
    assert found["[/]"] == ["[/]", {"x": 1.5}]
    assert found["\ufffd"] == ["\ufffd", {"x": 1.5}]


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose classes, history and file have such names."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
    labels = tuple(name for name in HOSTILE if name != "\udcff")
    stage = Stage(embed=8, blocks=(Block(ffn=Mlp(mlp=8)),))
    architecture = assembled(input=image, stem=PatchStem(patch=4), stages=(stage,), classes=len(labels), labels=labels)
    network = build(architecture)
    network.reset()
    read = Reading(value=0.5, unit="[/]", how="measured", device="[bold]\x1b[2J", note="[/] \x1b[31m")
    steps = [Step(name=name, arguments={name: name}, readings={name: read}) for name in labels]
    counted = {name: Reading(value=1, unit="MAC", how="counted") for name in ("params", "macs")}
    steps.append(Step(name="score", readings=counted))  # what is there is not counted again, which takes seconds
    path = tmp_path_factory.mktemp("hostile") / "m[bold]x:cat:\x1b[31m.safetensors"
    save(replace(from_network(architecture, network), history=tuple(steps)), path)
    return path


def test_a_model_with_hostile_names_is_shown(hostile: Path) -> None:
    result = CliRunner().invoke(app, ["show", str(hostile)])
    assert result.exit_code == 0, result.output
    assert not UNFIT.search(result.output)
    for part in ("classes: [/], [bold]loud[/bold], :cat:, ", "[/] ([/]=[/])", "on [bold]\ufffd[2J", "0.5 [/]"):
        assert part in result.output
    shown = CliRunner().invoke(app, ["show", str(hostile), "--json"])
    assert json.loads(shown.stdout)["architecture"]["head"]["labels"][1] == "[bold]loud[/bold]"


def test_errors_show_hostile_file_names_as_they_are(hostile: Path) -> None:
    for command in ("show", "measure", "export -o x.onnx", "prune depth"):
        result = CliRunner().invoke(app, [*command.split(), f"{hostile}\n[/].pt"])
        assert result.exit_code == 1, result.output
        assert f"error: there is no file {printable(str(hostile))} [/].pt" in result.stderr
        assert len(result.stderr.splitlines()) <= 3
        assert not UNFIT.search(result.stderr)


@pytest.mark.parametrize("command", ["show", "report", "search -o", "train --data imagefolder:x -o"])
def test_names_that_are_no_text_are_refused_at_once(command: str, tmp_path: Path) -> None:
    """Libraries refuse them in their own words: one printed 180 kB."""
    result = CliRunner().invoke(app, [*command.split(), os.fsdecode(os.fsencode(tmp_path) + b"/x\xff.pt")])
    assert result.exit_code == 2
    assert "has bytes that are no UTF-8 text; rename" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_library_that_says_a_lot_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise TypeError("incompatible \x1b[31marguments\n" + "graph " * 50_000)

    monkeypatch.setattr("wb.spaces.columnar.presets.preset", fail)
    result = CliRunner().invoke(app, ["spaces", "tiny"])
    assert result.exit_code == 1
    assert result.stderr == (
        "error: TypeError: incompatible arguments. This is a mistake of wb's; run it again with --debug and report it\n"
    )


def test_an_output_of_few_characters_is_no_error(hostile: Path) -> None:
    command = [sys.executable, "-m", "wb.cli.main", "show", str(hostile)]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"[bold]loud[/bold]" in done.stdout

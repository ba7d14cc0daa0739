"""What lists constants or shows what a file says of itself loads neither torch nor the runtime."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from tests.networks import assembled
from wb.cli.main import app
from wb.core.architecture import Block, Stage
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.models.counting import count_macs, count_parameters
from wb.models.files.header import read_header
from wb.models.model import Model, Step, from_network, load, save
from wb.models.network import build

HEAVY = ("pydantic", "torch", "onnx", "onnxruntime", "optuna", "numpy", "plotly", "sklearn", "scipy", "PIL")


def loaded_by(*commands: str) -> dict[str, tuple[list[str], str]]:
    """What commands have loaded of all that is heavy, one after the other in one process, and what each prints."""
    code = (
        "import json, sys; from typer.testing import CliRunner; from wb.cli.main import app\n"
        f"for words in {[shlex.split(command) for command in commands]}:\n"
        "    result = CliRunner().invoke(app, words); assert result.exit_code == 0, result.output\n"
        f"    print(json.dumps([[m for m in {HEAVY} if m in sys.modules], result.stdout]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return dict(zip(commands, map(json.loads, done.stdout.splitlines()), strict=True))


def model(*, counted: bool) -> Model:
    """A small model with named classes, whose multiply-accumulates are in its history or are not."""
    image = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.5,))
    stage = Stage(embed=8, blocks=(Block(ffn=Mlp(mlp=8)),))
    architecture = assembled(
        input=image, stem=PatchStem(patch=4), stages=(stage,), classes=2, labels=("cat", "siamese cat")
    )
    network = build(architecture)
    network.reset()
    readings = {"params": count_parameters(architecture), "macs": count_macs(architecture)} if counted else {}
    return from_network(architecture, network, (Step(name="score", readings=readings),))


def test_the_list_of_commands_needs_no_configuration() -> None:
    assert loaded_by("--help")["--help"][0] == []


def test_help_loads_nothing_that_it_does_not_show() -> None:
    """Whole, as a user calls it."""
    code = (
        "import atexit, sys; from wb.cli.main import main; sys.argv = ['wb', '--help']\n"
        "atexit.register(lambda: print([m for m in ('markdown_it', 'pygments', 'rich.progress') if m in sys.modules]))\n"
        "main()"
    )
    *shown, loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert loaded == "[]"
    assert "Usage: wb" in "\n".join(shown)


def test_the_options_of_a_command_need_no_torch() -> None:
    commands = ("search", "train", "measure", "prune nvit", "prune depgraph", "quantize", "fuse")
    for command, (loaded, output) in loaded_by(*(f"{command} --help" for command in commands)).items():
        assert {"pydantic"} <= set(loaded) <= {"pydantic", "numpy", "PIL"}, command
        assert "--threads" in output, command


def test_a_list_of_constants_loads_nothing_heavy() -> None:
    ((loaded, output),) = loaded_by("spaces").values()
    assert loaded == ["pydantic"]
    assert "space vit, preset revit-base" in output


def test_a_model_shows_what_it_says_of_itself(tmp_path: Path) -> None:
    save(model(counted=True), tmp_path / "m.safetensors")
    ((loaded, output),) = loaded_by(shlex.join(["show", str(tmp_path / "m.safetensors")])).values()
    assert loaded in (["pydantic"], ["pydantic", "numpy"])
    assert "classes: cat, siamese cat" in output
    for how in (count_parameters, count_macs):
        assert how(model(counted=True).architecture).text() in output


def test_what_is_not_in_a_history_is_counted(tmp_path: Path) -> None:
    save(model(counted=False), tmp_path / "m.safetensors")
    save(model(counted=False), tmp_path / "m.pt")
    shown = [CliRunner().invoke(app, ["show", str(tmp_path / name)]).stdout for name in ("m.safetensors", "m.pt")]
    assert shown[0] == shown[1]
    assert f"{count_macs(model(counted=False).architecture).text()} multiply-accumulates" in shown[0]


def test_a_later_step_makes_former_counts_void(tmp_path: Path) -> None:
    wrong = {name: Reading(value=1e9, unit="MAC", how="counted") for name in ("params", "macs")}
    made = model(counted=False)
    made = Model(made.architecture, made.weights, (Step(name="score", readings=wrong), Step(name="prune")))
    save(made, tmp_path / "m.safetensors")
    first = CliRunner().invoke(app, ["show", str(tmp_path / "m.safetensors")]).stdout.splitlines()[0]
    assert first.endswith("; 362 parameters, 1.04 k multiply-accumulates")


def test_the_header_says_what_the_model_says(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(model(counted=True), path)
    whole = load(path)
    assert read_header(path) == (whole.architecture, whole.history)

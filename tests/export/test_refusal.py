"""What no graph computes is refused with the reason of its record, by everything that writes one, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from tests.networks import images, of_digits, random_model
from wb.cli.main import app
from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.records import MIXERS, kind_of
from wb.core.records.mixers.memory import Atlas, Titans
from wb.export.graph import export
from wb.export.plain.write import export_plain
from wb.export.refusal import check_exportable
from wb.export.stages import export_stages
from wb.jobs.verbs.operators import listed
from wb.models.model import save
from wb.spaces.operators import OFFERED

REASON = r"s0\.b1\.mixer is 'titans', which takes gradients while it runs"


def remembering() -> Architecture:
    """A network for digits whose second block has a neural memory."""
    memory = Titans(heads=2, channels=4, hidden=6, chunk=4)
    return of_digits().with_blocks(
        lambda name, block: block.model_copy(update={"mixer": memory}) if name == "s0.b1" else block
    )


def test_whatever_writes_a_graph_refuses_it(tmp_path: Path) -> None:
    model = random_model(remembering())
    with torch.inference_mode():
        assert model.network()(images(model.architecture)).isfinite().all(), "torch computes it"
    save(model, tmp_path / "m.safetensors")
    for write in (
        lambda: export(model, tmp_path / "m.onnx"),
        lambda: export_stages(model, tmp_path / "line", 2),
        lambda: export_plain(model, tmp_path / "plain"),
    ):
        with pytest.raises(Unsupported, match=REASON):
            write()
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    check_exportable(of_digits())


def test_the_command_says_why(tmp_path: Path) -> None:
    save(random_model(remembering()), tmp_path / "m.safetensors")
    done = CliRunner().invoke(app, ["export", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "m.onnx")])
    assert done.exit_code == 1
    assert "takes gradients while it runs" in " ".join(done.stderr.split())
    assert not (tmp_path / "m.onnx").exists()


def test_spaces_do_not_offer_it_and_the_list_of_parts_says_so() -> None:
    without = {kind_of(mixer) for mixer in MIXERS if mixer.unexported is not None}
    assert without == {kind_of(Atlas), kind_of(Titans)}
    assert not without & set(OFFERED)
    assert {part.kind for part in listed() if "no graph" in part.support} == without
    assert {part.kind for part in listed() if part.content()["supports"]["unexported"]} == without  # type: ignore[index]

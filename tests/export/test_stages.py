"""Graphs of stages, one after the other, give what the network gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.catalogue import CATALOGUE, DECODERS
from tests.commands import wb
from tests.networks import fed, hybrid, images, of_digits, random_model, wired
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import with_precisions
from wb.export.graph import ROUNDED
from wb.export.stages import ORDER, TOKENIZER, chained, export_stages
from wb.models.files.header import TOKENIZER as WRITTEN
from wb.models.model import Step, save

LINES: dict[str, tuple[Architecture, int]] = {
    "ladder": (wired(of_digits(depth=3), "ladder"), 3),
    "paths": (wired(of_digits(depth=3), "path_ensemble"), 3),
    "averaged": (wired(of_digits(depth=3), "averaged"), 3),
    "maps": (hybrid(), 2),
    "text": (CATALOGUE["text-cls"], 2),
    "mirrored": (CATALOGUE["softmax-mirrored"], 1),
}


def order(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / ORDER).read_text())
    return content


@pytest.mark.parametrize("name", LINES)
def test_graphs_of_stages_are_the_network(name: str, tmp_path: Path) -> None:
    a, count = LINES[name]
    model = random_model(a)
    if name == "text":
        model = model.then(Step(name="train", arguments={WRITTEN: "{}"}))
    found = export_stages(model, tmp_path / "line", count)
    assert found.value < 1e-4
    content = order(tmp_path / "line")
    assert len(content["stages"]) == count
    assert (TOKENIZER in content.values()) == (name == "text") == (tmp_path / "line" / TOKENIZER).exists()
    files = [tmp_path / "line" / stage["file"] for stage in content["stages"]]
    inputs = images(a, 3)
    with torch.inference_mode():
        expected = model.network()(inputs).numpy()
    np.testing.assert_allclose(chained(files, fed(inputs)), expected, atol=1e-4)
    there = set(fed(inputs))
    for stage in content["stages"]:  # whoever goes by the file alone finds all arrays
        assert {one["name"] for one in stage["inputs"]} <= there
        there |= {one["name"] for one in stage["outputs"]}
    assert "logits" in there
    if name == "ladder":
        whole = sum(4 * weight.numel() for weight in model.weights.values())
        assert all(whole / 5 < stage["bytes"] < whole for stage in content["stages"])  # each has its own weights alone
        assert [one["name"] for one in content["stages"][1]["inputs"]] == ["stage0.stream", "stage0.before"]


def test_weights_in_fewer_bits_are_lowered_stage_by_stage(tmp_path: Path) -> None:
    a = with_precisions(of_digits(depth=2, embed=32, mlp=64), {"s0.b1.ffn.in": "int8"})
    found = export_stages(random_model(a), tmp_path, 2)
    assert found.note == ROUNDED
    plain = export_stages(random_model(of_digits(depth=2, embed=32, mlp=64)), tmp_path / "plain", 2)
    assert plain.note is None
    sizes, before = ([one["bytes"] for one in order(folder)["stages"]] for folder in (tmp_path, tmp_path / "plain"))
    assert sizes[1] < before[1] - 4000
    assert abs(sizes[0] - before[0]) < 2000


def test_what_makes_no_line_is_refused(tmp_path: Path) -> None:
    model = random_model(of_digits(depth=2))
    with pytest.raises(BadOption, match="3 stages cannot share 2 blocks"):
        export_stages(model, tmp_path, 3)
    with pytest.raises(Unsupported, match="continue texts"):
        export_stages(random_model(DECODERS["softmax"]), tmp_path, 2)
    (tmp_path / "1.onnx").touch()
    with pytest.raises(BadOption, match=r"1.onnx exists already"):
        export_stages(model, tmp_path, 2)
    with pytest.raises(BadOption, match="is a file, and the stages are several"):
        export_stages(model, tmp_path / "1.onnx", 2)
    assert not (tmp_path / ORDER).exists()


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    save(random_model(of_digits(depth=2)), tmp_path / "a.safetensors")
    result = wb("export", tmp_path / "a.safetensors", "--stages", 2, tmp_path / "line", "--json")
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert [Path(path).name for path in content["files"]] == ["stages.json", "0.onnx", "1.onnx"]
    assert all(Path(path).exists() for path in content["files"])
    for more, why in (
        (("--to", "torch"), "leave --to torch out"),
        (("--exporter", "dynamo"), "leave --exporter out"),
    ):
        assert why in " ".join(
            wb("export", tmp_path / "a.safetensors", "--stages", 2, tmp_path / "x", *more).output.split()
        )
    assert "name a folder" in wb("export", tmp_path / "a.safetensors", "--stages", 2, tmp_path / "x.onnx").output
    assert "exists already" in " ".join(
        wb("export", tmp_path / "a.safetensors", "--stages", 2, tmp_path / "line").output.split()
    )


def test_an_earlier_line_leaves_no_graph_behind(tmp_path: Path) -> None:
    for number in (0, 1, 2, 4):
        (tmp_path / f"{number}.onnx").write_text("old")
    (tmp_path / ORDER).write_text("{}")
    export_stages(random_model(of_digits(depth=2)), tmp_path, 1, force=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.onnx", "4.onnx", ORDER]


def test_graphs_of_another_kind_stay(tmp_path: Path) -> None:
    (tmp_path / "1.onnx").write_text("of the user")
    export_stages(random_model(of_digits(depth=2)), tmp_path, 1)
    assert (tmp_path / "1.onnx").read_text() == "of the user"

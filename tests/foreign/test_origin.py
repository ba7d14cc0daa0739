"""What is noted of a checkpoint, in a model file that anyone may have written."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.foreign.checkpoints import REFERENCES
from wb.core.errors import BadArtefact, BadOption
from wb.foreign.exporting import export_checkpoint
from wb.foreign.importing import read_checkpoint
from wb.foreign.origin import Kept, origin_of
from wb.models.model import Model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool])
def test_a_tensor_is_kept_as_it_is(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).reshape(2, 3).to(dtype)
    again = Kept.of(tensor).tensor()
    assert again.dtype == dtype
    assert torch.equal(again, tensor)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": "%%%"},
        {"data": base64.b64encode(b"nothing").decode()},
        {"dtype": "F8"},
        {"shape": (2, 2)},
        {"shape": (0,)},
        {"shape": (10**30,)},
        {"data": base64.b64encode(zlib.compress(bytes(10_000_000))).decode()},
    ],
)
def test_a_damaged_one_is_refused_and_no_bomb_is_unpacked(changes: dict[str, Any]) -> None:
    with pytest.raises(BadArtefact, match="is noted, but damaged"):
        Kept.of(torch.ones(2, 3)).model_copy(update=changes).tensor()


def changed(**changes: Any) -> Model:
    """An imported model with another origin."""
    model = read_checkpoint(REFERENCES / "hf-vit").model
    (step,) = model.history
    origin: Any = step.arguments["origin"]
    return replace(model, history=(step.model_copy(update={"arguments": {"origin": {**origin, **changes}}}),))


@pytest.mark.parametrize("name", ["../evil.json", "/etc/evil.json", "..", "a/b", "a\0.json"])
def test_nothing_is_written_outside_of_the_folder(name: str, tmp_path: Path) -> None:
    tensors = origin_of(changed().history)
    assert tensors is not None
    files = [file.model_dump(mode="json") | {"name": name} for file in tensors.files]
    for model in (changed(texts={name: "{}"}), changed(files=files)):
        assert origin_of(model.history) is None
        with pytest.raises(BadOption, match="was not imported"):
            export_checkpoint(model, "source", tmp_path / "inner")
    assert not list(tmp_path.iterdir())


def test_only_json_stands_beside_weights(tmp_path: Path) -> None:
    model = changed(texts={".profile": "run me"})
    assert origin_of(model.history) is None
    with pytest.raises(BadOption, match="was not imported"):
        export_checkpoint(model, "source", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("header", ["x", "[]", "{}", "[" * 100_000])
def test_a_header_of_other_tensors_is_not_written(header: str, tmp_path: Path) -> None:
    origin = origin_of(changed().history)
    assert origin is not None
    (file,) = (file.model_dump(mode="json") for file in origin.files)
    with pytest.raises(BadArtefact, match="a header is not that of its tensors"):
        export_checkpoint(changed(files=[file | {"header": header}]), "source", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_type_that_there_is_not_is_damage() -> None:
    origin = origin_of(changed().history)
    assert origin is not None
    (file,) = (file.model_dump(mode="json") for file in origin.files)
    tensors = [one | {"dtype": "F8"} for one in file["tensors"]]
    assert origin_of(changed(files=[file | {"tensors": tensors}]).history) is None


def test_a_tensor_of_nothing_is_kept() -> None:
    assert Kept.of(torch.zeros(0, 3)).tensor().shape == (0, 3)

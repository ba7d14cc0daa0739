"""State dicts as trainers leave them: under usual keys, with usual prefixes, beside what is no weight."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.foreign.checkpoints import tensors
from wb.foreign.exporting import export_checkpoint
from wb.foreign.given import Given
from wb.foreign.importing import read_checkpoint

GIVEN = Given(heads=2)


def weights(prefix: str = "") -> dict[str, Tensor]:
    """The tensors of timm's DeiT under names with a prefix."""
    return OrderedDict((prefix + name, tensor) for name, tensor in tensors("timm-deit").items())


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (weights(), ()),
        ({"model": weights()}, ("model",)),
        ({"state_dict": weights("module.")}, ("state_dict",)),
        (
            {"epoch": 3, "model": {"module": weights("_orig_mod.module.")}, "optimizer": {"lr": 0.1}},
            ("model", "module"),
        ),
        (weights("model."), ()),
    ],
)
@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin"])
def test_a_wrapped_state_dict_is_handed_back_wrapped(
    content: Any, keys: tuple[str, ...], ending: str, tmp_path: Path
) -> None:
    path = tmp_path / f"m{ending}"
    torch.save(content, path)
    found = read_checkpoint(path, GIVEN)
    assert any("optimizer" in note for note in found.notes) == ("optimizer" in content)
    (back,) = export_checkpoint(found.model, "timm", tmp_path / "back")
    assert back.name == path.name
    given, again = torch.load(path), torch.load(back)
    for key in keys:
        given, again = given[key], again[key]
    assert list(given) == list(again)
    assert all(torch.equal(given[name], again[name]) and given[name].dtype == again[name].dtype for name in given)


def test_averages_of_the_weights_are_taken_before_the_weights(tmp_path: Path) -> None:
    averaged = {name: tensor + 1 for name, tensor in weights().items()}
    torch.save({"state_dict": weights(), "state_dict_ema": averaged}, tmp_path / "m.pt")
    found = read_checkpoint(tmp_path / "m.pt", GIVEN)
    torch.testing.assert_close(found.model.weights["head_bias"], averaged["head.bias"].float())
    assert found.notes[0] == "m.pt: the weights are under 'state_dict_ema'"

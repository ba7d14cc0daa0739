"""What a comparison with the source's library says: it agrees, it does not, or it could not be made."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.foreign.checkpoints import NAMES, REFERENCES, written
from tests.foreign.checkpoints import kwt as kwt_weights
from wb.foreign import agreement as module
from wb.foreign.agreement import Disagreement, agreement
from wb.foreign.importing import read_checkpoint

VIT = REFERENCES / "hf-vit"


def with_library(monkeypatch: pytest.MonkeyPatch, run: Callable[[Tensor], Tensor] | Exception) -> str:
    """What is said if transformers is there, and computes that on normalised images."""

    def loaded(*given: object) -> Callable[[Tensor], Tensor]:
        if isinstance(run, Exception):
            raise run
        return run

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "transformers" or None)
    monkeypatch.setattr(module, "_transformers", loaded)
    return agreement(read_checkpoint(VIT), VIT)


def test_the_library_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    network = read_checkpoint(VIT).model.network()
    said = with_library(monkeypatch, lambda x: network(x * network.std + network.mean))
    assert said.startswith("transformers gives the same logits for 2 random images: the largest difference is ")


def test_the_library_disagrees(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        Disagreement, match=r"hf-vit as a model of wb differs from transformers by .*nothing was written"
    ):
        with_library(monkeypatch, lambda x: torch.zeros(len(x), 5))
    with pytest.raises(Disagreement, match="differs from transformers by nan"):
        with_library(monkeypatch, lambda x: torch.full((len(x), 5), torch.nan))


def test_the_library_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    said = with_library(monkeypatch, RuntimeError("no such operator\nand more"))
    assert said == "its logits were not compared with those of transformers: no such operator"


def test_there_is_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "transformers, which is not installed (`pip install transformers`)" in agreement(read_checkpoint(VIT), VIT)


def test_some_layouts_come_with_no_library(tmp_path: Path) -> None:
    folder = written(tmp_path, kwt_weights())
    assert (
        agreement(read_checkpoint(folder), folder)
        == "its logits were not compared: a Keyword Transformer comes with no library"
    )


@pytest.mark.parametrize("name", NAMES)
def test_installed_libraries_agree(name: str) -> None:
    library = "transformers" if name.startswith("hf") else "timm"
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    assert "gives the same logits" in agreement(read_checkpoint(REFERENCES / name), REFERENCES / name)

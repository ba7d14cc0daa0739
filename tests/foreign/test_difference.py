"""What a format cannot say of an architecture, in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.foreign.checkpoints import REFERENCES
from wb.core.architecture import Architecture
from wb.core.records import LayerNorm, Mlp
from wb.core.records.ffns import Glu
from wb.foreign.importing import read_checkpoint
from wb.foreign.said.difference import difference

VIT = read_checkpoint(REFERENCES / "hf-vit").model.architecture
MLP = next(block.ffn.mlp for _, _, block in VIT.blocks() if isinstance(block.ffn, Mlp))


def changed(**fields: Any) -> Architecture:
    """Another second block."""
    return VIT.with_blocks(lambda name, block: block.model_copy(update=fields) if name == "s0.b1" else block)


def test_nothing() -> None:
    assert difference(VIT, changed()) is None


def test_a_norm_is_told_by_what_it_adds() -> None:
    last = VIT.model_copy(update={"last": LayerNorm(eps=1e-3)})
    assert difference(last, VIT) == "last, whose eps is 0.001 where it would be 1e-12"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ffn": Mlp(mlp=MLP, activation="relu")}, "whose ffn.activation is relu where it would be gelu"),
        ({"ffn": Glu(mlp=8)}, "whose ffn is gated linear unit where it would be two-layer perceptron"),
        ({"ffn": None}, "whose ffn is None where it would be two-layer perceptron"),
    ],
)
def test_a_block_is_told_by_its_first_difference(fields: dict[str, Any], words: str) -> None:
    said = difference(changed(**fields), VIT)
    assert said is not None
    assert said.startswith("block s0.b1, ")
    assert words in said

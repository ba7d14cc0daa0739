"""Space `text`: encoders with any of the mixers that leave out padding, from none to a few blocks."""

from __future__ import annotations

from random import Random

import pytest

from wb.core.errors import BadOption
from wb.core.records import TextInput
from wb.core.space import random_choices
from wb.spaces.columnar.presets import ENCODER, text_space
from wb.spaces.columnar.text import Text

TEXT = TextInput(vocabulary=50, length=16, tokens=8)


class Data:
    """What a space needs to know of texts."""

    text = TEXT
    classes = ("a", "b", "c")


SPACE = text_space(Data())


@pytest.mark.parametrize("seed", range(20))
def test_networks_come_back_from_their_choices(seed: int) -> None:
    architecture = SPACE.decode(random_choices(SPACE, Random(seed)))
    assert architecture.input == TEXT
    assert SPACE.decode(SPACE.encode(architecture)) == architecture


def test_the_usual_network_is_that_of_the_recipe() -> None:
    (block,) = SPACE.usual().stages[0].blocks
    assert (SPACE.usual().stages[0].embed, SPACE.usual().head.pool) == (128, "mean")
    assert block.mixer is not None
    assert block.ffn is not None
    assert block.mixer.model_dump(include={"kind", "heads", "qk", "v"}) == {
        "kind": "softmax",
        "heads": 4,
        "qk": 32,
        "v": 32,
    }
    assert block.ffn.model_dump(include={"kind", "mlp"}) == {"kind": "mlp", "mlp": 256}


def test_there_are_networks_without_blocks_and_known_ones_of_every_width() -> None:
    assert SPACE.smallest().stages[0].blocks == ()
    assert {f"usual-{embed}-{depth}" for embed in ENCODER.embed for depth in ENCODER.depth} < set(SPACE.regular)
    assert all(SPACE.decode(SPACE.encode(a)) == a for a in (*SPACE.regular.values(), *SPACE.known.values()))


def test_what_does_not_leave_out_padding_is_refused() -> None:
    with pytest.raises(
        BadOption, match=r"mixer 'latents' cannot leave out padding; for texts there are .*lmu.*softmax"
    ):
        text_space(Data(), changes={"mixer": "latents,softmax"})
    with pytest.raises(BadOption, match="space 'text' has networks in fp32"):
        text_space(Data(), changes={"precision": "int8,fp32"})
    with pytest.raises(BadOption, match="space 'text' has no preset 'tiny'; it has encoder"):
        text_space(Data(), "tiny")
    assert isinstance(text_space(Data(), changes={"mixer": "performer"}), Text)

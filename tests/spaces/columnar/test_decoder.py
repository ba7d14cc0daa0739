"""Space `decoder`: networks that look back, whose head reads the table of the stem."""

from __future__ import annotations

from random import Random

import pytest

from wb.core.errors import BadOption
from wb.core.records import Language, TextInput, kind_of
from wb.core.records.attention import Rotary
from wb.core.space import random_choices
from wb.search.supernet import Supernet
from wb.spaces.columnar.presets import decoder_space

TEXT = TextInput(vocabulary=50, length=16, tokens=16)


class Data:
    """What a space needs to know of a text."""

    text = TEXT
    classes = ()


SPACE = decoder_space(Data())


@pytest.mark.parametrize("seed", range(20))
def test_networks_come_back_from_their_choices(seed: int) -> None:
    architecture = SPACE.decode(random_choices(SPACE, Random(seed)))
    assert (architecture.causal, architecture.head) == (True, Language())
    assert SPACE.decode(SPACE.encode(architecture)) == architecture


def test_the_usual_network_is_that_of_the_recipe_in_every_width() -> None:
    usual = SPACE.usual()
    assert (usual.stages[0].embed, len(usual.stages[0].blocks)) == (128, 4)
    for block in usual.stages[0].blocks:
        assert isinstance(block.mixer, Rotary)
        assert (block.mixer.heads, block.mixer.queries, block.mixer.qk, block.mixer.v) == (4, 1, 16, 32)
        assert block.mixer.rms
        assert block.mixer.factor == pytest.approx(3.4 * 32**-0.5)
    assert {a.stages[0].embed for a in SPACE.known.values()} == set(SPACE.all_genes["embed"])
    assert SPACE.regular["usual"] == usual


def test_a_supernet_has_views_of_every_network() -> None:
    supernet = Supernet.fresh(decoder_space(Data(), changes={"embed": "8,16", "depth": "1,2"}), 0)
    for seed in range(5):
        architecture = supernet.space.decode(random_choices(supernet.space, Random(seed)))
        for name, view in supernet.views(architecture).items():
            assert view.untyped_storage().data_ptr() == supernet.weights[name].untyped_storage().data_ptr()


def test_a_supernet_may_have_softmax_alone_or_mixers_of_every_kind_that_looks_back() -> None:
    """So that one front can be held against the other."""
    small = {"embed": "8,16", "depth": "1,2"}
    mixers = "none,linear,cosformer,sliding,softmax,rotary"
    alone, mixed = (decoder_space(Data(), changes={"mixer": kinds, **small}) for kinds in ("none,rotary", mixers))
    drawn = [mixed.decode(random_choices(mixed, Random(seed))) for seed in range(20)]
    found = {kind_of(type(mixer)) for a in drawn for _, _, block in a.blocks() if (mixer := block.mixer) is not None}
    assert found == set(mixers.split(",")) - {"none"}
    assert all(mixed.decode(mixed.encode(a)) == a for a in drawn)
    assert mixed.decode(mixed.encode(alone.largest())) == alone.largest()
    supernet = Supernet.fresh(mixed, 0)
    for architecture in drawn[:5]:
        for name, view in supernet.views(architecture).items():
            assert view.untyped_storage().data_ptr() == supernet.weights[name].untyped_storage().data_ptr()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"mixer": "performer"}, "sees the tokens that follow; for decoders there are"),
        (
            {"precision": "int8"},
            "has networks in fp32.* with wb quantize, which measures what ranges of 8-bit activations",
        ),
        ({"pool": "cls"}, "answers for every token"),
        ({"position": "tiled"}, "cannot be built"),
    ],
)
def test_what_looks_ahead_is_refused(changes: dict[str, str], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        decoder_space(Data(), changes=changes)
    with pytest.raises(BadOption, match="it has decoder"):
        decoder_space(Data(), "encoder")

"""Mixers of a front by depth and number of tokens: counted by hand on networks of two stages."""

from __future__ import annotations

from tests.catalogue import IMAGE
from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Mlp, PatchStem, Pool, Softmax
from wb.search.results.mixers import used

POOL, SOFTMAX, BARE = Block(mixer=Pool()), Block(mixer=Softmax.sample()), Block(ffn=Mlp.sample())


def network(first: tuple[Block, ...], second: tuple[Block, ...]) -> Architecture:
    stages = (Stage(embed=8, blocks=first), Stage(embed=12, blocks=second))
    return assembled(input=IMAGE, stem=PatchStem(patch=2), stages=stages)


def test_blocks_are_counted_by_thirds_and_tokens() -> None:
    deep = network((POOL, POOL, Block(), POOL, BARE), (SOFTMAX, SOFTMAX))
    flat = network((SOFTMAX,), ())
    found = {(one.kind, one.tokens): (one.blocks, one.networks) for one in used([deep, flat])}
    assert found == {
        ("pool", 16): ((2, 1, 0), 1),
        ("none", 16): ((0, 1, 0), 1),
        ("softmax", 4): ((0, 0, 2), 1),
        ("softmax", 16): ((1, 0, 0), 1),
    }
    assert [one.tokens for one in used([deep, flat])] == [16, 16, 16, 4]
    assert used([deep, flat])[0].cells == ("pool", "16", "2", "1", "-", "1")


def test_networks_without_blocks_have_none() -> None:
    assert used([network((), ())]) == ()

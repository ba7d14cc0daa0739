"""Weighted averaging against the published sums; with factors one it is pre-norm; blocks that go, come or are looked at alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.networks import assembled, exactly, images, random_model, wired
from wb.compress.depth.drop import without
from wb.compress.nvit.cost import alone, parameters_by_part, pieces
from wb.compress.nvit.costs import counted
from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.wirings import Averaged
from wb.export.timing.blocks import parts
from wb.fusion.match.depth import arranged
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, compacted

MIXER, FFN = Softmax(heads=2, qk=3, v=2), Mlp(mlp=5)
BOTH = Block(mixer=MIXER, ffn=FFN)
BLOCKS = {
    "both": (BOTH, BOTH, BOTH),
    "some": (BOTH, Block(), Block(ffn=FFN), BOTH, Block(mixer=MIXER)),
    "ffn": (Block(ffn=FFN), BOTH),
    "none": (),
}


def averaged(image: ImageInput, blocks: tuple[Block, ...]) -> Architecture:
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=6, blocks=blocks),))
    return wired(a, "averaged")


@torch.no_grad()
def by_formula(model: Model, x: Tensor) -> Tensor:
    """Sums over what token mixers gave, and over what channel mixers gave, with the factors of whoever reads."""
    network = model.network().double()
    start = network.tokens(x)
    tokens, channels = dict[int, Tensor](), dict[int, Tensor]()  # by block

    def factor(path: int, reader: str) -> float:
        return float(model.weights[f"wirings.0.path{path}_{reader}"])

    def read(reader: str) -> Tensor:
        total = factor(0, reader) * start
        for block, given in tokens.items():
            total += factor(1 + 2 * block, reader) * given
        for block, given in channels.items():
            total += factor(2 + 2 * block, reader) * given
        return total

    for at in network.walk():
        kind, path = (tokens, 1 + 2 * at.block) if at.kind == "mixer" else (channels, 2 + 2 * at.block)
        kind[at.block] = at.operator(at.norm(read(f"path{path}")))
    return network.answered(read("end"))


@pytest.mark.parametrize("blocks", BLOCKS)
@torch.no_grad()
def test_everything_reads_a_sum_of_all_that_was_before(image: ImageInput, blocks: str) -> None:
    model = random_model(averaged(image, BLOCKS[blocks]))
    x = exactly(images(model.architecture))
    torch.testing.assert_close(model.network().double()(x), by_formula(model, x), rtol=1e-9, atol=1e-9)
    layers = len(list(model.network().walk()))
    factors = [name for name in model.weights if name.startswith("wirings.")]
    assert len(factors) == (layers + 1) * (layers + 2) / 2


@torch.no_grad()
def test_with_all_factors_one_it_is_pre_norm(image: ImageInput) -> None:
    model = random_model(averaged(image, BLOCKS["some"]))
    ones = {n: torch.ones(()) if n.startswith("wirings.") else w for n, w in model.weights.items()}
    plain = Model(wired(model.architecture, "pre"), {n: w for n, w in ones.items() if not n.startswith("wirings.")})
    x = exactly(images(model.architecture))
    found = Model(model.architecture, ones).network().double()(x)
    torch.testing.assert_close(found, plain.network().double()(x), rtol=1e-9, atol=1e-9)
    fresh = model.network()
    fresh.reset()
    assert all(float(one) == 1 for one in fresh.wirings.parameters())


@torch.no_grad()
def test_what_is_skipped_is_what_is_gone(image: ImageInput) -> None:
    model = random_model(averaged(image, BLOCKS["some"]))
    network, x, skip = model.network(), images(model.architecture), model.network().wiring(0).skip
    for at in network.walk():
        skipped = network.run(x, lambda state, here: skip(state, here) if here.name == at.name else here(state))  # noqa: B023
        small = without(model, at.name)
        small.check()
        torch.testing.assert_close(small.network()(x), skipped)
        torch.testing.assert_close(compacted(small).network()(x), skipped)


@pytest.mark.parametrize("wiring", ["averaged", "path_ensemble"])
@torch.no_grad()
def test_silent_blocks_join_without_changing_anything(image: ImageInput, wiring: str) -> None:
    small = wired(averaged(image, (BOTH, BOTH)), wiring)
    model, x = random_model(small), images(small)
    stage = small.stages[0].model_copy(update={"blocks": (BOTH,) * 4})
    deeper = arranged(model, small.model_copy(update={"stages": (stage,)}), ((0, None, 1, None),))
    deeper.check()
    torch.testing.assert_close(deeper.network()(x), model.network()(x))


def test_parts_count_the_factors_behind_them(image: ImageInput) -> None:
    a = averaged(image, BLOCKS["some"])
    assert sum(parameters_by_part(a).values()) == count_parameters(a).value
    for metric, count in (("params", count_parameters), ("macs", count_macs)):
        assert counted(a, metric)(a) == pytest.approx(count(a).value, rel=1e-9)
    for piece in list(pieces(a))[1:]:
        assert [again.family for again in pieces(alone(a, piece))][1:] == [piece.family]


@torch.no_grad()
def test_a_block_is_timed_with_the_additions_behind_it(image: ImageInput) -> None:
    """What is timed of the last of three blocks is what the block makes of what was before, if all of that is alike."""
    a = averaged(image, BLOCKS["both"])
    found = list(parts(a))[1:]
    assert len({part.key for part in found}) == 3, "each has more in front of it"
    plain = list(parts(wired(a, "pre")))[1:]
    assert len({part.key for part in plain}) == 1
    module: Any
    module, examples, _ = found[2].make()
    wiring, x = module.wiring, examples["x"]
    assert wiring.record == Averaged(before=5)
    assert sum(parameter.numel() for parameter in wiring.parameters()) == 6 + 7, (
        "of its feed-forward, and of what leaves"
    )
    block = module.block
    factors = {name: float(value) for name, value in wiring.named_parameters()}
    before = {"path0": x, **{f"earlier{i}": x for i in range(1, 5)}}
    before["path1"] = block.mixer(block.norm1(x))
    before["path2"] = block.ffn(block.norm2(sum(factors[f"{one}_path2"] * y for one, y in before.items())))
    expected = sum(factors[f"{one}_end"] * y for one, y in before.items())
    torch.testing.assert_close(module(x), expected)


def test_blocks_of_a_cut_ensemble_are_timed_like_others(image: ImageInput) -> None:
    """Their sums would lack what the block gives, so that graphs would not compute it."""
    a = wired(averaged(image, BLOCKS["both"]), "path_ensemble")
    cut = a.stages[0].wiring.model_copy(update={"cut": 6})
    other = a.model_copy(update={"stages": (a.stages[0].model_copy(update={"wiring": cut}),)})
    assert [part.key for part in parts(other)][1:] == [part.key for part in parts(a)][1:]

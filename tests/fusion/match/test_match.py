"""What goes with what: the truth where models have an origin in common, the best of all matches where they have none."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import assembled
from wb.compress.depth.drop import without
from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT
from wb.compress.nvit.settings import Settings as Pruning
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Cosformer, ImageInput, Mlp, PatchStem, Softmax
from wb.data import Dataset
from wb.fusion.align.solvers import Matrix
from wb.fusion.forms.canonical import canonical
from wb.fusion.match import match
from wb.fusion.match.depth import Match, arranged, probes
from wb.fusion.match.match import By, Matching, chain, increasing, match_blocks, resized
from wb.models.model import Model, Step
from wb.training.fit import Recipe
from wb.training.train import Finetune, train

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

OFF = Block()


@st.composite
def similarities(draw: st.DrawFn, *, wide: bool = True, least: float = 0.0) -> Matrix:
    """Up to 4 by 7, of few values too, so that there are ties."""
    n = draw(st.integers(0, 4))
    m = draw(st.integers(n if wide else 0, 7 if wide else 4))
    values = st.sampled_from([least, 0.0, 0.5, 1.0]) if draw(st.booleans()) else st.floats(least, 1)
    return np.array(draw(st.lists(values, min_size=n * m, max_size=n * m)), dtype=float).reshape(n, m)


@given(similarities())
def test_the_match_is_the_best_of_all(similarity: Matrix) -> None:
    n, m = similarity.shape
    found = increasing(similarity)
    best = max(sum(similarity[range(n), list(columns)]) for columns in itertools.combinations(range(m), n))
    assert len(found) == n
    assert all(a < b for a, b in itertools.pairwise(found))
    assert sum(similarity[range(n), found]) == pytest.approx(best)


@given(similarities(wide=False, least=-1.0))
def test_the_chain_is_the_best_of_all(gain: Matrix) -> None:
    n, m = gain.shape
    found = chain(gain)
    best = max(
        sum(gain[list(rows), list(columns)])
        for k in range(min(n, m) + 1)
        for rows in itertools.combinations(range(n), k)
        for columns in itertools.combinations(range(m), k)
    )
    assert all(a < c and b < d for (a, b), (c, d) in itertools.pairwise(found))
    assert sum(gain[i, j] for i, j in found) == pytest.approx(best)
    assert all(gain[i, j] > 0 for i, j in found)


# ------------------------------------------------------------------------------------------------ models of one origin


@cache
def trained(stripes: Dataset, depth: int, seed: int = 1) -> Model:
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=2, qk=6, v=5), ffn=Mlp(mlp=20))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=16, blocks=(block,) * depth),), classes=3)
    return train(a, stripes, Recipe(epochs=2, learning_rate=1e-2), seed=seed)


def dropped(model: Model, *names: str) -> Model:
    for name in names:
        model = without(model, name)
    return model.then(Step(name="drop", arguments={"dropped": dict.fromkeys(names, 0.0)}))


def tuned(model: Model, data: Dataset) -> Model:
    return Finetune(data, Recipe(epochs=1, learning_rate=5e-3), seed=3)(model)


def narrowed(model: Model, data: Dataset) -> Model:
    """As `wb prune nvit` does it: channels of the stream, heads, units, also of single heads."""
    costs = costs_of(["macs"], model.architecture, None)
    targets = {"macs": 0.6 * costs["macs"](model.architecture)}
    return NViT(data, targets, costs, Pruning(rounds=1, calibration=32, keep=("blocks",)))(model)


def origin(one: Model, other: Model) -> Match:
    """The truth: passes leave blocks where they are."""
    stages = zip(one.architecture.stages, other.architecture.stages, strict=True)
    return tuple(
        tuple(j if not a.off and not b.off else None for j, (a, b) in enumerate(zip(s.blocks, t.blocks, strict=True)))
        for s, t in stages
    )


def forgotten(model: Model) -> Model:
    return replace(model, history=())


@pytest.fixture(scope="module")
def family(stripes: Dataset) -> list[tuple[str, Model, Model]]:
    """Models and what was made of them, by name."""
    found = []
    for depth, seed, gone in (
        (4, 1, ("s0.b1.ffn", "s0.b2.mixer", "s0.b2.ffn", "s0.b3.mixer", "s0.b3.ffn")),  # what is left is all early
        (3, 2, ("s0.b0.mixer", "s0.b0.ffn", "s0.b1.mixer")),
    ):
        whole = trained(stripes, depth, seed)
        cut = dropped(whole, *gone)
        found += [
            (f"{depth} dropped", whole, cut),
            (f"{depth} tuned", whole, tuned(cut, stripes)),
            (f"{depth} narrowed and tuned", whole, tuned(narrowed(cut, stripes), stripes)),
        ]
    return found


def test_blocks_go_with_those_that_they_were_copied_from(
    family: list[tuple[str, Model, Model]], stripes: Dataset
) -> None:
    """By history; without one by weights, with images or without, whichever of the two gives the axes."""
    images = torch.from_numpy(stripes.train.pixels(np.arange(64)))
    for name, whole, made in family:
        for source, reference in ((whole, made), (made, whole)):
            pair = canonical(source), canonical(reference)
            assert match_blocks(*pair) == Matching(origin(source, reference), "history"), name
            one, two = map(forgotten, pair)
            for looked in (None, images):
                assert match_blocks(one, two, looked) == Matching(origin(source, reference), "weights"), name


def test_what_was_made_of_one_model_goes_together_by_where_it_stood(stripes: Dataset) -> None:
    """Also where both are equally deep, so that the order alone would say another thing."""
    whole = trained(stripes, 4)
    one = canonical(tuned(dropped(whole, "s0.b1.mixer", "s0.b1.ffn"), stripes))
    two = canonical(dropped(whole, "s0.b2.mixer", "s0.b2.ffn"))
    by: By
    for pair, by in (((one, two), "history"), ((forgotten(one), forgotten(two)), "weights")):
        assert match_blocks(*pair) == Matching(((0, None, None, 3),), by)


def test_what_changed_beyond_knowing_goes_by_its_place(kit: Kit) -> None:
    """Between copies that all stand where they stood."""
    whole = kit.model(kit.network((kit.softmax,) * 4))
    strange = kit.model(whole.architecture, seed=1).weights
    weights = {name: strange[name] if name.startswith("stages.0.1.") else w for name, w in whole.weights.items()}
    cut = dropped(replace(whole, weights=weights), "s0.b3.mixer", "s0.b3.ffn")
    assert match_blocks(canonical(forgotten(cut)), canonical(whole)) == Matching(((0, 1, 2, None),), "weights")


def test_the_order_of_channels_and_units_does_not_matter(kit: Kit) -> None:
    whole = kit.model(kit.network((kit.softmax,) * 4))
    cut = dropped(kit.permuted(whole, 1), "s0.b1.mixer", "s0.b1.ffn", "s0.b3.mixer")
    found = match_blocks(canonical(forgotten(cut)), canonical(whole))
    assert found == Matching(((0, None, 2, 3),), "weights")


def test_the_anchor_in_another_size_has_its_blocks_where_it_brought_them(stripes: Dataset) -> None:
    whole = trained(stripes, 4)
    cut = dropped(whole, "s0.b1.mixer", "s0.b1.ffn", "s0.b3.mixer", "s0.b3.ffn")
    one, anchor = canonical(whole), canonical(cut)
    goal = resized(anchor, whole.architecture, None, balance=True)
    assert goal.origins == ((0, None, 2, None),), "every block has its place there"
    assert goal.match(anchor, itself=True).blocks == goal.origins
    assert goal.match(one) == Matching(((0, 1, 2, 3),), "history")
    stage = whole.architecture.stages[0]
    deep = whole.architecture.model_copy(
        update={"stages": (stage.model_copy(update={"blocks": stage.blocks[:1] * 6}),)}
    )
    goal = resized(anchor, deep, None, balance=True)
    assert goal.origins == ((0, None, None, 2, None, None),)
    assert goal.match(one).blocks == ((0, 1, None, 2, 3, None),), "what the anchor lacks comes in between"


# ------------------------------------------------------------------------------------------------------------ strangers


def test_as_many_blocks_match_in_order_and_no_image_is_looked_at(kit: Kit) -> None:
    on, off = kit.softmax, kit.off
    source = kit.model(kit.network((on, off, on), (off, on)))
    reference = kit.model(kit.network((off, on, on, off), (on,)), seed=1)
    assert match_blocks(source, reference, torch.empty(0)) == Matching(((None, 0, 2, None), (1,)), "order")


def padded(kit: Kit, source: Model, *origins: tuple[int | None, ...]) -> Model:
    """`source` with blocks that write nothing where there is no origin."""
    return arranged(source, kit.network(*((kit.softmax,) * len(stage) for stage in origins)), origins)


def test_blocks_are_found_among_those_that_write_nothing(kit: Kit) -> None:
    on = kit.softmax
    shallow = kit.model(kit.network((on, on), (on, on, on)))
    deep = padded(kit, shallow, (0, None, 1, None), (0, 1, 2))
    assert match_blocks(forgotten(shallow), deep).blocks == ((0, None, 1, None), (0, 1, 2))
    assert match_blocks(deep, forgotten(shallow)).blocks == ((0, 2), (0, 1, 2))


def test_noise_is_made_only_for_strangers_of_other_depths(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def spy(architecture: Architecture) -> torch.Tensor:
        made.append(probes(architecture))
        return made[-1].double()

    monkeypatch.setattr(match, "probes", spy)
    shallow, deep = kit.model(), kit.model(kit.network((kit.softmax,) * 3), seed=1)
    match_blocks(shallow, kit.model(seed=1))
    match_blocks(shallow, padded(kit, shallow, (0, None, 1)))
    assert not made
    assert match_blocks(shallow, deep).by == "additions"
    assert len(made) == 1


def test_all_blocks_of_the_shallower_find_one_whatever_the_weights(kit: Kit) -> None:
    on, off = kit.softmax, kit.off
    deep = kit.model(kit.network((on, off, on, on, on, on)), seed=1)
    shallow = kit.model(kit.network((on, on, off, on)), seed=2)
    found = match_blocks(shallow, deep, kit.pictures())
    (up,) = found.blocks
    assert found.by == "additions"
    assert [block for block in up if block is not None] == [0, 1, 3]
    assert up[1] is None
    (down,) = match_blocks(deep, shallow, kit.pictures()).blocks
    there = [block for block in down if block is not None]
    assert down[2] is None
    assert len(there) == 3
    assert there == sorted(set(there) - {1})


def test_blocks_go_with_others_of_their_kind(kit: Kit) -> None:
    """Another kind could not stand for them: it would be dropped, and they averaged with nothing."""
    one, two = (Block(mixer=kind(heads=2, qk=3, v=4)) for kind in (Softmax, Cosformer))
    source = kit.model(kit.network((two,)))
    for blocks, place in (((two, one, one), 0), ((one, two, one), 1), ((one, one, two), 2)):
        (found,) = match_blocks(source, kit.model(kit.network(blocks), seed=1), kit.pictures()).blocks
        assert found == tuple(0 if j == place else None for j in range(3))


def test_a_stage_without_blocks_matches_nothing(kit: Kit) -> None:
    on, off = kit.softmax, kit.off
    source, reference = kit.model(kit.network((on,), (off,))), kit.model(kit.network((on, on), (on, off, on)), seed=1)
    assert match_blocks(source, reference, kit.pictures()).blocks[1] == (None, None, None)
    assert match_blocks(reference, source, kit.pictures()).blocks[1] == (None,)


def test_networks_of_other_tokens_are_refused(kit: Kit) -> None:
    model = kit.model(kit.network((kit.softmax,)))
    with pytest.raises(Unsupported, match=r"given 4x4 tokens in 1 stages.*and 2x2 tokens in 1 stages"):
        match_blocks(model, kit.model(kit.network((kit.softmax,), stem=PatchStem(patch=4))), kit.pictures())
    with pytest.raises(Unsupported, match="and 4x4 tokens in 2 stages"):
        match_blocks(model, kit.model(kit.network((kit.softmax,), (kit.softmax,))), kit.pictures())


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (3, 2, 8, 4), (2, 8, 8), (0, 2, 8, 8)])
def test_images_of_another_shape_are_refused(kit: Kit, shape: tuple[int, ...]) -> None:
    one, two = kit.model(kit.network((kit.softmax,))), kit.model(seed=1)
    with pytest.raises(BadOption, match=r"are not what the model reads; give some of shape \(n, 2, 8, 8\)"):
        match_blocks(one, two, torch.zeros(shape))

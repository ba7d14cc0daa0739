"""Attention weights are those that mixers use; entropy, concentration and freezing are what they are defined to be."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.networks import assembled, of_digits, random_model
from wb.core.architecture import Block, Stage
from wb.core.errors import BadData
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.core.records.attention import Linear, Window
from wb.data import Dataset
from wb.jobs.attention.analysis import AttentionAnalysis, Head, Moment, analyze_attention, entropies, froze
from wb.jobs.attention.report import result, rows
from wb.jobs.attention.weights import attended
from wb.models.layers.attention import AttentionModule
from wb.models.model import Model
from wb.models.network import Network


def of(image: ImageInput, *mixers: Softmax | Linear | Window) -> Model:
    """A small network with these mixers, a block each."""
    stage = Stage(embed=8, blocks=tuple(Block(mixer=mixer, ffn=Mlp(mlp=8)) for mixer in mixers))
    return random_model(assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=3), gain=1.0)


def first_read(network: Network, images: torch.Tensor) -> torch.Tensor:
    """What the first mixer reads."""
    return next(iter(network.walk())).read(network.begin(images))


@torch.no_grad()
def test_the_weights_are_those_of_the_formula_head_by_head(image: ImageInput) -> None:
    network, images = of(image, Softmax(heads=2, qk=3, v=2)).network(), torch.rand(2, 1, 8, 8)
    ((_, heads, weights),) = attended(network, images)
    mixer, x = next(iter(network.walk())).operator, first_read(network, images)
    assert isinstance(mixer, AttentionModule)
    assert heads == 2
    assert weights is not None
    for example in range(2):
        for head in range(2):
            q = x[example] @ mixer.wq[head].T + mixer.bq[head]
            k = x[example] @ mixer.wk[head].T + mixer.bk[head]
            scores = (q @ k.T) / math.sqrt(3)
            wanted = scores.exp() / scores.exp().sum(1, keepdim=True)
            assert torch.allclose(weights[example, head], wanted, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("shift", [False, True])
def test_windows_are_groups_and_every_row_adds_up_to_one(image: ImageInput, shift: bool) -> None:
    network = of(image, Window(heads=2, qk=3, v=2, window=2, shift=shift)).network()
    ((_, _, weights),) = attended(network, torch.rand(3, 1, 8, 8))
    assert weights is not None
    assert weights.shape == (3 * 4, 2, 4, 4)
    assert torch.allclose(weights.sum(-1), torch.ones(12, 2, 4), atol=1e-6)


def test_entropy_is_one_for_equal_weights_and_zero_for_a_single_one() -> None:
    weights = torch.tensor([[0.25] * 4, [0.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert entropies(weights).tolist() == pytest.approx([1.0, 0.0, 0.5], abs=1e-6)
    assert entropies(torch.ones(2, 1)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("apart", "frozen"), [([0.5, 0.05, 0.0], 2), ([0.05, 0.5, 0.0], 4), ([0.1, 0.1, 0.0], 0), ([0.0, 0.2, 0.0], 4)]
)
def test_a_head_is_frozen_from_where_it_stays_near_the_end(apart: list[float], frozen: int) -> None:
    assert froze(apart, [0, 2, 4], 0.1) == frozen
    assert froze([0.0], [7], 0.1) is None


def test_checkpoints_are_compared_with_the_last_and_mixers_without_weights_are_named(
    image: ImageInput, stripes: Dataset
) -> None:
    last = of(image, Softmax(heads=2, qk=3, v=2), Linear(heads=2, qk=3, v=2))
    sharp = {
        name: weight * (0.0 if name.endswith(("mixer.wq", "mixer.bq")) else 1.0)
        for name, weight in last.weights.items()
    }
    found = analyze_attention([replace(last, weights=sharp), last], [0, 5], stripes.validation, limit=8)
    assert found.without == {"s0.b1.mixer": Linear.title}
    assert [(head.layer, head.head) for head in found.heads] == [("s0.b0.mixer", 0), ("s0.b0.mixer", 1)]
    for head in found.heads:
        first, end = head.moments
        assert first.entropy == pytest.approx(1.0, abs=1e-5), "without queries all keys weigh alike"
        assert first.concentration == pytest.approx(1 / 16, abs=1e-6)
        assert (end.apart, end.same) == (0.0, 1.0)
        assert first.apart > 0
        assert end.entropy < 1
        assert len(head.tokens) == 16
        assert sum(head.tokens) / 16 == pytest.approx(end.entropy, abs=1e-5)
    assert "Without explicit weights: s0.b1.mixer" in result(found)
    assert len(rows(found)) == 2
    with pytest.raises(BadData, match="checkpoints of different networks"):
        analyze_attention([last, random_model(of_digits())], [0, 1], stripes.validation)


def test_a_head_that_moves_until_the_end_is_not_called_frozen() -> None:
    moving, still = (Moment(entropy=0.5, concentration=0.5, apart=apart, same=1) for apart in (0.4, 0.0))
    heads = (
        Head(layer="s0.b0.mixer", head=0, moments=(moving, moving, still), frozen=4),
        Head(layer="s0.b0.mixer", head=1, moments=(moving, still, still), frozen=2),
    )
    found = AttentionAnalysis(examples=1, noun="images", epochs=(0, 2, 4), still=0.1, heads=heads, without={})
    assert [row[-1] for row in rows(found)] == ["-", "epoch 2"]
    assert "First frozen: head 1 of s0.b0, from epoch 2 on; last: head 1 of s0.b0, from epoch 2 of 4 on" in result(
        found
    )
    assert "No head is frozen before epoch 4" in result(found.model_copy(update={"heads": heads[:1]}))

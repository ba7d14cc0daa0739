from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from wb.compress.binarize.hashing import HashFunctions, disagreement, drawn, learned, targets, unit
from wb.core.errors import BadOption


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@cache
def clusters(count: int = 4) -> tuple[Tensor, Tensor]:
    """Unit vectors u (B, H, N, K) around `count` directions, and S: 1 within a cluster, -1 outside."""
    centres = torch.randn(count, 6, generator=generator(1))
    member = torch.randint(count, (12, 2, 16), generator=generator(2))
    u = unit(centres[member] + 0.3 * torch.randn(12, 2, 16, 6, generator=generator(3)))
    return u, torch.where(member[..., None] == member[..., None, :], 1.0, -1.0)


@cache
def functions(bits: int = 8, steps: int = 100) -> HashFunctions:
    u, target = clusters()
    return learned(u, target, bits, 12, generator(), steps)


def test_targets_mark_the_strongest_and_the_weakest_of_each_row_in_both_directions() -> None:
    attention = torch.tensor([[5.0, 3, 2, 1], [0, 4, 1, 9], [1, 2, 3, 0], [6, 7, 1, 2]])
    marked = torch.tensor([[1.0, 0, 0, -1], [-1, 0, 0, 1], [0, 0, 1, -1], [0, 1, -1, 0]])  # one of four tokens each
    assert torch.equal(targets(attention[None, None])[0, 0], (marked + marked.T) / 2)


def test_at_most_ten_are_marked() -> None:
    attention = torch.rand(2, 3, 60, 60, generator=generator()).softmax(dim=-1)
    symmetric = attention + attention.transpose(-1, -2)
    found = targets(symmetric)
    assert torch.equal(found, found.transpose(-1, -2))
    assert float(found.sum()) == 0
    assert float(found.abs().sum()) <= 2 * 3 * 60 * 20


def test_learned_codes_agree_better_than_random_ones() -> None:
    u, target = clusters()
    random = min(disagreement(drawn(u, 8, 12, generator(i)).codes(u), target).mean() for i in range(5))
    assert disagreement(functions().codes(u), target).mean() < 0.8 * random


def test_codes_are_learned_for_tokens_that_were_not_seen() -> None:
    u, target = clusters()
    found = learned(u[:8], target[:8], 8, 12, generator())
    chance = drawn(u[:8], 8, 12, generator()).codes(u[8:])
    assert disagreement(found.codes(u[8:]), target[8:]).mean() < 0.8 * disagreement(chance, target[8:]).mean()


def test_more_bits_agree_better_and_the_first_are_the_same() -> None:
    u, target = clusters()
    one, eight = functions(1), functions(8)
    assert (disagreement(eight.codes(u), target) < disagreement(one.codes(u), target)).all()
    torch.testing.assert_close(eight.codes(u)[..., :1], one.codes(u))


def test_steps_make_a_bit_no_worse_than_the_eigenvector() -> None:
    u, target = clusters()
    start, found = (disagreement(functions(1, steps).codes(u), target) for steps in (0, 100))
    assert (found <= start + 1e-6).all()
    assert (found < start - 1e-3).any()


def test_two_clusters_need_one_bit() -> None:
    u, target = clusters(2)
    found = learned(u, target, 1, 12, generator())
    assert disagreement(found.codes(u), target).max() < 0.05


def test_the_same_seed_gives_the_same_functions() -> None:
    u, target = clusters()
    again = learned(u, target, 8, 12, generator())
    assert all(torch.equal(getattr(again, name), getattr(functions(), name)) for name in ("anchors", "mean", "planes"))
    other = learned(u, target, 8, 12, generator(1))
    assert not torch.equal(other.anchors, again.anchors)


def test_anchors_are_tokens_and_values_have_a_mean_square_of_one() -> None:
    u, _ = clusters()
    found = functions()
    for head in range(2):
        tokens = u[:, head].flatten(0, 1)
        assert all((tokens == anchor).all(dim=1).any() for anchor in found.anchors[head])
    seen = found.seen(u)
    torch.testing.assert_close(seen.mean(dim=(0, 2)), torch.zeros(2, 12), atol=1e-6, rtol=0)
    values = seen @ found.planes.transpose(-1, -2)
    torch.testing.assert_close(values.square().mean(dim=(0, 2)), torch.ones(2, 8))


def test_more_anchors_than_tokens_are_refused() -> None:
    u, target = clusters()
    with pytest.raises(BadOption, match="193 anchors cannot be chosen among 192 tokens"):
        learned(u, target, 2, 193, generator())

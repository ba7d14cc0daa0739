from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from wb.scale.ring import blocks
from wb.scale.ring.attention import FORMS, Form, bytes_sent, whole
from wb.scale.ring.blocks import Rule, pieces

N, GROUPS = 12, 2
RULES = (Rule(), Rule(causal=True), Rule(causal=True, reach=5), Rule(reach=3))
PLACES = torch.arange(N)
Case = tuple[Form, Rule, bool]
CASES = list[Case](product(FORMS, RULES, (False, True)))


def drawn(seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = ((2, 3, GROUPS * N, 4), (2, 3, N, 4), (2, 3, N, 5))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def full(q: Tensor, k: Tensor, v: Tensor, rule: Rule, counts: Tensor | None) -> Tensor:
    """Attention as its formula says, with a square; a row that sees nothing gives zero."""
    rows = PLACES.repeat(GROUPS)[:, None]
    seen = torch.ones(GROUPS * N, N, dtype=torch.bool)
    if rule.causal:
        seen &= rows >= PLACES
    if rule.reach is not None:
        seen &= (rows - PLACES).abs() <= rule.reach
    both = seen[None, None] if counts is None else seen & counts[:, None, None, :]
    weights = (q @ k.transpose(-1, -2)).exp() * both
    return weights @ v / weights.sum(-1, keepdim=True).clamp(min=1e-300)


@pytest.mark.parametrize(("form", "rule", "some"), CASES)
def test_it_is_full_attention_forwards_and_backwards(
    form: Form, rule: Rule, some: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.pieces, "__defaults__", (5,))  # so that queries are in several pieces
    q, k, v = drawn()
    counts = torch.rand(2, N, generator=torch.Generator().manual_seed(1)) > 0.4 if some else None
    ours, theirs = whole(form).attend(q, k, v, rule, counts), full(q, k, v, rule, counts)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    upstream = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2), dtype=ours.dtype)
    for one, other in zip(
        torch.autograd.grad(ours, (q, k, v), upstream), torch.autograd.grad(theirs, (q, k, v), upstream), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_scores_that_would_overflow_do_not() -> None:
    q, k, v = (x.detach() * 100 for x in drawn())
    assert whole().attend(q, k, v, Rule(causal=True)).isfinite().all()


def test_halves_are_computed_in_float32() -> None:
    q, k, v = (x.detach().bfloat16() for x in drawn())
    with torch.autocast("cpu", torch.bfloat16):
        given = whole().attend(q, k, v, Rule())
    assert given.dtype == torch.float32
    torch.testing.assert_close(given, full(q.float(), k.float(), v.float(), Rule(), None))


def test_pieces_are_runs_of_neighbours() -> None:
    places = torch.tensor([0, 1, 2, 3, 9, 10, 11, 0, 1])
    found = pieces(places, 3)
    assert [places[one].tolist() for one in found] == [[0, 1, 2], [3], [9, 10, 11], [0, 1]]


def test_sums_come_before_each_chunk_and_of_all() -> None:
    chunks = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    before, total = whole().sums(chunks)
    torch.testing.assert_close(before, torch.stack([torch.zeros(3).double(), chunks[0]]))
    torch.testing.assert_close(total, chunks.sum(0))
    (grad,) = torch.autograd.grad((before * torch.tensor([[2.0], [3.0]])).sum() + total.sum(), chunks)
    assert grad.tolist() == [[4.0] * 3, [1.0] * 3]


def test_one_process_sends_nothing_and_others_what_the_formula_says() -> None:
    assert bytes_sent(1, 8, 4, 4, 8) == (0, 0)
    assert bytes_sent(4, 1, 1, 1, 1) == (6, 14)  # in tensors of the size of the keys, as the methods page has counted

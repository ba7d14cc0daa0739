"""RMSNorm against PyTorch's."""

from __future__ import annotations

import torch
from torch import nn

from wb.core.records.norms import RmsNorm
from wb.models.block import build_norm


def tokens() -> torch.Tensor:
    return torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0)) * 3 + 1


def test_it_is_the_rms_norm_of_pytorch() -> None:
    norm, oracle = build_norm(RmsNorm(eps=0.1), 6), nn.RMSNorm(6, eps=0.1)
    torch.manual_seed(1)
    with torch.no_grad():
        norm.gain.normal_()
        oracle.weight.copy_(norm.gain)
    torch.testing.assert_close(norm(tokens()), oracle(tokens()))


def test_it_begins_as_a_mere_division_by_the_root_mean_square() -> None:
    norm = build_norm(RmsNorm(eps=1e-12), 6)
    norm.reset()
    assert {name: tuple(weight.shape) for name, weight in norm.named_parameters()} == {"gain": (6,)}
    torch.testing.assert_close(norm(tokens()).square().mean(dim=-1), torch.ones(2, 4))


def test_it_does_not_take_the_mean_away() -> None:
    norm = build_norm(RmsNorm(), 6)
    norm.reset()
    assert not torch.allclose(norm(tokens() + 1), norm(tokens()), atol=0.1)

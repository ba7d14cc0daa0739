"""LMUFormer's feed-forward against its formula, number by number, and against the published code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.published import filled
from wb.core.layout import Layout
from wb.core.records.ffns import ConvFfn
from wb.models.block import build_operator
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import OperatorModule

EMBED = 3


def drawn() -> OperatorModule:
    module = build_operator(ConvFfn(mlp=4), EMBED, Layout((5,), 1)).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.normal_(generator=generator)
        for name in module.statistics:
            module.get_parameter(name).abs_().add_(0.1)
    return module


def tokens() -> Tensor:
    return torch.randn(2, 6, EMBED, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_it_is_its_formula() -> None:
    module, x = drawn(), tokens()
    w = {name: weight.tolist() for name, weight in module.named_parameters()}

    def convolved(token: list[float], name: str) -> list[float]:
        sums = [sum(a * b for a, b in zip(row, token, strict=True)) for row in w[name]]
        by = zip(sums, *(w[f"{name}_{what}"] for what in ("gain", "shift", "mean", "variance")), strict=True)
        return [(y - mean) / math.sqrt(variance + 1e-5) * gain + shift for y, gain, shift, mean, variance in by]

    expected = []
    for token in x.flatten(0, 1).tolist():
        hidden = [z * (1 + math.erf(z / math.sqrt(2))) / 2 for z in convolved(token, "up")]
        expected.append([max(z, 0.0) for z in convolved(hidden, "down")])
    torch.testing.assert_close(module(x).flatten(0, 1), torch.tensor(expected, dtype=x.dtype), rtol=1e-6, atol=1e-6)


def test_norms_are_folded_into_the_weights() -> None:
    module, x = drawn().requires_grad_(False), tokens()
    expected = module(x)
    assert isinstance(module, BatchNormed)
    module.fold()
    torch.testing.assert_close(module(x), expected)


def test_in_training_norms_use_what_all_tokens_of_the_batch_are() -> None:
    module = drawn().train()
    with torch.no_grad():
        module.get_parameter("down_gain").fill_(1)
        module.get_parameter("down_shift").fill_(9)  # where the activation does nothing
        given = module(tokens()).flatten(0, 1)
    torch.testing.assert_close(given.mean(0), torch.full((EMBED,), 9.0).double())
    torch.testing.assert_close(given.var(0, correction=0), torch.ones(EMBED).double(), rtol=1e-2, atol=0)


@pytest.mark.reference
def test_it_is_the_published_one(reference: Path) -> None:
    """Biases of its convolutions are taken from the means of the norms behind them."""
    data = np.load(reference / "reference/operators/lmu_lmuformer.npz", allow_pickle=False)
    theirs = {name: torch.from_numpy(data[name]) for name in data.files if name.startswith("wf.")}
    own: dict[str, torch.Tensor] = {}
    for name, number in (("up", 1), ("down", 2)):
        bn = f"wf.fc{number}_bn"
        own |= {name: theirs[f"wf.fc{number}_conv.weight"][..., 0], f"{name}_gain": theirs[f"{bn}.weight"]}
        own |= {f"{name}_shift": theirs[f"{bn}.bias"], f"{name}_variance": theirs[f"{bn}.running_var"]}
        own |= {f"{name}_mean": theirs[f"{bn}.running_mean"] - theirs[f"wf.fc{number}_conv.bias"]}
    module = filled(build_operator(ConvFfn(mlp=32), 16, Layout((128,))), own)
    x, expected = torch.from_numpy(data["in.block_x"]), torch.from_numpy(data["out.ffn_y"])
    torch.testing.assert_close(module(x.transpose(1, 2)), expected.transpose(1, 2), rtol=2e-5, atol=2e-5)

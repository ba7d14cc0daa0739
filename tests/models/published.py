"""Published outputs of operators, and blocks of ours with the published weights (`../shared/reference/operators`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from wb.core.architecture import Block, Stage
from wb.core.layout import Layout
from wb.core.records import Norm
from wb.models.block import BlockModule, build_wiring

TYPES = pytest.mark.parametrize(("kind", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 2e-5)], ids=str)


class Published:
    """The arrays of one file as tensors, in one type: `given` inputs, weights under their published names, `expected` outputs."""

    def __init__(self, folder: Path, name: str, kind: torch.dtype) -> None:
        self.arrays = np.load(folder / f"reference/operators/{name}.npz", allow_pickle=False)
        self.kind = kind

    def given(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"in.{name}"]).to(self.kind)

    def weight(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"w.{name}"]).to(self.kind)

    def expected(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[f"{'out64' if self.kind == torch.float64 else 'out'}.{name}"])

    def attention(self, name: str, heads: int, *, first: bool = False) -> dict[str, Tensor]:
        """The projections of ours out of one for queries, keys and values; with `first` it is head by head."""
        weight, bias = self.weight(f"{name}.qkv.weight").flatten(1), self.weight(f"{name}.qkv.bias")
        out = self.weight(f"{name}.proj.weight").flatten(1)
        order = (heads, 3, -1) if first else (3, heads, -1)
        weights, biases = (t.reshape(*order, *t.shape[1:]).movedim(1 if first else 0, 0) for t in (weight, bias))
        named = {f"w{n}": weights[i] for i, n in enumerate("qkv")} | {f"b{n}": biases[i] for i, n in enumerate("qkv")}
        return named | {"wo": out.reshape(len(out), heads, -1), "bo": self.weight(f"{name}.proj.bias")}

    def mlp(self, name: str) -> dict[str, Tensor]:
        return {
            "up": self.weight(f"{name}.fc1.weight").flatten(1),
            "up_bias": self.weight(f"{name}.fc1.bias"),
            "down": self.weight(f"{name}.fc2.weight").flatten(1),
            "down_bias": self.weight(f"{name}.fc2.bias"),
        }

    def norm(self, name: str) -> dict[str, Tensor]:
        return {"gain": self.weight(f"{name}.weight"), "shift": self.weight(f"{name}.bias")}


def filled(module: nn.Module, weights: Mapping[str, Tensor]) -> nn.Module:
    """The module with every one of its parameters taken from `weights`."""
    module.load_state_dict(dict(weights), assign=True)
    return module.eval()


def run_block(x: Tensor, block: Block, layout: Layout, norm: Norm, **parts: Mapping[str, Tensor]) -> Tensor:
    """What a block gives for tokens (B, N, D) if its parts have these weights: `norm1`, `mixer`, `norm2`, `ffn`, joins."""
    module = BlockModule(block, (0, 0), x.shape[2], layout, norm)
    filled(module, {f"{part}.{name}": weight for part, given in parts.items() for name, weight in given.items()})
    wiring = build_wiring(Stage(embed=x.shape[2], blocks=(block,)))
    with torch.no_grad():
        return wiring.end(module(wiring, wiring.begin(x, 0)))


def unrolled(side: int, times: int) -> Tensor:
    """The tokens of a picture in the order in which Hiera keeps them: places in 2x2 of 2x2 … first, then where those are."""
    numbers = torch.arange(side**2).reshape(1, side, side)
    for _ in range(times):
        half = numbers.shape[1] // 2
        numbers = numbers.reshape(-1, half, 2, half, 2).permute(0, 2, 4, 1, 3).reshape(-1, half, half)
    return numbers.flatten()


def check(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Equality up to `tolerance` times the larger of one and the value."""
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)

"""Blocks in plain torch as their papers draw them, batch norms folded into the convolutions: what `blocks.py` compares with."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class Plain(nn.Module):
    """Blocks behind a 1x1 convolution of an RGB picture, and a linear map of their mean; tokens are (B, N, D)."""

    def __init__(self, blocks: Sequence[nn.Module], embed: int, *, tokens: bool) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = nn.Conv2d(3, embed, 1), nn.ModuleList(blocks), nn.Linear(embed, 2)
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem((x - 0.5) * 4)
        if self.tokens:
            x = x.flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean(1) if self.tokens else x.mean((2, 3)))


class Residual(nn.Module):
    """Branches that are added to the stream one after the other."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gates = self.up(F.relu(self.down(x.mean((2, 3), keepdim=True))))
        return x * F.hardsigmoid(gates)


class Neighbours(nn.Module):
    """The mean of the neighbours minus the pixel."""

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) - x


class Attention(nn.Module):
    """Softmax attention of tokens (B, N, D); with `side`, within squares of that side."""

    def __init__(self, embed: int, head: int, side: int = 0) -> None:
        super().__init__()
        self.norm, self.inward, self.out = nn.LayerNorm(embed), nn.Linear(embed, 3 * embed), nn.Linear(embed, embed)
        self.head, self.side = head, side

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        tokens, embed = int(x.shape[1]), int(x.shape[2])
        if self.side:
            n = round(tokens**0.5) // self.side
            y = y.reshape(-1, n, self.side, n, self.side, embed).transpose(2, 3).reshape(-1, self.side**2, embed)
        shape = (-1, int(y.shape[1]), 3, embed // self.head, self.head)
        q, k, v = self.inward(y).reshape(shape).permute(2, 0, 3, 1, 4).unbind(0)
        y = ((q @ k.transpose(-2, -1) * self.head**-0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)
        y = self.out(y)
        if self.side:
            y = y.reshape(-1, n, n, self.side, self.side, embed).transpose(2, 3).reshape(-1, tokens, embed)
        return y


def dense(embed: int, times: int = 2) -> nn.Module:
    """A residual block of so many 3x3 convolutions."""
    layers: list[nn.Module] = []
    for i in range(times):
        layers += [nn.ReLU()] * (i > 0) + [nn.Conv2d(embed, embed, 3, padding=1)]
    return Residual(nn.Sequential(*layers))


def bottleneck(embed: int, ratio: int, kernel: int, squeeze: int = 0) -> nn.Module:
    """MBConv."""
    hidden = ratio * embed
    middle = nn.Conv2d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden)
    gate = [Gate(hidden, squeeze)] if squeeze else []
    return Residual(
        nn.Sequential(nn.Conv2d(embed, hidden, 1), nn.ReLU(), middle, nn.ReLU(), *gate, nn.Conv2d(hidden, embed, 1))
    )


def fused(embed: int, ratio: int) -> nn.Module:
    """Fused MBConv."""
    return Residual(
        nn.Sequential(nn.Conv2d(embed, ratio * embed, 3, padding=1), nn.ReLU(), nn.Conv2d(ratio * embed, embed, 1))
    )


def pointwise(embed: int, ratio: int) -> nn.Module:
    """Two 1x1 convolutions."""
    return nn.Sequential(nn.Conv2d(embed, ratio * embed, 1), nn.ReLU(), nn.Conv2d(ratio * embed, embed, 1))


def repvit(embed: int, ratio: int, kernel: int) -> nn.Module:
    """A depthwise convolution, its identity folded into it, then two 1x1 ones with a residual."""
    mixer = nn.Conv2d(embed, embed, kernel, padding=kernel // 2, groups=embed)
    return nn.Sequential(mixer, Residual(pointwise(embed, ratio)))


def convnext(embed: int) -> nn.Module:
    """A depthwise 7x7 convolution and two 1x1 ones, with batch norms and ReLU."""
    return repvit(embed, 4, 7)


def pooling(embed: int) -> nn.Module:
    """PoolFormer's block, with batch norms and ReLU."""
    return Residual(Neighbours(), pointwise(embed, 4))


def perceptron(embed: int) -> nn.Module:
    """The feed-forward of a transformer."""
    layers = (nn.LayerNorm(embed), nn.Linear(embed, 4 * embed), nn.GELU(), nn.Linear(4 * embed, embed))
    return Residual(nn.Sequential(*layers))


def attention(embed: int, head: int) -> nn.Module:
    """Attention of all tokens."""
    return Residual(Attention(embed, head))


def windowed(embed: int, head: int, side: int) -> nn.Module:
    """Attention within squares."""
    return Residual(Attention(embed, head, side))

"""Small helpers of modules: parameters, initial values, constants, parts of a line, and products per head."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def relu2(x: Tensor) -> Tensor:
    """The square of what is positive (So et al., "Primer", 2021)."""
    positive = x.relu()
    return positive * positive


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "relu2": relu2,
    "silu": F.silu,
    "hardswish": F.hardswish,
}


UNSEEN = -1e4  # added to a score, of what is not to be attended to; finite, so that a row of nothing else is no NaN


def dividing(most: int, tokens: int) -> int:
    """The largest number up to `most` that divides so many tokens: of parts that are alike, or of the tokens of one."""
    return next(n for n in range(min(most, tokens), 0, -1) if tokens % n == 0)


def parameter(*shape: int, device: torch.device | str | None) -> nn.Parameter:
    """An uninitialised parameter."""
    return nn.Parameter(torch.empty(shape, device=device))


def constant(value: Tensor, like: Tensor) -> Tensor:
    """`value` in the type and on the device of `like`; converted before it moves, because some devices lack float64."""
    return value.to(like.dtype).to(like.device)


def uniform_(weight: Tensor, fan_in: float) -> None:
    """Initial values of `nn.Linear`: uniform in ±1/√fan_in."""
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)


def project(x: Tensor, weight: Tensor, bias: Tensor | None, tokens: int | None = None) -> Tensor:
    """Per-head projection: x (B, N, D), weight (H, K, D), bias (H, K) -> (B, H, N, K); `tokens` is N, where runs differ."""
    heads, channels, _ = weight.shape
    y = F.linear(x, weight.flatten(0, 1), None if bias is None else bias.flatten())  # (B, N, H*K)
    if tokens is None:
        tokens = int(x.shape[1])  # an exporter would trace the size and compute it again in every graph
    return y.reshape(-1, tokens, heads, channels).transpose(1, 2)


def patches(image: Tensor) -> Tensor:
    """The inputs of a 2x2 convolution with stride 2: (B, C, rows, columns) -> (B, tokens, C*2*2)."""
    return F.unfold(image, 2, stride=2).transpose(1, 2)


def join_heads(y: Tensor, tokens: int | None = None) -> Tensor:
    """(B, H, N, V) -> (B, N, H*V); `tokens` is N, where runs differ."""
    heads, channels = int(y.shape[1]), int(y.shape[3])
    return y.transpose(1, 2).reshape(-1, int(y.shape[2]) if tokens is None else tokens, heads * channels)

"""Legendre memory unit as a convolution.

Source: Voelker et al., "Legendre Memory Units", 2019, eq. 1-4 (the memory), in the parallel form of LMUFormer (Liu et al.,
2024): u = ReLU(w_u·x + b) is one number per token, m_t = Σ_s A^(t−s) B u_s its history as `memory` Legendre coefficients,
h = ReLU(W [m; x] + b), then a linear layer.
Differs: the impulse response H_t = Aᵗ B is a constant and the memory a causal convolution with it, because an FFT does not
export; no BatchNorm after the last linear layer, the block is pre-norm; `bidirectional` adds the memory of what follows,
with the same u, but where tokens may not see that.
Limits: θ is the number of tokens, of a text the most that it may have. H of a smaller memory is rebuilt, not sliced: its rows are
not those of the larger one. Texts that go on keep u of all tokens, one number each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.signal import cont2discrete
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.errors import Unsupported
from wb.core.layout import Layout
from wb.core.records import Lmu
from wb.core.specs import PAST
from wb.models.axes import Couple, Map, read
from wb.models.layers.operator import Context, OperatorModule, Symmetry
from wb.models.layers.tensors import constant

_SAME = 1e-3  # relative cut-off of singular values of impulse responses; smaller ones would blow up the weights


def discretised(memory: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """A (memory, memory) and B (memory, 1) of one step of time, by zero-order hold, in float64."""
    i, j = np.meshgrid(np.arange(memory), np.arange(memory), indexing="ij")
    a = np.where(i < j, -1.0, (-1.0) ** (i - j + 1)) * (2 * i + 1) / theta
    b = ((2 * i[:, :1] + 1) * (-1.0) ** i[:, :1]) / theta
    a, b, *_ = cont2discrete((a, b, np.eye(memory), np.zeros((memory, 1))), dt=1.0, method="zoh")
    return a, b


@lru_cache(maxsize=256)
def impulse_response(memory: int, tokens: int, theta: float) -> Tensor:
    """H (memory, tokens) in float64: column t is Aᵗ B, with A and B discretised by zero-order hold at step 1."""
    a, b = discretised(memory, theta)
    columns = [b[:, 0]]
    for _ in range(tokens - 1):
        columns.append(a @ columns[-1])
    with torch.inference_mode(mode=False):  # whoever asks first: it is kept for all
        return torch.from_numpy(np.stack(columns, axis=1))


def memory_fit(old: int, new: int, tokens: int) -> Couple:
    """The map between memories of `old` and `new` coefficients: least squares on their impulse responses.

    Memories of different size have different coefficients. One with as many coefficients as tokens loses nothing.
    """
    have, get = (impulse_response(memory, tokens, float(tokens)) for memory in (old, new))
    read_from = (have @ torch.linalg.pinv(get, rtol=_SAME)).T
    return Couple(read_from, read_from)


class LegendreMemory(OperatorModule):
    """`W_o ReLU(W_m m + W_x x + b) + b_o`, with m the memory of the sequence up to (and, bidirectional, from) each token."""

    wu: nn.Parameter
    bu: nn.Parameter
    wm: nn.Parameter
    wx: nn.Parameter
    bh: nn.Parameter

    symmetries: Mapping[str, Symmetry] = {"hidden": "permutation"}  # none for `memory`, whose coefficients are ordered

    def __init__(self, record: Lmu, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        tokens = layout.tokens
        # No buffer: float64 cannot follow the module to every device.
        self.impulse = impulse_response(record.memory, tokens, float(tokens))[:, None, :]  # (memory, 1, N)
        self.reads("wu", "bu", 1)
        self.between("wm", "hidden", 2 if record.bidirectional and not layout.causal else 1, read("memory"))
        self.reads("wx", "bh", "hidden")
        self.writes("out", "out_bias", "hidden")

    def converted(self, axis: str, old: int, new: int) -> Map:
        return memory_fit(old, new, self.layout.tokens)

    def fan_in(self, name: str) -> int:
        if name in ("wm", "wx"):  # their outputs are summed
            return int(self.wm[0].numel() + self.wx.shape[1])
        return super().fan_in(name)

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        return self._read(x, self._memory(self._pulses(x, context)))

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """What entered the memory."""
        return {"pulses": (1, PAST)}

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """What enters the memory is appended to that of the past."""
        u = torch.cat([past[0], self._pulses(x, context)], dim=2)
        reach = self.impulse.shape[2] - 1
        seen = torch.cat([_nothing(u, reach), u], dim=2)[:, :, past[0].shape[2] :]  # of each token so many before it
        memory = F.conv1d(seen, constant(self.impulse, u).flip(2)).transpose(1, 2)
        return self.written(self._read(x, memory)), (u,)

    def start(self, batch: int) -> Tensor:
        """The memory before the first token: (B, memory)."""
        return self.bh.new_zeros(batch, self.impulse.shape[0])

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What it gives for the next token (B, D), and the memory behind it; for as many tokens as one likes.

        Raises:
            Unsupported: the memory of what follows is part of it, which a stream has not seen.
        """
        if self.wm.shape[1] == 2:
            raise Unsupported(
                "a Legendre memory of both directions cannot go token by token; build one with bidirectional=False"
            )
        a, b = (constant(torch.from_numpy(m), x) for m in discretised(self.impulse.shape[0], float(self.layout.tokens)))
        u = F.linear(x, self.kept("wu"), self.bu).relu()  # (B, 1)
        memory = memory @ a.T + u @ b.T
        return self.written(self._read(x, memory)), memory

    def _pulses(self, x: Tensor, context: Context) -> Tensor:
        """What enters the memory, nothing of padding: (B, N, D) -> (B, 1, N)."""
        u = F.linear(x, self.kept("wu"), self.bu).relu().transpose(1, 2)
        return u if context.mask is None else u * context.mask[:, None]

    def _read(self, x: Tensor, memory: Tensor) -> Tensor:
        """The hidden units: (..., D), (..., directions*memory) -> (..., H)."""
        return (F.linear(memory, self.kept("wm").flatten(1)) + F.linear(x, self.kept("wx"), self.bh)).relu()

    def _memory(self, u: Tensor) -> Tensor:
        """The memory at each token: (B, 1, N) -> (B, N, directions*memory), the past first."""
        impulse = constant(self.impulse, u)
        # F.pad exports with shapes that cannot be inferred
        beside = torch.zeros_like(u)[:, :, 1:] if not self.layout.dynamic else _nothing(u, self.impulse.shape[2] - 1)
        # conv1d correlates, so that the response runs backwards for the past and forwards for the future.
        memory = F.conv1d(torch.cat([beside, u], dim=2), impulse.flip(2))
        if self.wm.shape[1] == 2:
            future = F.conv1d(torch.cat([u, beside], dim=2), impulse)
            memory = torch.cat([memory, future], dim=1)
        return memory.transpose(1, 2)


def _nothing(u: Tensor, tokens: int) -> Tensor:
    """Zeros for so many tokens: (B, 1, N) -> (B, 1, tokens)."""
    return torch.zeros_like(u[:, :, :1]).expand(-1, -1, tokens)

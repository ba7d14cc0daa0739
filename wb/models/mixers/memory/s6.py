"""Mamba's selective scan.

Source: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2024, algorithm 2 and section 3.4,
https://arxiv.org/abs/2312.00752: u = SiLU(causal convolution of W_u x), d, B and C linear in u, D = softplus(W_D d + b),

    h_t = exp(D_t A) h_{t-1} + D_t B_t u_t,  y_t = C_t h_t + skip u_t,  output W_o (y SiLU(W_z x)),

with A = -exp(a_log) a number for each channel and entry of its state.
Differs: the recurrence is computed in chunks of the root of the number of tokens, all chunks at once, and then from chunk to
chunk, since (a, b) of h -> a h + b compose associatively; in graphs for any number of tokens by doubling. `step` computes it
token by token. Padding leaves the state as it is. The published W_in, W_x are two and three matrices here.
Limits: tokens see those before them only, in the order in which they lie. A graph has a few nodes for each place of a chunk and
for each chunk, and takes several times as long as attention on CPUs. The rank is no axis: fusion does not align it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.layout import Layout
from wb.core.records.mixers.memory import S6
from wb.core.records.mixers.memory import Scanning as Record
from wb.models.axes import read
from wb.models.layers.operator import NOTHING, Context, OperatorModule, Symmetry
from wb.models.layers.tensors import uniform_

SLOWEST, FASTEST = 1e-3, 0.1  # steps at first, drawn between them on a logarithmic scale


class Scanning(OperatorModule):
    """What has a selective scan in it: the scan's parameters, and what it makes of tokens."""

    record: Record
    wu: nn.Parameter
    wz: nn.Parameter
    filters: nn.Parameter
    filters_bias: nn.Parameter
    step_bias: nn.Parameter
    a_log: nn.Parameter
    skip: nn.Parameter

    def __init__(self, record: Record, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.reads("wu", None, "inner")
        self.reads("wz", None, "inner")
        self.holds("filters", "inner", 1, record.kernel)
        self.holds("filters_bias", "inner")
        self.between("step_down", record.rank, read("inner"))
        self.between("to_b", "state", read("inner"))
        self.between("to_c", read("state"), read("inner"))  # it weighs what the state has
        self.between("step_up", "inner", record.rank)
        self.holds("step_bias", "inner")
        self.holds("a_log", "inner", "state")
        self.holds("skip", "inner")

    def reset(self) -> None:
        """As published: A = -1, -2, ...; steps of 0.001 to 0.1."""
        super().reset()
        uniform_(self.filters, self.filters.shape[2])
        nn.init.ones_(self.skip)
        with torch.no_grad():
            self.a_log.copy_(torch.arange(1, self.a_log.shape[1] + 1).log().expand_as(self.a_log))
            drawn = torch.rand(self.step_bias.shape) * math.log(FASTEST / SLOWEST) + math.log(SLOWEST)
            steps = drawn.exp()
            self.step_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus

    def remembered(self, x: Tensor, context: Context = NOTHING) -> Tensor:
        """What the scan gives at each token, gated by it: (B, N, D) -> (B, N, E)."""
        return self.followed(x, None, None, context)[0]

    def followed(
        self, x: Tensor, before: Tensor | None, state: Tensor | None, context: Context
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same behind tokens whose last inputs of the convolution (B, kernel - 1, E) and state (B, E, S) are given.

        Returns those behind it too. Padding enters neither.
        """
        counts = None if context.mask is None else context.mask[:, :, None]
        given = F.linear(x, self.kept("wu"))  # (B, N, E)
        given = given if counts is None else given * counts
        if before is None:  # F.pad exports with shapes that cannot be inferred
            before = torch.zeros_like(given[:, :1]).expand(-1, self.record.kernel - 1, -1)
        seen = torch.cat([before, given], dim=1)
        u = F.silu(
            F.conv1d(seen.transpose(1, 2), self.filters, self.filters_bias, groups=self.filters.shape[0])
        ).transpose(1, 2)
        steps, taken, b, c = self._terms(u)
        if counts is not None:
            steps, taken = steps * counts, taken * counts
        tracing = bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
        scan = doubled if self.layout.dynamic and tracing else scanned
        y, state = scan(steps, taken, b, c, -torch.exp(self.a_log), state, self.layout.tokens)
        gated = (y + self.skip * u) * F.silu(F.linear(x, self.kept("wz")))
        return gated, seen[:, given.shape[1] :], state

    def _terms(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Steps D and D u, (B, N, E), and B and C, (B, N, S)."""
        steps = F.softplus(F.linear(F.linear(u, self.kept("step_down")), self.kept("step_up"), self.step_bias))
        return steps, steps * u, F.linear(u, self.kept("to_b")), F.linear(u, self.kept("to_c"))


class SelectiveScan(Scanning):
    """`W_o (S6(SiLU(conv(W_u x))) * SiLU(W_z x))`, without biases but of the convolution and of the steps."""

    symmetries: Mapping[str, Symmetry] = {"inner": "permutation", "state": "permutation"}

    def __init__(self, record: S6, embed: int, layout: Layout, device: torch.device | str | None = None) -> None:
        super().__init__(record, embed, layout, device)
        self.writes("out", None, "inner")

    def hidden(self, x: Tensor, context: Context) -> Tensor:
        """(B, N, D) -> (B, N, E)."""
        return self.remembered(x, context)

    @property
    def recalls(self) -> Mapping[str, tuple[int | str, ...]]:
        """The state, and the last inputs of the convolution."""
        inner, states = self.a_log.shape
        return {
            "state": (inner, states),
            **({"before": (kernel - 1, inner)} if (kernel := self.record.kernel) > 1 else {}),
        }

    def continued(self, x: Tensor, past: Sequence[Tensor], context: Context) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The scan goes on from the state."""
        y, before, state = self.followed(x, past[1] if len(past) > 1 else None, past[0], context)
        return self.written(y), (state, before)[: len(past)]

    def start(self, batch: int) -> tuple[Tensor, Tensor]:
        """The state before the first token: inputs of the convolution (B, E, kernel - 1), and h (B, E, S)."""
        inner, states = self.a_log.shape
        return self.skip.new_zeros(batch, inner, self.record.kernel - 1), self.skip.new_zeros(batch, inner, states)

    def step(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What it gives for the next token (B, D), and the state behind it."""
        before, h = state
        seen = torch.cat([before, F.linear(x, self.kept("wu"))[:, :, None]], dim=2)  # (B, E, kernel)
        u = F.silu((seen * self.filters[:, 0]).sum(dim=2) + self.filters_bias)
        steps, taken, b, c = (y[:, 0] for y in self._terms(u[:, None]))
        h = torch.exp(steps[:, :, None] * -torch.exp(self.a_log)) * h + taken[:, :, None] * b[:, None]
        y = (h * c[:, None]).sum(dim=2) + self.skip * u
        return self.written(y * F.silu(F.linear(x, self.kept("wz")))), (seen[:, :, 1:], h)


def scanned(
    steps: Tensor, taken: Tensor, b: Tensor, c: Tensor, a: Tensor, state: Tensor | None = None, most: int = 0
) -> tuple[Tensor, Tensor]:
    """y_t = C_t h_t for h_t = exp(steps_t A) h_{t-1} + taken_t B_t, for all t, and the last h; h_0 is `state` or zero.

    (B, N, E), (B, N, E), (B, N, S), (B, N, S), (E, S) -> (B, N, E), (B, E, S). Tensors with a number for each entry of a state
    are those of one place of all chunks, which fit a processor's cache where those of all tokens do not.
    """
    del most
    tokens = int(steps.shape[1])
    length = math.isqrt(tokens - 1) + 1
    chunks = -(-tokens // length)
    places = [_places(y, chunks, length) for y in (steps, taken, b, c)]
    within: list[Tensor] = []  # of every chunk, as if nothing were before it: (B, chunks, E, S)
    fading: list[Tensor] = []
    for step, given, to, _ in zip(*places, strict=True):
        fade, new = torch.exp(step[..., None] * a), given[..., None] * to[:, :, None]
        within.append(fade * within[-1] + new if within else new)
        fading.append(fade * fading[-1] if fading else fade)
    before = [torch.zeros_like(within[0][:, 0]) if state is None else state]  # what the chunks before it leave to each
    for k in range(chunks - 1):
        before.append(fading[-1][:, k] * before[-1] + within[-1][:, k])
    left = torch.stack(before, dim=1)
    found = [(own + faded * left) @ of[..., None] for own, faded, of in zip(within, fading, places[3], strict=True)]
    y = torch.cat(found, dim=3).permute(0, 1, 3, 2).reshape(-1, chunks * length, int(a.shape[0]))[:, :tokens]
    return y, within[-1][:, -1] + fading[-1][:, -1] * before[-1]


def doubled(
    steps: Tensor, taken: Tensor, b: Tensor, c: Tensor, a: Tensor, state: Tensor | None = None, most: int = 0
) -> tuple[Tensor, Tensor]:
    """The same, for at most `most` tokens, by operations of which none depends on how many there are."""
    fade = torch.exp(steps[..., None] * a)  # (B, N, E, S)
    h = taken[..., None] * b[:, :, None]
    reach = 1
    while reach < most:  # both are of so many tokens up to each
        before = torch.zeros_like(h[:, :1]).expand(-1, reach, -1, -1)
        shifted = torch.cat([before, h], dim=1)[:, : h.shape[1]]
        faded = torch.cat([before + 1, fade], dim=1)[:, : h.shape[1]]
        h, fade, reach = h + fade * shifted, fade * faded, 2 * reach
    h = h if state is None else h + fade * state[:, None]
    return (h @ c[..., None])[..., 0], h[:, -1]


def _places(y: Tensor, chunks: int, length: int) -> list[Tensor]:
    """The tokens (B, N, C) by their place in chunks of that length, (B, chunks, C); missing ones change none before them."""
    channels = int(y.shape[2])
    if missing := chunks * length - int(y.shape[1]):
        y = torch.cat([y, torch.zeros_like(y[:, :1]).expand(-1, missing, -1)], dim=1)
    return list(y.reshape(-1, chunks, length, channels).unbind(2))

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


class Scans(OperatorModule):
    """What has selective scans in it: the parameters of each, whose names begin alike, and what it makes of a sequence."""

    def scans(self, rank: int, kernel: int, name: str = "", inner: str = "inner", state: str = "state") -> None:
        """Declares the parameters of a scan; `inner` and `state` are its axes."""
        self.holds(f"{name}filters", inner, 1, kernel)
        self.holds(f"{name}filters_bias", inner)
        self.between(f"{name}step_down", rank, read(inner))
        self.between(f"{name}to_b", state, read(inner))
        self.between(f"{name}to_c", read(state), read(inner))  # it weighs what the state has
        self.between(f"{name}step_up", inner, rank)
        self.holds(f"{name}step_bias", inner)
        self.holds(f"{name}a_log", inner, state)
        self.holds(f"{name}skip", inner)

    def reset(self) -> None:
        """As published: A = -1, -2, ...; steps of 0.001 to 0.1."""
        super().reset()
        for name in [one.removesuffix("a_log") for one in self.axes if one.endswith("a_log")]:
            filters, skip, a_log, step_bias = self._of(name, "filters", "skip", "a_log", "step_bias")
            uniform_(filters, filters.shape[2])
            nn.init.ones_(skip)
            with torch.no_grad():
                a_log.copy_(torch.arange(1, a_log.shape[1] + 1).log().expand_as(a_log))
                drawn = torch.rand(step_bias.shape) * math.log(FASTEST / SLOWEST) + math.log(SLOWEST)
                steps = drawn.exp()
                step_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus

    def scan(self, u: Tensor, name: str = "") -> Tensor:
        """What the scan of that name gives at each place of a sequence: (B, N, E) -> (B, N, E)."""
        return self.passed(u, name)[0]

    def passed(
        self,
        given: Tensor,
        name: str = "",
        before: Tensor | None = None,
        state: Tensor | None = None,
        counts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The same behind a sequence whose last inputs (B, kernel - 1, E) and state (B, E, S) are given, and those behind it.

        Places that `counts` (B, N, 1) has zeros for enter neither.
        """
        filters, bias, a_log, skip = self._of(name, "filters", "filters_bias", "a_log", "skip")
        inner, _, kernel = filters.shape
        given = given if counts is None else given * counts
        if before is None:  # F.pad exports with shapes that cannot be inferred
            before = torch.zeros_like(given[:, :1]).expand(-1, kernel - 1, -1)
        seen = torch.cat([before, given], dim=1)
        u = F.silu(F.conv1d(seen.transpose(1, 2), filters, bias, groups=inner)).transpose(1, 2)
        steps, taken, b, c = self._terms(u, name)
        if counts is not None:
            steps, taken = steps * counts, taken * counts
        tracing = bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]
        scan = doubled if self.layout.dynamic and tracing else scanned
        y, state = scan(steps, taken, b, c, -torch.exp(a_log), state, self.layout.tokens)
        return y + skip * u, seen[:, given.shape[1] :], state

    def _of(self, scan: str, *names: str) -> list[Tensor]:
        return [getattr(self, f"{scan}{name}") for name in names]

    def _terms(self, u: Tensor, name: str = "") -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Steps D and D u, (B, N, E), and B and C, (B, N, S)."""
        down, up, to_b, to_c = (self.kept(f"{name}{one}") for one in ("step_down", "step_up", "to_b", "to_c"))
        (bias,) = self._of(name, "step_bias")
        steps = F.softplus(F.linear(F.linear(u, down), up, bias))
        return steps, steps * u, F.linear(u, to_b), F.linear(u, to_c)


class Scanning(Scans):
    """What has a selective scan along the tokens in it, gated by them."""

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
        self.scans(record.rank, record.kernel)

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
        y, before, state = self.passed(F.linear(x, self.kept("wu")), "", before, state, counts)
        return y * F.silu(F.linear(x, self.kept("wz"))), before, state


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

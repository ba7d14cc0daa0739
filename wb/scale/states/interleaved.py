"""AdamW whose moments are kept on a slow device, and updated on it and on a fast one at once.

Source: Maurya et al., "Deep Optimizer States", 2024, https://arxiv.org/abs/2410.21316: of the sub-groups of parameters every
k-th is fetched, updated on the fast device and flushed, while the slow one updates the others; k follows from measured rates
(`wb.scale.states.plan`).
Differs: weights of 32 bits are on the fast device, so that only moments travel there and back, 16 bytes a parameter in place of
24; the slow device keeps a copy of those weights that it updates. Weights are those of `torch.optim.AdamW` to the bit on devices
that compute alike, and `state_dict` is its own, so that one continues what the other began.
Limits: the update phase alone interleaves, behind the gradients' clipping.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from wb.scale.states.plan import ATTACHED, Speeds, best
from wb.scale.states.pools import Link, Pool

SIZE = 1 << 20  # parameters of a sub-group
SLOTS = 2
_AHEAD = 2  # sub-groups whose gradients are on their way to the slow device, so that moments need not wait behind all
_LANES = 64  # weights are cut at multiples of it, as kernels compute what does not fill a register otherwise
_TIMED = 3  # updates and copies, of which the fastest counts


@dataclass
class _Slice:
    """Some of one weight's entries, as flat views: `weight` on the fast device, moments on the slow one."""

    parameter: Tensor
    group: dict[str, Any]
    first: int
    last: int
    copy: Tensor | None = None  # of the weight, on the slow device, once that has updated it

    def of(self, tensor: Tensor) -> Tensor:
        """The same entries of a tensor that is like the weight."""
        return tensor.detach().view(-1)[self.first : self.last]

    def __len__(self) -> int:
        return self.last - self.first


@dataclass
class _Given:
    """What a sub-group is updated with, on one device."""

    weights: list[Tensor] = field(default_factory=list)
    grads: list[Tensor] = field(default_factory=list)
    moments: list[Tensor] = field(default_factory=list)  # first ones, then second ones


class InterleavedAdamW(torch.optim.AdamW):
    """AdamW of `params` on the `link`'s fast pool, in sub-groups of about `size` parameters.

    Every `k`-th sub-group is updated on the fast pool, none if it is 0; None: that which is predicted to be fastest, by rates
    that are measured before the first step. `slots` sub-groups have buffers on the fast pool.
    """

    def __init__(
        self,
        params: Iterable[Any],
        link: Link,
        *,
        k: int | None = None,
        size: int = SIZE,
        slots: int = SLOTS,
        **options: Any,
    ) -> None:
        super().__init__(params, **options)
        self.link, self.k, self.size, self.slots = link, k, max(1, size // _LANES) * _LANES, slots
        self.speeds: Speeds | None = None
        self._groups: list[list[_Slice]] = []
        self._fast = ThreadPoolExecutor(1, "wb fast")

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Changes the weights by their gradients; a weight without one stays."""
        loss = None if closure is None else closure()
        if not self._groups:
            self._groups = list(self._cut())
        self._begin()
        if self.k is None:
            self.speeds = self.measured()
            self.k = best(self.speeds, len(self._groups), self.size, self.slots, ATTACHED)
        there = [[one for one in group if one.parameter.grad is not None] for group in self._groups]
        chosen = [bool(self.k) and number % self.k == self.k - 1 for number in range(len(there))]
        fast = self._fast.submit(
            self._on_fast, [group for group, is_fast in zip(there, chosen, strict=True) if is_fast]
        )
        sent = self._on_slow([group for group, is_fast in zip(there, chosen, strict=True) if not is_fast])
        for one in (*sent, fast):
            one.result()
        for parameter in {one.parameter for group in there for one in group}:
            self.state[parameter]["step"] += 1
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        """The state of this or of torch's optimizer; moments go back to the slow device."""
        super().load_state_dict(state_dict)
        for state in self.state.values():
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = self._kept(state[name])
        self._groups = []  # copies of weights are old

    def close(self) -> None:
        """Ends the threads."""
        self._fast.shutdown()
        self.link.close()

    def measured(self) -> Speeds:
        """How fast both pools update a sub-group, and how fast the link is, each the best of a few times."""
        size = min(self.size, max(len(one) for group in self._groups for one in group))
        group = self.param_groups[0]

        def update(pool: Pool) -> float:
            tensors = [torch.zeros(size, device=pool.device) for _ in range(4)]
            begun = time.perf_counter()
            self._updated(pool, [group], [0.0], _Given(tensors[:1], tensors[1:2], tensors[2:]))
            return time.perf_counter() - begun

        def copy() -> float:
            tensor = self._kept(torch.zeros(size))
            begun = time.perf_counter()
            self.link.up([tensor]).result()
            return time.perf_counter() - begun

        slow, fast = (min(update(pool) for _ in range(_TIMED)) for pool in (self.link.slow, self.link.fast))
        return Speeds(size / slow, size / fast, 4 * size / min(copy() for _ in range(_TIMED)))

    def _on_slow(self, groups: list[list[_Slice]]) -> list[Future[None]]:
        """Updates on the slow pool, gradients of the next sub-groups being on their way; gives what sends the weights back."""
        left, sent = iter(groups), list[Future[None]]()
        coming = deque((group, *self._from_fast(group)) for group in islice(left, _AHEAD))
        while coming:
            group, arrived, known = coming.popleft()
            arrived.result()
            coming.extend((after, *self._from_fast(after)) for after in islice(left, 1))
            self._updated(self.link.slow, [one.group for one in group], self._steps(group), known)
            sent.append(self.link.up_into(known.weights, [one.of(one.parameter) for one in group]))
        return sent

    def _from_fast(self, group: list[_Slice]) -> tuple[Future[None], _Given]:
        """Begins to bring the gradients, and weights of which there is no copy."""
        device, known, sources, places = self.link.slow.device, _Given(), list[Tensor](), list[Tensor]()
        for one in group:
            weight, grad = one.of(one.parameter), one.of(_grad(one))
            if one.copy is None:
                one.copy = torch.empty_like(weight, device=device)
                sources.append(weight)
                places.append(one.copy)
            known.weights.append(one.copy)
            known.grads.append(torch.empty_like(grad, device=device))
            sources.append(grad)
            places.append(known.grads[-1])
        known.moments = self._moments(group)
        return self.link.down(sources, places), known

    def _on_fast(self, groups: list[list[_Slice]]) -> None:
        """Updates on the fast pool, with as many sub-groups there at a time as there are slots."""
        left, ready = iter(groups), SimpleQueue[tuple[list[_Slice], Future[list[Tensor]]]]()

        def fetch(_: object = None) -> None:
            group = next(left, None)
            if group is not None:
                ready.put((group, self.link.up(self._moments(group))))

        for _ in range(self.slots):
            fetch()
        flushed = []
        for _ in groups:
            group, fetched = ready.get()
            moments = fetched.result()
            weights, grads = [one.of(one.parameter) for one in group], [one.of(_grad(one)) for one in group]
            given = _Given(weights, grads, moments)
            with torch.no_grad():
                self._updated(self.link.fast, [one.group for one in group], self._steps(group), given)
            for one in group:
                one.copy = None  # older than the weight by now
            flushed.append(self.link.down(moments, self._moments(group)))
            flushed[-1].add_done_callback(fetch)
        for flush in flushed:
            flush.result()

    def _updated(self, pool: Pool, groups: list[dict[str, Any]], steps: list[float], given: _Given) -> None:
        """One step of AdamW of some slices, on the device where they are."""
        begun, count = time.perf_counter(), len(groups)
        for number, (group, step) in enumerate(zip(groups, steps, strict=True)):
            counted = torch.tensor(step, device=given.weights[number].device if group["fused"] else "cpu")
            adamw(
                [given.weights[number]],
                [given.grads[number]],
                [given.moments[number]],
                [given.moments[count + number]],
                [],
                [counted],
                fused=group["fused"],
                foreach=False,
                amsgrad=False,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                lr=group["lr"],
                weight_decay=group["weight_decay"],
                eps=group["eps"],
                maximize=False,
            )
        if pool.device.type == "cuda":
            torch.cuda.current_stream(pool.device).synchronize()
        pool.pace.wait(sum(weight.numel() for weight in given.weights), begun)

    def _moments(self, group: list[_Slice]) -> list[Tensor]:
        states = [self.state[one.parameter] for one in group]
        return [
            one.of(state[name]) for name in ("exp_avg", "exp_avg_sq") for one, state in zip(group, states, strict=True)
        ]

    def _steps(self, group: list[_Slice]) -> list[float]:
        return [float(self.state[one.parameter]["step"]) for one in group]

    def _begin(self) -> None:
        """Makes the state of weights that have their first gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and not self.state[parameter]:
                    zeros = (self._kept(torch.zeros(parameter.shape, dtype=parameter.dtype)) for _ in range(2))
                    self.state[parameter] = {"step": torch.tensor(0.0)} | dict(
                        zip(("exp_avg", "exp_avg_sq"), zeros, strict=True)
                    )

    def _kept(self, tensor: Tensor) -> Tensor:
        """A tensor as the slow pool keeps it: where the fast one is a GPU, in pinned memory."""
        kept = tensor.to(self.link.slow.device).contiguous()
        return kept.pin_memory() if self.link.fast.device.type == "cuda" else kept

    def _cut(self) -> Iterator[list[_Slice]]:
        """The weights in sub-groups: large ones are cut, small ones of one group of parameters put together."""
        for group in self.param_groups:
            taken, room = list[_Slice](), self.size
            for parameter in group["params"]:
                for first in range(0, parameter.numel(), self.size):
                    one = _Slice(parameter, group, first, min(first + self.size, parameter.numel()))
                    if taken and len(one) > room:
                        yield taken
                        taken, room = [], self.size
                    taken.append(one)
                    room -= len(one)
            if taken:
                yield taken


def _grad(one: _Slice) -> Tensor:
    """The gradient of a slice's weight, which has one."""
    grad = one.parameter.grad
    if grad is None:
        raise RuntimeError("a weight without a gradient was to be updated")
    return grad.contiguous()

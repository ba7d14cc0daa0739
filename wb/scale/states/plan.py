"""How fast an optimizer step is whose sub-groups are shared out between two devices, predicted.

Of N sub-groups of S parameters every k-th is updated on the fast device: its state goes there over the link and comes back, while
the slow one updates the k - 1 others, whose results go over the link too. With U parameters a second, B bytes a second each way
and so many buffers (slots) on the fast device, a step takes

    T(k) = N / k · max[(k - 1) S / U_slow, S (fetch + (k - 1) send) / B, S (flush + (k - 1) grad) / B, S / U_fast,
                       (S (fetch + flush) / B + S / U_fast) / slots]

Source: Maurya et al., "Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved Offloading",
2024, https://arxiv.org/abs/2410.21316, which interleaves so and chooses k by rates; the formula is ours.
Differs: buffers bound it too, and what the slow device is sent.
Limits: a pipeline that is full; filling and emptying it is left out, so that few sub-groups take longer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wb.core.errors import BadOption

MOST = 16  # of k: a larger one leaves the fast device next to nothing


@dataclass(frozen=True)
class Traffic:
    """Bytes a parameter that go over the link: a state that is fetched and flushed, what the slow device sends and is sent.

    `PUBLISHED` has weights and both moments on the slow device, 16-bit weights on the fast one, and gradients on both.
    `ATTACHED` has weights and gradients of 32 bits on the fast one, and moments alone travel there.
    """

    fetch: int
    flush: int
    send: int
    grad: int


PUBLISHED = Traffic(12, 12, 2, 0)
ATTACHED = Traffic(8, 8, 4, 4)


@dataclass(frozen=True)
class Speeds:
    """Measured rates: parameters a second of the slow and of the fast device, bytes a second of the link, each way."""

    slow: float
    fast: float
    link: float

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise BadOption(f"the rate of {name!r} is {value}; a number above zero was expected")


def predicted(speeds: Speeds, groups: int, size: int, k: int, slots: int = 2, traffic: Traffic = PUBLISHED) -> float:
    """Seconds of a step if every k-th of `groups` sub-groups of `size` parameters is updated on the fast device, 0: none."""
    if k == 0:
        own = size / speeds.slow
        return groups * max(own, size * traffic.send / speeds.link, size * traffic.grad / speeds.link)
    there, others = size / speeds.fast, k - 1
    busiest = max(
        others * size / speeds.slow,
        size * (traffic.fetch + others * traffic.send) / speeds.link,
        size * (traffic.flush + others * traffic.grad) / speeds.link,
        there,
        (size * (traffic.fetch + traffic.flush) / speeds.link + there) / slots,
    )
    return groups / k * busiest


def predicted_static(speeds: Speeds, groups: int, size: int, share: float) -> float:
    """Seconds of a step if the fast device keeps the state of a share of the parameters for good: no state travels."""
    return max((1 - share) * groups * size / speeds.slow, share * groups * size / speeds.fast)


def best(speeds: Speeds, groups: int, size: int, slots: int = 2, traffic: Traffic = PUBLISHED) -> int:
    """The k of the shortest step, 0 if it is best to leave all on the slow device."""
    return min(range(MOST + 1), key=lambda k: predicted(speeds, groups, size, k, slots, traffic))

"""Deep Optimizer States: seconds of an AdamW step whose sub-groups are shared out between two devices, against a static split.

Both devices are this machine: updates and copies take as long as they are said to, each copy in a queue of its direction.
Weights and gradients are on the fast device, moments on the slow one. A static split keeps the moments of a share of the weights
on the fast device for good, and its memory; interleaved ones need that of two sub-groups.

    python benchmarks/optimizer_states.py
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from threading import Thread

import torch
from tables import Table, begin, parser_of, told
from torch import Tensor

from wb.scale.states.interleaved import SLOTS, InterleavedAdamW
from wb.scale.states.plan import ATTACHED, Speeds, best, predicted, predicted_static
from wb.scale.states.pools import Link, Pace, Pool

GROUPS, SIZE = 24, 100_032  # a multiple of the lanes of a register
SLOW, FAST = 1e6, 25e6  # parameters a second
LINKS = (32e6, 16e6, 8e6)  # bytes a second each way
KS = (1, 2, 3, 4, 6)
SHARES = (0.0, SLOTS / GROUPS, 0.1, 0.2, 0.3, 0.5)
NEAR = 0.10  # how far the model may be from what is measured
STEPS = 2  # of which the faster counts: a busy machine only adds to what a step takes


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument(
        "--groups", type=int, default=GROUPS, help=f"sub-groups of {SIZE:,} parameters (default {GROUPS})"
    )
    return parser


def main() -> int:
    """Prints the tables; 3 if the model misses what is measured, or the weights are not those of AdamW."""
    options, out = begin(arguments())
    groups = options.groups
    table = Table(
        f"Seconds of a step, measured (predicted): {groups} sub-groups of {SIZE:,} parameters, {SLOW:.0e} and {FAST:.0e} "
        "parameters a second",
        ("link, B/s each way", "slow alone", *(f"k = {k}" for k in KS), "chosen", "against slow alone"),
    )
    far, least = list[float](), dict[float, float]()
    for link in LINKS:
        told(f"a link of {link:.0e} B/s")
        speeds = Speeds(SLOW, FAST, link)
        found = {
            k: (interleaved(groups, link, k), predicted(speeds, groups, SIZE, k, SLOTS, ATTACHED)) for k in (0, *KS)
        }
        far += [abs(measured / model - 1) for measured, model in found.values()]
        chosen = best(speeds, groups, SIZE, SLOTS, ATTACHED)
        least[link] = found[chosen][0] if chosen in found else interleaved(groups, link, chosen)
        cells = [f"{measured:.2f} ({model:.2f})" for measured, model in found.values()]
        table.row(f"{link:.0e}", *cells, f"k = {chosen}", f"{found[0][0] / least[link]:.2f}x")
    out.table(table)
    out.table(_curve(groups, least))
    equal = same_weights()
    out.say(f"Weights after 20 steps equal those of torch.optim.AdamW to the bit: {'yes' if equal else 'no'}.")
    worst = max(far)
    met = worst < NEAR and equal
    out.say(
        f"Target: measured within {NEAR:.0%} of the model, equal weights: {'met' if met else 'missed'} ({worst:.0%} off at most)."
    )
    return 0 if met else 3


def _curve(groups: int, least: dict[float, float]) -> Table:
    """How much faster the chosen k is than a static split, by the share that this keeps on the fast device."""
    columns = ("kept on the fast device", "static, s", *(f"{link:.0e} B/s" for link in least))
    table = Table("How many times as fast the chosen k is as a static split that keeps a share for good", columns)
    for share in SHARES:
        seconds, model = static(groups, share), predicted_static(Speeds(SLOW, FAST, LINKS[0]), groups, SIZE, share)
        gains = (f"{seconds / one:.2f}x" for one in least.values())
        table.row(f"{share:.0%}", f"{seconds:.2f} ({model:.2f})", *gains)
    return table


def interleaved(groups: int, link: float, k: int) -> float:
    """Seconds of a step, the fastest of some."""
    paces = [Pace(), Pace(), Pace()]
    there = Link(Pool(pace=paces[0]), Pool(pace=paces[1]), paces[2])
    optimizer = InterleavedAdamW([_weight(groups)], there, k=k, size=SIZE, slots=SLOTS)
    optimizer.step()  # weights are copied once, which does not count
    for pace, rate in zip(paces, (SLOW, FAST, link), strict=True):
        pace.rate = rate
    seconds = min(_timed(optimizer.step) for _ in range(STEPS))
    optimizer.close()
    return seconds


def static(groups: int, share: float) -> float:
    """Seconds of a step where the fast device has the state of a share for good, and nothing travels."""
    there = round(share * groups)
    parts = [(FAST, there), (SLOW, groups - there)]

    def update(rate: float, count: int) -> None:
        pool = Pool(pace=Pace(rate))
        for _ in range(count):
            begun = time.perf_counter()
            pool.pace.wait(SIZE, begun)

    def step() -> None:
        threads = [Thread(target=update, args=part) for part in parts]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return min(_timed(step) for _ in range(STEPS))


def same_weights() -> bool:
    """Whether weights are those of torch's own after 20 steps."""
    torch.manual_seed(0)
    ours = torch.randn(5 * 1024 + 37).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    one = InterleavedAdamW([ours], Link(Pool(), Pool()), k=3, size=1024)
    other = torch.optim.AdamW([theirs])
    for _ in range(20):
        theirs.grad = torch.randn_like(theirs)
        ours.grad = theirs.grad.clone()
        one.step()
        other.step()
    one.close()
    return torch.equal(ours, theirs)


def _weight(groups: int) -> Tensor:
    weight = torch.zeros(groups * SIZE, requires_grad=True)
    weight.grad = torch.ones(groups * SIZE)
    return weight


def _timed(step: Callable[[], object]) -> float:
    begun = time.perf_counter()
    step()
    return time.perf_counter() - begun


if __name__ == "__main__":
    raise SystemExit(main())

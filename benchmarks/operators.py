"""Every mixer against softmax attention: latency and multiply-accumulates over numbers of tokens, and where each begins to win.

    python benchmarks/operators.py [--tokens 49,196,784,3136] [--cap 2]

One operator alone of 192 channels in 3 heads of 64, exported and timed by the runtime on one picture; all of one number of tokens
are timed together, in shuffled rounds, in one run (`wb ops --measure`, the same function). A mixer wins at a number of tokens
where its interval lies below softmax attention's, and from there on at all larger ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from tables import Output, Table, begin, parser_of, told

from wb.core.layout import Layout
from wb.core.measures.readings import ratio, scaled
from wb.core.records import MIXERS
from wb.hardware.device import parse_device
from wb.jobs.verbs import operators
from wb.models.counting import operator_macs


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", default="49,196,784,3136", help="squares, from small to large")
    parser.add_argument("--cap", type=float, default=2.0, help="most seconds for timing one operator")
    parser.add_argument("--threads", type=int, default=1)
    return parser


def main() -> None:
    options, out = begin(arguments())
    sides = operators.sides_of(options.tokens)
    parts = list(operators.listed())
    device = parse_device("cpu", options.threads)
    timed = operators.measured(parts, sides, device, cap_s=options.cap, progress=lambda text: told(text))
    show([part for part in timed if part.role == "mixer"], sides, out)


def show(mixers: Sequence[operators.Listed], sides: Sequence[int], out: Output) -> None:
    """A table of latencies, one of multiply-accumulates, and the verdict."""
    softmax = dict(next(part for part in mixers if part.title == operators.BESIDE).latency)
    counts = [side * side for side in sides]
    latency = Table(
        "one mixer of 192 channels: milliseconds of softmax attention, multiples of it for the others",
        ("mixer", *(f"{n} tokens" for n in counts), "surely faster"),
    )
    macs = Table("multiply-accumulates (counted)", ("mixer", *(f"{n} tokens" for n in counts)))
    faster = []
    for part, record in zip(mixers, MIXERS, strict=True):
        own = dict(part.latency)
        beside = part.title == operators.BESIDE
        where = "" if beside else operators.wins(own, softmax)
        faster += [part.kind] if where.startswith("from") else []
        cells = [own[n].text() if beside else ratio(own[n], softmax[n]).text() for n in counts if n in own]
        latency.row(part.kind, *(cells or ["no graph"] * len(counts)), where)
        layouts = [Layout((side, side), plane=part.supports.planes[0]) for side in sides]
        found = (operator_macs(operators.sized(record, layout), operators.EMBED, layout) for layout in layouts)
        macs.row(part.kind, *(scaled(reading.value, reading.unit) for reading in found))
    out.table(latency)
    out.table(macs)
    out.say(
        f"{len(faster)} of {len(mixers) - 1} mixers are surely faster than softmax attention at {counts[-1]} tokens."
    )


if __name__ == "__main__":
    main()

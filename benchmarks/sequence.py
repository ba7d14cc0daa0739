"""Attention over tokens that several processes hold: peak memory of each, bytes that each sends, difference to full attention.

`full` is softmax(q kᵀ) v in one process, `merged` keys and values on a ring with blocks merged by the logarithms of their sums,
`rows` the published form that holds whole rows of scores. Causal, forwards and backwards, 4 heads of 32 channels, float32; the
differences are those of 256 tokens in float64.

    python benchmarks/sequence.py --tokens 4096
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from pathlib import Path
from typing import Any, get_args

import torch
from ranks import RANK, processes
from tables import Table, begin, parser_of, told
from torch import Tensor

from wb.scale.joining import joined
from wb.scale.ring.attention import Form, Spread, bytes_sent
from wb.scale.ring.blocks import Rule
from wb.scale.ring.channel import Channel
from wb.scale.ring.order import order

HEADS, CHANNELS = 4, 32
SMALL = 256
EXACT = 1e-12
FULL = "full"


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048, 4096], help="lengths of the line")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="numbers of processes")
    parser.add_argument("--form", choices=(FULL, *get_args(Form)), help="of one process that this script starts")
    parser.add_argument(RANK, help="of one process that this script starts: the file that it writes")
    return parser


def main() -> int:
    """Prints the table; 3 if outputs or bytes are others than they should be."""
    parser = arguments()
    given = parser.parse_args()
    if given.rank is not None:
        Path(given.rank).write_text(json.dumps(one(given.form, given.tokens[0])))
        return 0
    options, out = begin(parser)
    columns = (
        "tokens",
        "form",
        "processes",
        "peak of a process, MB",
        "sent by a process, MB",
        "as the formula",
        "CPU s of each",
    )
    table, exact, wrong = (
        Table("Causal attention, forwards and backwards", columns, left=("form", "as the formula")),
        [0.0],
        0,
    )
    for tokens in options.tokens:
        for form in (FULL, *get_args(Form)):
            for count in [1] if form == FULL else options.processes:
                if form == "rows" and count == 1:
                    continue  # is full attention
                told(f"{form}, {tokens} tokens, {count} processes")
                found = processes(__file__, count, ["--form", form, "--tokens", str(tokens)])
                expected = sum(bytes_sent(count, tokens // count, *[HEADS * CHANNELS] * 2, 4))
                agreed = all(each["sent"] == expected for each in found)
                wrong += not agreed
                exact += [each["difference"] for each in found]
                cells = [f"{max(each['peak'] for each in found):.0f}", f"{found[0]['sent'] / 1e6:.1f}"]
                each = f"{sum(each['cpu'] for each in found) / count:.2f}"
                table.row(f"{tokens:,}", form, str(count), *cells, "yes" if agreed else "no", each)
    out.table(table)
    met = max(exact) < EXACT and not wrong
    out.say(f"Largest difference of outputs and gradients to full attention, in float64: {max(exact):.1e}.")
    out.say(f"Target: below {EXACT:.0e}, and bytes as the formula says: {'met' if met else 'missed'}.")
    return 0 if met else 3


def one(form: str, tokens: int) -> dict[str, Any]:
    """What one process measures."""
    torch.set_num_threads(1)
    count = int(os.environ["WORLD_SIZE"])
    with joined(count) as team:
        spread = Spread(Channel.of(team), "merged" if form == FULL else form)  # type: ignore[arg-type]
        difference = _difference(form, spread)
        q, k, v, upstream = _drawn(tokens, order(tokens, team.place, count), torch.float32)
        _attended(form, spread, *_drawn(SMALL, order(SMALL, team.place, count), torch.float32))  # loads what it needs
        before, spread.channel.sent, begun = _peak(), 0, time.process_time()
        _attended(form, spread, q, k, v, upstream)
        cpu = time.process_time() - begun
        return {"peak": _peak() - before, "sent": spread.channel.sent, "cpu": cpu, "difference": difference}


def _difference(form: str, spread: Spread) -> float:
    """The largest one to full attention on a short line."""
    channel = spread.channel
    own = order(SMALL, channel.rank, channel.count)
    ours = _attended(form, spread, *_drawn(SMALL, own, torch.float64))
    theirs = _attended(FULL, spread, *_drawn(SMALL, torch.arange(SMALL), torch.float64))
    return max(float((a - b[:, :, own]).abs().max()) for a, b in zip(ours, theirs, strict=True))


def _attended(form: str, spread: Spread, q: Tensor, k: Tensor, v: Tensor, upstream: Tensor) -> list[Tensor]:
    """The output, and gradients of queries, keys and values."""
    if form == FULL:
        hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(1)
        y = (q @ k.transpose(-1, -2)).masked_fill(hidden, -torch.inf).softmax(dim=-1) @ v
    else:
        y = spread.attend(q, k, v, Rule(causal=True))
    return [y.detach(), *torch.autograd.grad(y, (q, k, v), upstream)]


def _drawn(tokens: int, own: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Queries, keys, values and the gradient of the output, of a process's own tokens of a line that all draw."""
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, HEADS, tokens, CHANNELS, generator=generator, dtype=dtype)[:, :, own] for _ in range(4)]
    q, k, v, upstream = drawn
    return (q * CHANNELS**-0.5).requires_grad_(), k.requires_grad_(), v.requires_grad_(), upstream


def _peak() -> float:
    """The most memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    raise SystemExit(main())

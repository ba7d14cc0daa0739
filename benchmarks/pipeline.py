"""A network computed by a line of processes: texts a second, what each process holds and sends; a ladder's overlap.

The network reads texts of 1 to 109 tokens. `padded` computes and hands on padding too, to the longest of a batch; texts of about
one length are together. Times are those between the third batch and the last of the process that answers, without the first
reading of weights. `resident`: weights do not fit, and those of some blocks are read from the file for every batch. A link of so
many milliseconds delivers each sum that much after it began, without a core for it.

    python benchmarks/pipeline.py --batches 24
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from ranks import RANK, processes
from tables import Table, begin, parser_of, told

from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import WIRINGS, Classify, EmbedStem, LayerNorm, Mlp, Softmax, TextInput, kind_of
from wb.models.model import from_network, save
from wb.models.network import build
from wb.models.staged.line import Line
from wb.models.staged.stored import Stored
from wb.scale.joining import joined
from wb.scale.line.places import Places
from wb.scale.line.sums import Sum, Sums

LONGEST, VOCABULARY, CLASSES = 128, 1000, 10
BATCH, WARM = 8, 2
NEAR = 1e-5


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--width", type=int, default=256, help="of the stream (default 256)")
    parser.add_argument("--depth", type=int, default=8, help="blocks (default 8)")
    parser.add_argument("--batches", type=int, default=24, help=f"of {BATCH} texts (default 24)")
    parser.add_argument("--delays", type=float, nargs="+", default=[0, 1, 2, 4, 8], help="of a link, ms")
    parser.add_argument("--case", help="of one process that this script starts")
    parser.add_argument(RANK, help="of one process that this script starts: the file that it writes")
    return parser


@dataclass(frozen=True)
class Case:
    """What is run: a model by that many processes, within so many bytes, behind a link."""

    model: str
    stages: int = 1
    shares: int = 1
    padded: bool = False
    resident: int | None = None
    delay_ms: float = 0.0
    batches: int = 24

    @property
    def count(self) -> int:
        """How many processes it takes."""
        return self.stages * self.shares


@dataclass
class Texts:
    """Ids without a meaning."""

    count: int
    rows: list[NDArray[np.int64]] = field(default_factory=list)

    def __post_init__(self) -> None:
        draws = np.random.default_rng(0)
        sizes = np.concatenate([[LONGEST], draws.integers(1, LONGEST * 6 // 7, self.count - 1)])
        draws.shuffle(sizes)
        self.rows = [draws.integers(VOCABULARY, size=size) for size in sizes]

    def __len__(self) -> int:
        return self.count

    @property
    def following(self) -> None:
        """They are classified."""

    @property
    def lengths(self) -> list[int]:
        """The tokens of each."""
        return [len(row) for row in self.rows]

    def take(self, index: NDArray[np.integer]) -> NDArray[Any]:
        """A batch."""
        found = np.full((len(index), max(len(self.rows[i]) for i in index)), -1)
        for row, i in enumerate(index):
            found[row, : len(self.rows[i])] = self.rows[i]
        return found


@dataclass(eq=False)
class Slow(Sums):
    """Sums that are there no sooner than a link of that delay would have them."""

    delay_s: float = 0.0

    def begun(self, part: torch.Tensor) -> Sum:
        found = super().begun(part)
        return Sum(found.total, Arriving(found.work, time.perf_counter() + self.delay_s), found.ranks)


@dataclass(frozen=True)
class Arriving:
    """A sum that arrives at a time."""

    work: Any
    at: float

    def wait(self) -> None:
        self.work.wait()
        time.sleep(max(0.0, self.at - time.perf_counter()))


def main() -> int:
    """Prints the tables; 3 if outputs are others than those of one process."""
    parser = arguments()
    given = parser.parse_args()
    if given.rank is not None:
        Path(given.rank).write_text(json.dumps(one(Case(**json.loads(given.case)))))
        return 0
    options, out = begin(parser)
    with tempfile.TemporaryDirectory() as folder:
        models = {wiring: _model(options.width, options.depth, wiring, Path(folder)) for wiring in ("pre", "ladder")}
        bytes_held = sum(os.path.getsize(path) for path in [models["pre"]])
        table, apart = _line(models["pre"], options.batches, bytes_held)
        out.table(table)
        ladder, further = _ladder(models, options.batches, options.delays)
        out.table(ladder)
    furthest = max(*apart, *further)
    out.say(f"Largest difference of an output to that of one process, in float32: {furthest:.1e}.")
    out.say(f"Target: below {NEAR:.0e}: {'met' if furthest < NEAR else 'missed'}.")
    return 0 if furthest < NEAR else 3


def _line(model: str, batches: int, size: int) -> tuple[Table, list[float]]:
    """Stages, shares, padding, and weights that do not fit."""
    half = size * 6 // 10
    cases = {
        "one process, padded": Case(model, padded=True, batches=batches),
        "one process": Case(model, batches=batches),
        "2 stages, padded": Case(model, 2, padded=True, batches=batches),
        "2 stages": Case(model, 2, batches=batches),
        "2 shares": Case(model, 1, 2, batches=batches),
        "one process, 60 % resident": Case(model, resident=half, batches=batches),
    }
    columns = (
        "by",
        "texts a second",
        "CPU ms a text, each",
        "weights, MB, each",
        "peak memory, MB, each",
        "sent, MB, each",
    )
    table = Table(f"{batches} batches of {BATCH} texts, {size / 1e6:.1f} MB of weights", columns)
    outputs, apart = dict[str, NDArray[Any]](), list[float]()
    for name, case in cases.items():
        told(name)
        found = processes(__file__, case.count, ["--case", json.dumps(vars(case))])
        outputs[name] = np.array(found[0]["outputs"])
        apart.append(float(np.abs(outputs[name] - outputs["one process, padded"]).max()))
        rate = next(each["rate"] for each in found if each["rate"])

        def each(key: str, form: str, all_of: list[Any] = found) -> str:
            return ", ".join(form.format(one[key]) for one in all_of)

        cells = [each("cpu_ms", "{:.1f}"), each("held", "{:.1f}"), each("peak", "{:.0f}"), each("sent", "{:.2f}")]
        table.row(name, f"{rate:.1f}", *cells)
    return table, apart


def _ladder(models: dict[str, str], batches: int, delays: list[float]) -> tuple[Table, list[float]]:
    """Two shares behind links of several delays."""
    columns = ("link, ms", "pre, ms a batch", "ladder, ms a batch", "faster by", "of the link hidden")
    table, apart = Table("2 shares, sums behind a link that is simulated by waiting", columns), list[float]()
    wirings = list(models)
    alone = {
        wiring: np.array(
            processes(__file__, 1, ["--case", json.dumps(vars(Case(models[wiring], batches=batches)))])[0]["outputs"]
        )
        for wiring in wirings
    }
    for delay in delays:
        took = dict[str, float]()
        for wiring in wirings:
            told(f"{wiring}, {delay:g} ms")
            case = Case(models[wiring], 1, 2, delay_ms=delay, batches=batches)
            found = processes(__file__, 2, ["--case", json.dumps(vars(case))])
            apart.append(float(np.abs(np.array(found[0]["outputs"]) - alone[wiring]).max()))
            took[wiring] = 1000 * BATCH / next(each["rate"] for each in found if each["rate"])
        link = delay * 2 * _depth(models["pre"])
        hidden = f"{max(0.0, took['pre'] - took['ladder']) / link:.0%}" if link else ""
        faster = f"{took['pre'] / took['ladder']:.2f}x"
        table.row(f"{delay:g}", f"{took['pre']:.0f}", f"{took['ladder']:.0f}", faster, hidden)
    return table, apart


def one(case: Case) -> dict[str, Any]:
    """What one process does and takes."""
    torch.set_num_threads(1)
    stored, texts, times = Stored.at(Path(case.model)), Texts(case.batches * BATCH), list[tuple[float, float]]()

    def progress(_: str, done: int, of: int) -> None:
        times.append((time.perf_counter(), time.process_time()))

    def summed(sums: Sums) -> Sums:
        return sums if sums.alone else Slow(sums.ranks, sums.group, delay_s=case.delay_ms / 1000)

    with joined() as team:
        places = Places(case.stages, case.shares)
        line = Line(places, BATCH, case.resident, packs=not case.padded, summed=summed)
        before = _peak()
        ran = line(team, stored, texts if team.leads else None, progress)
        peak, answers = _peak() - before, team.rank == places.answering
    wall, cpu = (times[-1][n] - times[WARM][n] for n in (0, 1))
    done = (case.batches - WARM) * BATCH
    return {
        "rate": done / wall if answers else None,
        "cpu_ms": 1000 * cpu / done,
        "held": ran.held / 1e6,
        "sent": ran.sent / 1e6,
        "peak": peak,
        "outputs": None if ran.outputs is None else ran.outputs.tolist(),
    }


def _model(width: int, depth: int, wiring: str, folder: Path) -> str:
    """The path of a network with random weights."""
    wired = next(one for one in WIRINGS if kind_of(one) == wiring).sample()
    heads = width // 64 * 2
    block = Block(mixer=Softmax(heads=heads, qk=32, v=32), ffn=Mlp(mlp=4 * width))
    given: dict[str, Any] = {
        "input": TextInput(vocabulary=VOCABULARY, length=LONGEST, tokens=LONGEST // 2),
        "stem": EmbedStem(),
        "stages": (Stage(embed=width, blocks=(block,) * depth, wiring=wired),),
        "norm": LayerNorm(),
        "last": LayerNorm(),
        "head": Classify(classes=CLASSES),
    }
    a = Architecture.model_validate(given)
    torch.manual_seed(0)
    network = build(a)
    network.reset()
    path = folder / f"{wiring}.safetensors"
    save(from_network(a, network), path)
    return str(path)


def _depth(model: str) -> int:
    return len(Stored.at(Path(model)).architecture.stages[0].blocks)


def _peak() -> float:
    """The most memory so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    raise SystemExit(main())

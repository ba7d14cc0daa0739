"""The parts of the unions, for `wb ops`: what each is, supports, counts and takes beside softmax attention."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from wb.core.errors import BadOption
from wb.core.layout import Layout, Supports
from wb.core.measures.readings import Reading, ratio, scaled
from wb.core.records import FFNS, JOINS, MERGES, MIXERS, NORMS, POSITIONS, STEMS, WIRINGS, Join, Operator, Part, kind_of
from wb.core.records.base import members, tiles
from wb.core.records.heads import Head
from wb.core.system.files import scratch
from wb.export.graph import export_module
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.jobs.calls.shown import Table
from wb.models.block import build_join, build_norm, build_operator
from wb.models.counting import join_macs, operator_macs
from wb.models.groups import settle
from wb.models.layers.operator import OperatorModule
from wb.models.layers.planes import laid

EMBED = 192
MOST = 64**2  # tokens: the square of them has to fit into memory
SIDES = (7, 14, 28)  # of pictures of 49, 196 and 784 tokens; 3136 takes long
# What the widths of a part are beside a stream of `EMBED`, by their names; others have their default.
WIDTHS: Mapping[str, int] = {
    "heads": 3,
    "qk": 64,
    "v": 64,
    "mlp": 768,
    "memory": 64,
    "hidden": 192,
    "inner": 384,
    "rank": 12,
    "word_mlp": 48,
    "tables": 48,
    "scan_inner": 192,
    "channels": 64,
}
BESIDE = "softmax attention"  # the title of what all others are measured beside
UNIONS: Mapping[str, tuple[type[Part], ...]] = {
    "mixer": MIXERS,
    "feed-forward": FFNS,
    "norm": NORMS,
    "join": JOINS,
    "wiring": WIRINGS,
    "position": POSITIONS,
    "stem": STEMS,
    "merge": MERGES,
    "head": members(Head),
}


class Listed(NamedTuple):
    """A part: its union, what it is called and from, what it supports, what it counts, and latencies by numbers of tokens.

    `unexported` says why no graph computes it; such a part has no latencies.

    Counts are of `sized` beside a stream of `EMBED` channels, multiply-accumulates those of 196 tokens; a part that computes
    nothing by itself has none.
    """

    role: str
    kind: str
    title: str
    source: str
    supports: Supports
    unexported: str | None = None
    params: Reading | None = None
    macs: Reading | None = None
    latency: Mapping[int, Reading] = {}

    def content(self) -> dict[str, object]:
        """For JSON."""
        latency = {str(tokens): reading.model_dump(mode="json") for tokens, reading in self.latency.items()}
        counted = {
            name: None if reading is None else reading.model_dump(mode="json")
            for name, reading in (("params", self.params), ("macs", self.macs))
        }
        said = {"union": self.role, "kind": self.kind, "title": self.title, "source": self.source}
        supports = {**self.supports._asdict(), "unexported": self.unexported}
        return {**said, "supports": supports, **counted, "latency": latency}

    @property
    def support(self) -> str:
        """What it supports, in words."""
        s = self.supports
        said = {
            "line": s.line,
            "picture": s.grid,
            "prefix": s.prefix,
            "padding": s.padded,
            "any length": s.dynamic,
            "causal": s.causal == "yes",
            "causal only": s.causal == "only",
            "tokens": "tokens" in s.planes,
            "maps": "map" in s.planes,
            "no graph": self.unexported is not None,
        }
        return ", ".join(word for word, yes in said.items() if yes)


def listed() -> Iterator[Listed]:
    """Every part of the unions, with what it counts."""
    for role, kinds in UNIONS.items():
        for kind in kinds:
            params, macs = _counted(kind)
            yield Listed(role, kind_of(kind), kind.title, kind.source, kind.supports, kind.unexported, params, macs)


class _Alone(nn.Module):
    """An operator between tokens (B, N, D), or between maps."""

    def __init__(self, operator: OperatorModule) -> None:
        super().__init__()
        self.operator = operator

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.operator(x)
        return y


def sides_of(tokens: str) -> list[int]:
    """The sides of square pictures of so many tokens: "49,196" -> [7, 14].

    Raises:
        BadOption: something else than numbers of tokens that are squares, from small to large.
    """
    numbers = [int(word) if word.strip().isdecimal() else 0 for word in tokens.split(",")]
    sides = [math.isqrt(number) for number in numbers]
    fine = all(0 < number <= MOST and side * side == number for side, number in zip(sides, numbers, strict=True))
    if not fine or sides != sorted({*sides}):
        raise BadOption(f"tokens={tokens!r}: expected squares up to {MOST} from small to large, as 49,196,784,3136")
    return sides


def measured(
    parts: Iterable[Listed],
    sides: Sequence[int],
    device: Device,
    *,
    cap_s: float,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Iterator[Listed]:
    """The same, mixers and feed-forwards with latencies for pictures of so many tokens a side.

    All of one number of tokens are timed together in shuffled rounds, for at most `cap_s` seconds each.

    Raises:
        BadArtefact, BadOption: as `measure_latency` does.
    """
    known = list(parts)
    kinds = {(role, kind_of(kind)): kind for role in ("mixer", "feed-forward") for kind in UNIONS[role]}
    records = {name: kind for name, kind in kinds.items() if kind.unexported is None}
    found: dict[tuple[str, str], dict[int, Reading]] = {}
    for side in sides:
        with scratch() as folder:
            graphs = {}
            for number, (name, kind) in enumerate(records.items()):
                graphs["/".join(name)] = path = folder / f"{number}.onnx"
                if progress is not None:
                    progress(f"{side * side} tokens: exporting {kind.title}")
                _export(kind, side, path)  # type: ignore[arg-type]
            say = None if progress is None else (lambda text, side=side: progress(f"{side * side} tokens: {text}"))
            timed = measure_latency(graphs, device, cap_s=cap_s * len(graphs), seed=seed, progress=say)
        for name in records:
            found.setdefault(name, {})[side * side] = timed["/".join(name)].reading
    for part in known:
        yield part._replace(latency=found.get((part.role, part.kind), {}))


def wins(found: Mapping[int, Reading], beside: Mapping[int, Reading]) -> str:
    """From how many tokens on a part is surely faster than what it is timed beside, in words; "at none" of those timed."""
    surely = {n: reading.value < beside[n].value and not reading.overlaps(beside[n]) for n, reading in found.items()}
    from_here = [n for n in surely if all(surely[later] for later in surely if later >= n)]
    return f"from {min(from_here)}" if from_here else "at none"


def tables(parts: Sequence[Listed]) -> list[Table]:
    """A table for every union; latencies are multiples of softmax attention's, which has milliseconds."""
    found = [Table(_heading(role), *_columns(parts, role, ("kind", "title"))) for role in UNIONS]
    return [*found[:-1], found[-1]._replace(lines=_lines(parts))]


def markdown(parts: Sequence[Listed]) -> str:
    """The page `docs/operators.md`: the same tables, with sources."""
    lines = [
        "# Operators",
        "",
        "`wb ops --measure --markdown` writes this page: every part that a network may have.",
        "",
    ]
    lines += _lines(parts)
    for role in UNIONS:
        columns, rows = _columns(parts, role, ("kind", "title"), ("source",))
        left = ("kind", "title", "supports", "source")
        marks = [":--" if column in left else "--:" for column in columns]
        lines += ["", f"## {_heading(role)}", "", *map(_row, (columns, marks, *rows))]
    return "\n".join([*lines, ""])


def sized(kind: type[Operator], layout: Layout) -> Operator:
    """A mixer or feed-forward with `WIDTHS`; squares that do not fit the picture are the largest that do."""
    fields = {name: WIDTHS[name] for name in kind.model_fields if name in WIDTHS}
    try:
        record = kind.model_validate(fields)
    except ValidationError:  # a width that is not of them
        record = kind.model_validate({**kind.example, **fields})
    sides = {name: getattr(record, name) for name in tiles(kind)}
    fitting = {name: next(n for n in range(side, 0, -1) if layout.tiled(n)) for name, side in sides.items()}
    return record.model_copy(update=fitting)


def _counted(kind: type[Part]) -> tuple[Reading | None, Reading | None]:
    if issubclass(kind, Operator):
        layout = _layout(kind, SIDES[1])
        record = sized(kind, layout)
        return _size(build_operator(record, EMBED, layout, "meta")), operator_macs(record, EMBED, layout)
    if kind in NORMS:
        return _size(build_norm(kind.sample(), EMBED, "meta")), None
    if kind in UNIONS["join"]:
        join = cast(Join, kind.sample())
        return _size(build_join(join, EMBED, "meta")), join_macs(join, EMBED, Layout((SIDES[1], SIDES[1])))
    return None, None


def _size(module: nn.Module) -> Reading:
    return Reading(value=sum(p.numel() for p in module.parameters()), unit="parameters", how="counted")


def _layout(kind: type[Part], side: int) -> Layout:
    return Layout((side, side), plane="tokens" if "tokens" in kind.supports.planes else "map")


def _export(kind: type[Operator], side: int, path: object) -> None:
    layout = _layout(kind, side)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = build_operator(sized(kind, layout), EMBED, layout)
        module.reset()
        x = laid(torch.randn(2, layout.tokens, EMBED), layout)
    settle(module)
    export_module(_Alone(module.requires_grad_(False)), {"x": x}, path, "y")  # type: ignore[arg-type]


def _heading(role: str) -> str:
    return f"{role}es" if role.endswith("x") else f"{role}s"


def _columns(
    parts: Sequence[Listed], role: str, first: Sequence[str], last: Sequence[str] = ()
) -> tuple[list[str], list[list[str]]]:
    """The columns of a union's table, those that say something, and its rows."""
    ones = [part for part in parts if part.role == role]
    beside = next(part for part in parts if part.title == BESIDE)
    numbers = sorted({tokens for part in ones for tokens in part.latency})

    def cells(part: Listed) -> Iterator[str]:
        yield from (getattr(part, name) for name in first)
        yield part.support
        for reading in (part.params, part.macs):
            yield "" if reading is None else scaled(reading.value, reading.unit)
        for tokens in numbers:
            reading = part.latency.get(tokens)
            told = reading if reading is None or part is beside else ratio(reading, beside.latency[tokens])
            yield "" if told is None else told.text()
        yield wins(part.latency, beside.latency) if part.latency and part is not beside else ""
        yield from (getattr(part, name) for name in last)

    columns = [
        *first,
        "supports",
        "parameters",
        "MACs",
        *(f"{tokens} tokens" for tokens in numbers),
        "surely faster",
        *last,
    ]
    rows = [list(cells(part)) for part in ones]
    kept = [i for i in range(len(columns)) if any(row[i] for row in rows)]
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _lines(parts: Sequence[Listed]) -> list[str]:
    widths = ", ".join(f"{name} {size}" for name, size in WIDTHS.items())
    lines = [
        f"Parameters and multiply-accumulates are counted, of a stream of {EMBED} channels and {SIDES[1] ** 2} tokens; widths: "
        f"{widths}, others their defaults. Softmax, pooling, scans and biases are no multiply-accumulates."
    ]
    devices = {reading.device for part in parts for reading in part.latency.values() if reading.device}
    if devices:
        lines.append(
            f"Latencies were measured on {', '.join(sorted(devices))}, one picture at a time, all of one number of tokens in one "
            f"run: milliseconds of {BESIDE}, multiples of it for the others, with 95 % intervals. One "
            "is surely faster from the number of tokens on from which its interval lies below that of softmax attention."
        )
    return lines


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"

"""The fast estimate of an architecture's latency: the sum of its blocks, each distinct one timed once per device.

A graph per block needs no weights in particular, so that one timing serves every network that has such a block.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.layout import Layout
from wb.core.measures.readings import Reading
from wb.core.records import Precision
from wb.core.specs import PAST
from wb.core.system.files import scratch
from wb.export.graph import export_module
from wb.export.lowering.lower import lower_file
from wb.export.timing.runs import LATENCY, TOKEN
from wb.export.timing.table import LatencyTable
from wb.hardware.runtimes.base import Way
from wb.hardware.runtimes.known import way_of
from wb.models.block import BlockModule, build_wiring
from wb.models.feeds import made_up
from wb.models.groups import carry, kept, kept_in_block, settle
from wb.models.heads.language import TABLE
from wb.models.layers.operator import Context
from wb.models.layers.planes import laid
from wb.models.network import build
from wb.models.walk import Wiring

TOGETHER = 8  # parts that are timed in one call
PART_CAP_S = 2.0  # for each; on a quiet machine it takes a quarter of that


@dataclass(frozen=True)
class Part:
    """A piece of a network that is timed on its own: its key, and how to make it.

    `make` gives the module, example inputs by name, and what its weights are kept in (`wb.models.groups.kept`).
    """

    key: str
    make: Callable[[], tuple[nn.Module, Mapping[str, torch.Tensor], Mapping[str, Precision]]]


class _Alone(nn.Module):
    """A block between tokens (B, N, D), or between maps, with the wiring of its stage; it computes every image `views` times."""

    def __init__(self, block: BlockModule, wiring: Wiring, views: int) -> None:
        super().__init__()
        self.block, self.wiring, self.views = block, wiring, views

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.views > 1:
            x = torch.cat([x] * self.views, dim=0)
        return self.wiring.end(self.block(self.wiring, self.wiring.begin(x, 0)))


class _Further(nn.Module):
    """A block that is given one more token (B, 1, D), and what it keeps of the `before` tokens before."""

    def __init__(self, block: BlockModule, wiring: Wiring, before: int) -> None:
        super().__init__()
        self.block, self.wiring = block, wiring
        visible = torch.ones(1, 1, 1, before + 1, dtype=torch.bool)
        self.context = Context(visible=visible, places=torch.full((1, 1), before))

    def forward(self, x: torch.Tensor, *past: torch.Tensor) -> tuple[torch.Tensor, ...]:
        state = self.wiring.begin(x, 0)._replace(context=self.context)
        left, kept = list(past), list[torch.Tensor]()
        for at in self.block.sublayers(self.wiring):
            own, left = left[: len(at.operator.recalls)], left[len(at.operator.recalls) :]
            given, now = at.operator.continued(at.read(state), own, self.context)
            state = at.add(state, at.joined(given, state))
            kept += now
        return self.wiring.end(state), *kept


def parts(architecture: Architecture, run: str = LATENCY) -> Iterator[Part]:
    """The network without its blocks (stem, merging, head), then every block that is not switched off.

    In a `run` that gives one more token of a text (`wb.export.timing.runs.TOKEN`) each is given one, behind the others.
    """
    further = run == TOKEN
    architecture = architecture.usual
    bare = tuple(stage.model_copy(update={"blocks": ()}) for stage in architecture.stages)
    # Labels do not influence the graph, and the mean and deviation of the data only its constants.
    ends = architecture.with_labels(()).model_copy(update={"stages": bare})
    neutral = {name: (float(name == "std"),) * len(values) for name, values in ends.input.moments.items()}
    ends = ends.model_copy(update={"input": ends.input.model_copy(update=neutral)})
    yield Part(f"{'further/' if further else ''}ends/{ends.key}", lambda: _ends(ends, 1 if further else None))
    layouts = list(architecture.layouts())
    for name, whole, block in architecture.blocks():
        if block.off:
            continue
        i, j = map(int, name.removeprefix("s").split(".b"))
        stage, layout = whole.alone(j), layouts[i]
        norm = block.norm or architecture.norm
        records = [part.model_dump(mode="json") for part in (_timed(block), norm, stage.wiring)]
        views = () if (count := architecture.input.views) == 1 else (count,)
        key = json.dumps([*records, stage.embed, layout, *views], sort_keys=True)

        def make(block=block, stage=stage, layout=layout):  # type: ignore[no-untyped-def]
            module = BlockModule(block, (0, 0), stage.embed, layout, architecture.norm)
            _fill(module)
            kept_in = {f"block.{weight}": precision for weight, precision in kept_in_block(module).items()}
            if further:
                return _one_more(module, stage, layout, kept_in)
            example = {"x": laid(torch.rand(2, layout.tokens, stage.embed), layout)}
            return _Alone(module, _wiring(stage), architecture.input.views), example, kept_in

        yield Part(f"{'further/' if further else ''}block/{key}", make)


def estimate(architecture: Architecture, table: LatencyTable) -> Reading:
    """The latency of `architecture` as the sum of its parts, marked as predicted; times the parts not yet in the table.

    Limits: what the runtime fuses across the border of two parts is not seen; `wb search` reports the error against whole
    graphs.
    """
    pieces = list(parts(architecture))
    time_parts(pieces, table)
    return table.estimate([part.key for part in pieces])


def time_parts(wanted: Sequence[Part], table: LatencyTable, progress: Callable[[int, int], None] | None = None) -> None:
    """Times those of `wanted` that are not in the table yet; a few together, so that an interruption loses little.

    `progress` gets how many of those are timed, and of how many.
    """
    known = table.lookup([part.key for part in wanted])
    missing = list({part.key: part for part in wanted if known.get(part.key) is None}.values())
    for start in range(0, len(missing), TOGETHER):
        if progress is not None:
            progress(start, len(missing))
        with scratch() as folder:
            graphs = {}
            for i, part in enumerate(missing[start : start + TOGETHER]):
                graphs[part.key] = folder / f"{i}.onnx"
                _export_part(part, graphs[part.key], way_of(table.device.name, "int8"))
            table.time(graphs, cap_s=PART_CAP_S * len(graphs))


def _export_part(part: Part, path: Path, way: Way) -> None:
    module, examples, precisions = part.make()
    settle(module)
    if isinstance(module, _Alone | _Further):
        carry(module.block.sublayers(module.wiring))
    export_module(module, examples, path, "y")
    if "int8" in precisions.values() and way == "static":
        raise Unsupported(
            "blocks in int8 have no ranges of activations here, which this runtime needs to be fast; leave out --latency table"
        )
    if set(precisions.values()) - {"fp32"}:
        lower_file(path, module, precisions)


def _timed(block: Block) -> Block:
    """`block` without what its time does not depend on: numbers that weights could take over, a softmax's scale for example."""
    join = None if block.join is None else block.join.structure()
    return block.model_copy(update={"join": join, **{role: part.structure() for role, part in block.parts()}})


def _one_more(
    block: BlockModule, stage: Stage, layout: Layout, kept_in: Mapping[str, Precision]
) -> tuple[nn.Module, Mapping[str, torch.Tensor], Mapping[str, Precision]]:
    """A block that is given the last token of a line, with what it keeps of those before."""
    before, wiring = layout.tokens - 1, _wiring(stage)
    examples = {"x": torch.rand(2, 1, stage.embed)}
    for at in block.sublayers(wiring):
        for name, shape in at.operator.recalls.items():
            sizes = (before if size == PAST else int(size) for size in shape)
            examples[f"{at.kind}.{name}"] = torch.rand(2, *sizes)
    return _Further(block, wiring, before), examples, kept_in


def _ends(
    architecture: Architecture, tokens: int | None
) -> tuple[nn.Module, Mapping[str, torch.Tensor], Mapping[str, Precision]]:
    """The network without blocks, for so many tokens, or all; a table that the head shares with the stem is timed in fp32."""
    network = build(architecture)
    _fill(network)
    precisions = {name: precision for name, precision in kept(network).items() if name != TABLE}
    return network, made_up(architecture.input.specs(), 2, tokens=tokens or architecture.layout.shape[0]), precisions


def _wiring(stage: Stage) -> Wiring:
    wiring = build_wiring(stage)
    _fill(wiring)
    return wiring


def _fill(module: nn.Module) -> None:
    """Small numbers everywhere, and variances of one: denormal or infinite activations would take another time."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, weight in module.named_parameters():
            weight.uniform_(-0.1, 0.1)
            if name.endswith("variance"):
                weight.fill_(1.0)

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

from wb.core.architecture import Architecture, Block
from wb.core.errors import Unsupported
from wb.core.measures.readings import Reading
from wb.core.records import Precision
from wb.core.system.files import scratch
from wb.export.graph import export_module
from wb.export.lowering.lower import lower_file
from wb.export.timing.table import LatencyTable
from wb.hardware.runtimes.base import Way
from wb.hardware.runtimes.known import way_of
from wb.models.block import BlockModule, build_wiring
from wb.models.feeds import made_up
from wb.models.groups import carry, kept, kept_in_block, settle
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


def parts(architecture: Architecture) -> Iterator[Part]:
    """The network without its blocks (stem, merging, head), then every block that is not switched off."""
    architecture = architecture.usual
    bare = tuple(stage.model_copy(update={"blocks": ()}) for stage in architecture.stages)
    # Labels do not influence the graph, and the mean and deviation of the data only its constants.
    ends = architecture.with_labels(()).model_copy(update={"stages": bare})
    neutral = {name: (float(name == "std"),) * len(values) for name, values in ends.input.moments.items()}
    ends = ends.model_copy(update={"input": ends.input.model_copy(update=neutral)})
    yield Part(f"ends/{ends.key}", lambda: _ends(ends))
    layouts = list(architecture.layouts())
    for name, stage, block in architecture.blocks():
        if block.off:
            continue
        layout = layouts[int(name[1 : name.index(".")])]
        norm = block.norm or architecture.norm
        records = [part.model_dump(mode="json") for part in (_timed(block), norm, stage.wiring)]
        views = () if (count := architecture.input.views) == 1 else (count,)
        key = json.dumps([*records, stage.embed, layout, *views], sort_keys=True)

        def make(block=block, stage=stage, layout=layout):  # type: ignore[no-untyped-def]
            module = BlockModule(block, (0, 0), stage.embed, layout, architecture.norm)
            _fill(module)
            kept_in = {f"block.{weight}": precision for weight, precision in kept_in_block(module).items()}
            example = {"x": laid(torch.rand(2, layout.tokens, stage.embed), layout)}
            return _Alone(module, build_wiring(stage), architecture.input.views), example, kept_in

        yield Part(f"block/{key}", make)


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
    if isinstance(module, _Alone):
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


def _ends(architecture: Architecture) -> tuple[nn.Module, Mapping[str, torch.Tensor], Mapping[str, Precision]]:
    network = build(architecture)
    _fill(network)
    return network, made_up(architecture.input.specs(), 2, tokens=architecture.layout.shape[0]), kept(network)


def _fill(module: nn.Module) -> None:
    """Small numbers everywhere, and variances of one: denormal or infinite activations would take another time."""
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, weight in module.named_parameters():
            weight.uniform_(-0.1, 0.1)
            if name.endswith("variance"):
                weight.fill_(1.0)

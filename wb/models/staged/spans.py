"""Which blocks each stage of a line of processes has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.models.network import Network, skeleton

Place = tuple[int, int]  # the stage and the number of a block


@dataclass(frozen=True)
class Span:
    """The blocks of one stage of the line, in order; the first one also has what stands in front of them, the last what ends."""

    blocks: tuple[Place, ...]
    first: bool = True
    last: bool = True

    @property
    def text(self) -> str:
        """The blocks in words."""
        names = [f"s{stage}.b{block}" for stage, block in self.blocks]
        return names[0] if len(names) == 1 else f"{names[0]} to {names[-1]}"

    def owns(self, network: Network, name: str) -> bool:
        """Whether a parameter is of this part of the network."""
        kind, _, rest = name.partition(".")
        if kind == "stages":
            stage, block = rest.split(".")[:2]
            return (int(stage), int(block)) in self.blocks
        if kind == "wirings":
            return True
        if kind == "merges":
            return self._entered(network, int(rest.split(".")[0]) + 1)
        if kind == "norm" or name in network.answer.axes:
            return self.last
        return self.first or (self.last and name in network.answer.maps)  # a tied head reads the stem's table

    def _entered(self, network: Network, stage: int) -> bool:
        """Whether the blocks of this part are the first ones behind the merge that a stage of the network begins with."""
        found = [place for place in places(network.architecture) if place[0] >= stage]
        return found[0] in self.blocks if found else self.last


def places(architecture: Architecture) -> list[Place]:
    """The blocks that are not switched off, in order."""
    return [
        (i, j) for i, stage in enumerate(architecture.stages) for j, block in enumerate(stage.blocks) if not block.off
    ]


def spans(architecture: Architecture, count: int) -> list[Span]:
    """The blocks in so many stages, such that the one with the most weights has as few as possible.

    Raises:
        BadOption: there are more stages than blocks, or none of them.
    """
    found = places(architecture)
    if count < 1 or (count > 1 and len(found) < count):
        raise BadOption(
            f"{count} stages cannot share {len(found)} blocks; choose from 1 to {len(found)} stages"
            if len(found) > 1
            else f"{count} stages cannot share {len(found) or 'no'} block; a network like this is one stage"
        )
    if not found:
        return [Span(())]
    network = skeleton(architecture)
    costs = [sum(weight.numel() for weight in _module(network, place).parameters()) for place in found]
    costs[-1] += sum(network.get_parameter(name).numel() for name in network.answer.maps)
    parts, begun = list[Span](), 0
    for number, size in enumerate(_sizes(costs, count)):
        parts.append(Span(tuple(found[begun : begun + size]), number == 0, number == count - 1))
        begun += size
    return parts


def _module(network: Network, place: Place) -> Network:
    module: Network = network.get_submodule(f"stages.{place[0]}.{place[1]}")  # type: ignore[assignment]
    return module


def _sizes(costs: Sequence[int], count: int) -> list[int]:
    """How many of the costs, in order, are in each of `count` parts, so that the largest sum is as small as can be."""
    total = len(costs)
    sums = [0]
    for cost in costs:
        sums.append(sums[-1] + cost)
    best = {(0, 0): (0, 0)}  # parts, costs in them -> largest sum, and costs in the last part
    for parts in range(1, count + 1):
        for end in range(parts, total - (count - parts) + 1):
            options = (
                (max(best[parts - 1, begin][0], sums[end] - sums[begin]), end - begin)
                for begin in range(parts - 1, end)
                if (parts - 1, begin) in best
            )
            best[parts, end] = min(options)
    sizes, end = list[int](), total
    for parts in range(count, 0, -1):
        sizes.insert(0, best[parts, end][1])
        end -= sizes[0]
    return sizes

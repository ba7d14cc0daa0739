"""What a block of space hybrid costs as a graph, beside what the same block of plain convolutions and products costs.

    python benchmarks/blocks.py [--sizes 16x96 …] [--threads 1] [--markdown]

Four blocks behind a 1x1 convolution, without the time of that. The unit is a residual 3x3 convolution of 64 channels on 16x16.
Beside each block stands the same one written by hand in plain torch as its paper draws it: batch norms folded, no walk, no
records. Both and the unit are timed interleaved in one run. Target: at most 10 % slower than that.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from blocks_plain import (
    Plain,
    attention,
    bottleneck,
    convnext,
    dense,
    fused,
    perceptron,
    pooling,
    repvit,
    windowed,
)
from tables import Output, Table, begin, parser_of, told
from torch import nn

from wb.core.architecture import Architecture, Block, Stage
from wb.core.records import Classify, ImageInput, Mlp, Nowhere, PatchStem, Pool, Softmax
from wb.core.records.attention import MaskUnit
from wb.core.records.ffns import Basic, Fused, Inverted, Squeeze
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm, LayerNorm
from wb.export.graph import export_module
from wb.export.timing.measure import measure_latency
from wb.hardware.device import parse_device
from wb.models.groups import settle
from wb.models.network import build

SIZES = ("8x192", "16x96", "32x64", "56x32")  # side of the picture, channels
BLOCKS = 4
HEAD = 32  # channels of a head
TARGET = 1.10
CAP_S = 4.0  # of timing, for each graph


class Case(NamedTuple):
    """A block of ours for so many channels, the same in plain torch, and the smallest and largest side that it is for."""

    name: str
    ours: Callable[[int], Block]
    plain: Callable[[int], nn.Module]
    sides: tuple[int, int] = (1, 64)


def softmax(embed: int) -> dict[str, int]:
    return {"heads": embed // HEAD, "qk": HEAD, "v": HEAD}


CASES = (
    Case("conv 3x3 twice", lambda c: Block(ffn=Basic(mlp=c)), dense),
    Case("MBConv e2 k3", lambda c: Block(ffn=Inverted(mlp=2 * c, kernel=3)), lambda c: bottleneck(c, 2, 3)),
    Case("MBConv e4 k3", lambda c: Block(ffn=Inverted(mlp=4 * c, kernel=3)), lambda c: bottleneck(c, 4, 3)),
    Case("MBConv e4 k5", lambda c: Block(ffn=Inverted(mlp=4 * c, kernel=5)), lambda c: bottleneck(c, 4, 5)),
    Case(
        "MBConv e4 k3 SE",
        lambda c: Block(ffn=Inverted(mlp=4 * c, kernel=3, se=Squeeze(width=c))),
        lambda c: bottleneck(c, 4, 3, squeeze=c),
    ),
    Case("fused e2", lambda c: Block(ffn=Fused(mlp=2 * c)), lambda c: fused(c, 2)),
    Case("RepViT", lambda c: Block(mixer=Depthwise(kernel=3), ffn=Inverted(mlp=2 * c)), lambda c: repvit(c, 2, 3)),
    Case("RepViT k7", lambda c: Block(mixer=Depthwise(kernel=7), ffn=Inverted(mlp=2 * c)), lambda c: repvit(c, 2, 7)),
    Case("ConvNeXt, ReLU", lambda c: Block(mixer=Depthwise(kernel=7), ffn=Inverted(mlp=4 * c)), convnext),
    Case("PoolFormer, ReLU", lambda c: Block(mixer=Pool(), ffn=Inverted(mlp=4 * c)), pooling),
    Case("MLP e4 of tokens", lambda c: Block(ffn=Mlp(mlp=4 * c)), perceptron),
    Case("attention", lambda c: Block(mixer=Softmax(**softmax(c))), lambda c: attention(c, HEAD), (1, 16)),
    Case(
        "mask unit 8", lambda c: Block(mixer=MaskUnit(**softmax(c), side=8)), lambda c: windowed(c, HEAD, 8), (16, 64)
    ),
)


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", type=int, default=1)
    return parser


def network(block: Block, side: int, embed: int, blocks: int) -> Architecture:
    """So many blocks behind a 1x1 convolution of an RGB picture, in the plane that they compute in."""
    maps = all("map" in part.supports.planes for _, part in block.parts())
    norm = BatchNorm() if maps else LayerNorm()
    own = block.model_copy(update={"norm": norm})
    stage = Stage(embed=embed, blocks=(own,) * blocks, plane="map" if maps else "tokens")
    image = ImageInput(channels=3, height=side, width=side, mean=(0.5,) * 3, std=(0.25,) * 3)
    ends = {"head": Classify(classes=2), "position": Nowhere(), "norm": LayerNorm(), "last": norm}
    return Architecture.model_validate({"input": image, "stem": PatchStem(patch=1), "stages": (stage,), **ends})


def ours(block: Block, side: int, embed: int, blocks: int) -> nn.Module:
    made = build(network(block, side, embed, blocks))
    filled(made)
    settle(made)  # as an export does
    return made


def plain(make: Callable[[int], nn.Module], embed: int, blocks: int, *, tokens: bool = False) -> nn.Module:
    made = Plain([make(embed) for _ in range(blocks)], embed, tokens=tokens)
    filled(made)
    return made


def filled(module: nn.Module) -> None:
    """Small weights and variances of one: denormal or infinite activations would take another time."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.fill_(1.0) if name.endswith("variance") else weight.uniform_(-0.05, 0.05)


def milliseconds(modules: Mapping[str, tuple[nn.Module, int]], threads: int) -> dict[str, float]:
    """Name -> ms of each module's graph, timed together; each comes with the side of its picture."""
    with TemporaryDirectory() as folder:
        paths = {}
        for i, (name, (module, side)) in enumerate(modules.items()):
            paths[name] = Path(folder) / f"{i}.onnx"
            export_module(module, {"x": torch.rand(2, 3, side, side)}, paths[name], "y")
        timed = measure_latency(paths, parse_device("cpu", threads), precision=0.02, cap_s=CAP_S * len(paths))
    return {name: latency.reading.value for name, latency in timed.items()}


def measured(case: Case, side: int, embed: int, threads: int) -> tuple[float, float, float]:
    """Milliseconds of one block of ours, of one in plain torch, and of the unit."""
    block = case.ours(embed)
    tokens = network(block, side, embed, 1).stages[0].plane == "tokens"
    found = milliseconds(
        {
            "ours": (ours(block, side, embed, BLOCKS), side),
            "our ends": (ours(block, side, embed, 0), side),
            "plain": (plain(case.plain, embed, BLOCKS, tokens=tokens), side),
            "plain ends": (plain(case.plain, embed, 0, tokens=tokens), side),
            "units": (plain(lambda c: dense(c, times=1), 64, BLOCKS), 16),
            "unit ends": (plain(lambda c: dense(c, times=1), 64, 0), 16),
        },
        threads,
    )
    return (
        (found["ours"] - found["our ends"]) / BLOCKS,
        (found["plain"] - found["plain ends"]) / BLOCKS,
        (found["units"] - found["unit ends"]) / BLOCKS,
    )


def main() -> None:
    options, out = begin(arguments())
    table = Table(
        f"one block in units of a residual 3x3 convolution (64 channels, 16x16); target: at most {TARGET:g} of plain torch",
        ("block", *(f"{size}: ours / plain = ratio" for size in options.sizes)),
    )
    ratios: dict[str, float] = {}
    for case in CASES:
        cells = []
        for size in options.sizes:
            side, embed = map(int, size.split("x"))
            if not case.sides[0] <= side <= case.sides[1]:
                cells.append("")
                continue
            told(f"{case.name}, {size}")
            own, other, unit = measured(case, side, embed, options.threads)
            ratios[f"{case.name} {size}"] = own / other
            cells.append(f"{own / unit:.2f} / {other / unit:.2f} = {own / other:.2f}")
        table.row(case.name, *cells)
    out.table(table)
    verdict(out, ratios)


def verdict(out: Output, ratios: Mapping[str, float]) -> None:
    slower = [f"{name} ({ratio:.2f})" for name, ratio in ratios.items() if ratio > TARGET]
    out.say(
        f"{len(ratios) - len(slower)} of {len(ratios)} blocks are at most {TARGET - 1:.0%} slower than in plain torch"
        + (f"; slower: {', '.join(slower)}" if slower else "")
    )


if __name__ == "__main__":
    main()

"""Does measured latency match the latency that pruning predicts? A ViT-Tiny at 224x224, cut to shares of its latency.

Weights are random, and so are the cuts. No budget is corrected by measurements of whole networks here, except that the sum
over parts is scaled to the dense network's latency once. For `refined` the parts of the cut network are timed as well. The
target is an error under 10 %.

    python benchmarks/pruning_predicted.py
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from pruning_scale import random_data, random_model
from tables import Table, begin, parser_of, told

from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.nvit.settings import Settings
from wb.core.architecture import Architecture
from wb.export.graph import export
from wb.export.timing.measure import measure_latency
from wb.export.timing.table import LatencyTable
from wb.hardware.device import Device
from wb.models.model import Model


def timed(models: dict[str, Model]) -> dict[str, float]:
    """Milliseconds, all timed together."""
    with tempfile.TemporaryDirectory(prefix="wb-") as folder:
        paths = {name: Path(folder) / f"{i}.onnx" for i, name in enumerate(models)}
        for name, model in models.items():
            export(model, paths[name])
        found = measure_latency(dict(paths), Device())
    return {name: latency.reading.value for name, latency in found.items()}


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--preset", default="deit-tiny")
    parser.add_argument("--targets", default="0.75,0.5,0.35,0.25")
    parser.add_argument("--method", default="nvit")
    parser.add_argument("--align", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder of the latency table [default: the user's]")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    model = random_model(options.preset)
    start = time.perf_counter()
    costs = costs_of(["latency"], model.architecture, LatencyTable(Device(), options.cache))
    told(f"parts timed in {time.perf_counter() - start:.0f} s, those in the table already aside")
    cost = costs["latency"]
    dense = timed({"dense": model})["dense"]
    out.say(f"dense: sum over parts ~{cost(model.architecture):.3f} ms, measured {dense:.3f} ms")
    cost.factor = dense / cost(model.architecture)
    settings = Settings(method=options.method, align=options.align, calibration=16, batch=8)
    cuts: dict[str, Model] = {}
    predictions: dict[str, float] = {}
    pruner = NViT(random_data(16), {}, costs, settings)
    scored = pruner.scored(Pruned(model))
    for target in map(float, options.targets.split(",")):
        name = f"{target:g}x"
        cuts[name] = pruner.cut(scored, {"latency": target * dense}).model
        predictions[name] = cost(cuts[name].architecture)
    found = timed({"dense": model, **cuts})
    title = f"{options.preset} at 224x224, cut by {options.method}, aligned to {options.align}: latency / dense"
    table = Table(title, ("target", "predicted", "measured", "error", "refined", "error refined"))
    for name, cut in cuts.items():
        measured = found[name] / found["dense"]
        predicted = predictions[name] / dense
        told(
            name,
            [m and f"{m.heads}x{m.qk}/{m.v}" for _, _, b in cut.architecture.blocks() for m in [b.mixer]],
            [b.ffn and b.ffn.mlp for _, _, b in cut.architecture.blocks()],
        )
        refined = _refined(costs, model.architecture, cut.architecture)
        table.row(
            name,
            f"{predicted:.3f}",
            f"{measured:.3f}",
            f"{100 * (predicted / measured - 1):+.1f} %",
            f"{refined:.3f}",
            f"{100 * (refined / measured - 1):+.1f} %",
        )
    out.table(table)


def _refined(costs, dense: Architecture, cut: Architecture) -> float:  # type: ignore[no-untyped-def]
    costs["latency"].refine(cut)
    return float(costs["latency"](cut) / costs["latency"](dense))


if __name__ == "__main__":
    main()

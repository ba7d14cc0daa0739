"""What progressive re-parameterized batch norms (PRepBN) gain: one vision transformer, trained with each kind of norm.

    python benchmarks/norms.py [--data idx:PATH/fashion-mnist --limit 1500 --epochs 10]

The same small transformer is trained from scratch by the same recipe and seeds with layer norms; with batch norms; with
re-parameterized batch norms (RepBN) from the first step on; and with RepBN for which layer norms give way in the first
`--progressive` of the steps (PRepBN). What can be folded is folded into the maps behind it, as `wb fold norms` does; test
accuracies are of what is delivered so. All exported graphs, folded and not, are timed in one interleaved run. A training has
failed if its loss was not finite, or if it is right no more than twice as often as chance. The target: PRepBN is no less
accurate than batch norms and than RepBN from the first step on, at most a point behind layer norms, and surely faster than these.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, stdev
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from pruning_models import dense
from tables import Output, Table, begin, parser_of, told

from wb.compress.convert.norms import converted
from wb.core.architecture import Architecture
from wb.core.records.norms import BatchNorm, Norm, RepNorm
from wb.data import Dataset, load
from wb.export.graph import export
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device
from wb.models.counting import count_parameters
from wb.models.model import Model
from wb.models.passes.fold import FoldNorms
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe, TrainingDiverged
from wb.training.train import score

LAYER, BATCH, REP, PROGRESSIVE = "layer norm", "batch norm", "RepBN", "PRepBN"
NAMES = (LAYER, BATCH, REP, PROGRESSIVE)
POINTS = 1.0  # behind layer norms at most
CHANCE = 2.0  # times as often right as chance: no more than that is a failure


class Trained(NamedTuple):
    """What became of one training: the model as trained and as delivered, and how often it is right on the test split.

    `failed` says what happened where it is of no use.
    """

    model: Model | None
    delivered: Model | None
    accuracy: float | None
    failed: str | None


def arguments() -> argparse.ArgumentParser:
    """The options."""
    parser = parser_of(__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, help="training images at most")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--depth", type=int, default=4, help="blocks of the transformer")
    parser.add_argument(
        "--progressive", type=float, default=0.7, help="share of the steps in which layer norms give way"
    )
    parser.add_argument("--seconds", type=float, default=8, help="of timing for each graph")
    parser.add_argument("--cache", type=Path, help="a folder that keeps trained models, to go on after an interruption")
    return parser


def architectures(data: Dataset, depth: int) -> dict[str, Architecture]:
    """One transformer of 16 tokens with each kind of norm."""
    patch = str(min(data.height, data.width) // 4)
    sizes = {"depth": str(depth), "heads": "4", "qk": "12", "v": "12", "embed": "48", "mlp": "4", "patch": patch}
    layer = vit_space(data, "plain", {**sizes, "mixer": "softmax", "pool": "mean"}).largest("softmax")
    rep = converted(layer)

    def plain(norm: Norm | None) -> Norm | None:
        return BatchNorm(eps=norm.eps) if isinstance(norm, RepNorm) else norm

    batch = rep.with_blocks(lambda _, block: block.model_copy(update={"norm": plain(block.norm)}))
    batch = batch.model_copy(update={"norm": plain(rep.norm), "last": plain(rep.last)})
    return {LAYER: layer, BATCH: batch, REP: rep, PROGRESSIVE: rep}


def trained(name: str, architecture: Architecture, data: Dataset, recipe: Recipe, seed: int, folder: Path) -> Trained:
    """One training, folded where there is something to fold, and scored; `folder` keeps it."""
    began = time.process_time()
    folder = folder / f"{name.replace(' ', '-')}-{recipe.learning_rate:g}-{recipe.batch}-{recipe.layered:g}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        model = dense(data, architecture, recipe, seed, folder)
    except TrainingDiverged as error:
        told(f"{name}, seed {seed}: {error}")
        return Trained(None, None, None, "loss not finite")
    delivered = model if name == LAYER else FoldNorms()(model)
    accuracy = score(delivered.network(), data.test, CLASSES, torch.device("cpu")).value
    told(
        f"{name}, seed {seed}: {100 * accuracy:.2f} % of the test split, {time.process_time() - began:.0f} s of the processor"
    )
    failed = "no better than chance" if accuracy <= CHANCE / len(data.classes) else None
    return Trained(model, delivered, accuracy, failed)


def timed(found: dict[str, list[Trained]], seconds: float, folder: Path) -> dict[str, Latency]:
    """The latency of one model of each kind as trained, by its name, and as folded, by its name and ", folded"."""
    graphs: dict[str, Path | bytes] = {}
    for name, runs in found.items():
        one = next((run for run in runs if run.model is not None), None)
        if one is None or one.model is None or one.delivered is None:
            continue
        for end, model in (("", one.model), (", folded", one.delivered)):
            if end and one.delivered is one.model:
                continue
            path = folder / f"{len(graphs)}.onnx"
            told(f"{name}{end}: graph and network differ by {export(model, path).value:.1g} at most")
            graphs[name + end] = path
    return measure_latency(graphs, Device(), precision=0.02, cap_s=seconds * len(graphs)) if graphs else {}


def spread(values: list[float], *, signed: bool = False) -> str:
    """`97.12 ± 0.30`: mean and standard deviation, in points."""
    if not values:
        return "-"
    shown = f"{100 * fmean(values):{'+' if signed else ''}.2f}"
    return f"{shown} ± {100 * stdev(values):.2f}" if len(values) > 1 else shown


def paired(found: dict[str, list[Trained]], name: str, other: str) -> list[float]:
    """By how much `name` is more often right than `other`, for each seed with which both were scored."""
    pairs = zip(found[name], found[other], strict=True)
    return [a.accuracy - b.accuracy for a, b in pairs if a.accuracy is not None and b.accuracy is not None]


def within_noise(differences: list[float]) -> bool:
    """Whether the mean of several is less than two of its standard errors."""
    return abs(fmean(differences)) < 2 * stdev(differences) / len(differences) ** 0.5


def table_of(title: str, found: dict[str, list[Trained]], latencies: dict[str, Latency]) -> Table:
    """The table: a row for each kind of norm."""
    columns = (
        "norms",
        "test accuracy, %",
        "to layer norm, points",
        "failed",
        "as trained",
        "folded",
        "of layer norm's time",
    )
    table = Table(title, columns, left=("failed",))
    for name, runs in found.items():
        accuracies = [run.accuracy for run in runs if run.accuracy is not None]
        failed = "; ".join(f"seed {seed}: {run.failed}" for seed, run in enumerate(runs) if run.failed) or "none"
        beside = "" if name == LAYER else spread(paired(found, name, LAYER), signed=True)
        own = latencies.get(name)
        folded = latencies.get(f"{name}, folded")
        best = folded or own
        share = f"{best.ratio.value / latencies[LAYER].ratio.value:.3f}x" if best and LAYER in latencies else "-"
        shown = [one.reading.text() if one else "-" for one in (own, folded)]
        table.row(name, spread(accuracies), beside, failed, *shown, share)
    return table


def verdict(found: dict[str, list[Trained]], latencies: dict[str, Latency], output: Output) -> bool:
    """Says what PRepBN gains on each of the others; whether the target is reached."""
    if any(run.failed for run in found[PROGRESSIVE]):
        output.say("A training of PRepBN failed: not reached.")
        return False
    reached = True
    for other, least in ((BATCH, 0.0), (REP, 0.0), (LAYER, -POINTS / 100)):
        gains = paired(found, PROGRESSIVE, other)
        met = not gains or fmean(gains) >= least
        reached &= met
        each = ", ".join(f"{100 * gain:+.2f}" for gain in gains) or "none was trained"
        noise = " (less than two standard errors: noise)" if len(gains) > 1 and within_noise(gains) else ""
        output.say(
            f"PRepBN beside {other}, measured: {spread(gains, signed=True)} points{noise}, seed by seed {each}; at least "
            f"{100 * least:g} wanted: {'reached' if met else 'not reached'}"
        )
    own, layer = latencies.get(f"{PROGRESSIVE}, folded"), latencies.get(LAYER)
    if own is None or layer is None:
        output.say("Nothing to time beside layer norms.")
        return False
    surely = own.ratio.value < layer.ratio.value and not own.ratio.overlaps(layer.ratio)
    output.say(
        f"PRepBN, folded, takes {own.ratio.value / layer.ratio.value:.3f} of the latency with layer norms, measured: "
        f"{'surely faster' if surely else 'not surely faster'}"
    )
    return reached and surely


def main() -> int:
    """Runs the benchmark; 3 where the target is missed."""
    options, output = begin(arguments())
    torch.set_num_threads(1)
    data = load(options.data, limit=options.limit)
    kinds = architectures(data, options.depth)
    plain = Recipe(epochs=options.epochs, learning_rate=options.learning_rate, batch=options.batch)
    found: dict[str, list[Trained]] = {name: [] for name in NAMES}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(options.seeds):
            for name in NAMES:
                recipe = plain.model_copy(update={"layered": options.progressive}) if name == PROGRESSIVE else plain
                cache = options.cache or Path(scratch)
                found[name].append(trained(name, kinds[name], data, recipe, seed, cache))
        latencies = timed(found, options.seconds, Path(scratch))
    layer = kinds[LAYER]
    title = (
        f"{Path(data.spec).name}: {len(data.train)} training images, {len(data.test)} to test, {layer.layout.tokens} tokens, "
        f"{options.depth} blocks, {count_parameters(layer).text()} parameters, {options.epochs} epochs, {options.seeds} seeds"
    )
    output.table(table_of(title, found, latencies))
    output.say(
        f"Accuracies, measured, are means and standard deviations over seeds. {time.process_time() - began:.0f} s of the "
        f"processor{' beside what the cache had' if options.cache else ''}."
    )
    return 0 if verdict(found, latencies, output) else 3


if __name__ == "__main__":
    sys.exit(main())

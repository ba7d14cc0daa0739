"""The latency suite of `benchmarks/pruning.py`: half the measured latency, ours and torch-pruning's, timed together."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, pstdev

import torch
from pruning_models import FASHION_RECIPE, dense, fashion_architecture
from tables import Output, Table, told
from torch_pruning_gradients import calibration
from torch_pruning_methods import METHODS, prune
from torch_pruning_vit import PlainViT, count_macs, to_plain
from torch_pruning_vit import export as export_plain
from torch_pruning_vit import finetune as finetune_plain

from wb.compress.nvit.settings import Settings
from wb.compress.prune.begin import begin
from wb.compress.prune.config import PruneConfig
from wb.data import Dataset, load
from wb.export.graph import export
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.counting import count_macs as count
from wb.models.model import Model
from wb.models.model import load as load_model
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import Finetune, score

TARGET = 0.5
THEIRS = "taylor tuned, 5 steps, heads"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Row:
    """One model of one seed: latency over the dense one's, MACs over its, accuracies."""

    latency: float
    macs: float
    before: float
    after: float


def latency_rows(options: argparse.Namespace, out: Output) -> None:
    """Runs every seed and prints the table."""
    data = load(options.data, limit=options.limit)
    recipe = Recipe(epochs=options.finetune, learning_rate=1e-3)
    found: dict[str, list[Row]] = {}
    for seed in map(int, options.seeds.split(",")):
        architecture = fashion_architecture(data)
        model = (
            load_model(options.model)
            if options.model
            else dense(data, architecture, FASHION_RECIPE, seed, options.cache)
        )
        for name, row in one_seed(model, data, recipe, seed, options.cache).items():
            found.setdefault(name, []).append(row)
            told(f"seed {seed}", name, row)
    title = f"{data.spec}, {len(data.train)} images, latency {TARGET}x: mean ± sd of seeds {options.seeds}"
    table = Table(title, ("model", "latency / dense", "MACs / dense", "test before", "test after", "over 1 % off"))
    for name, rows in found.items():
        cells = [[getattr(row, field) for row in rows] for field in ("latency", "macs", "before", "after")]
        ratios = [f"{fmean(values):.3f} ± {pstdev(values):.3f}" for values in cells[:2]]
        off = [f"{row.latency:.3f}" for row in rows if row.latency < 1 and abs(row.latency / TARGET - 1) > 0.01]
        accuracies = [f"{100 * fmean(v):.2f} ± {100 * pstdev(v):.2f}" for v in cells[2:]]
        table.row(name, *ratios, *accuracies, ", ".join(off))
    out.table(table)


def one_seed(model: Model, data: Dataset, recipe: Recipe, seed: int, cache: Path) -> dict[str, Row]:
    """Dense, trained on, ours and theirs."""
    pruned, tuned = _ours(model, data, recipe, seed, cache)
    plain = theirs_at(model, data, seed, TARGET)
    after_plain = finetune_plain(plain, data, recipe, model.network(), seed)
    further = Finetune(data, recipe, model.network(), seed)(model)
    ratios = timed({"dense": model, "wb nvit": tuned, "torch-pruning": after_plain})
    macs = count(model.architecture).value
    score = {
        name: score(network, data.test, CLASSES, CPU).value
        for name, network in (
            ("dense", model.network()),
            ("further", further.network()),
            ("pruned", pruned.network()),
            ("tuned", tuned.network()),
            ("plain", plain),
            ("after", after_plain),
        )
    }
    return {
        "dense": Row(1.0, 1.0, score["dense"], score["dense"]),
        "dense, trained on": Row(1.0, 1.0, score["dense"], score["further"]),
        "wb nvit, 10 rounds": Row(
            ratios["wb nvit"], count(tuned.architecture).value / macs, score["pruned"], score["tuned"]
        ),
        f"torch-pruning {THEIRS}": Row(
            ratios["torch-pruning"], count_macs(plain) / macs, score["plain"], score["after"]
        ),
    }


def _ours(model: Model, data: Dataset, recipe: Recipe, seed: int, cache: Path) -> tuple[Model, Model]:
    """`wb prune nvit --budget latency=0.5x --recovery 0 --finetune 0`, and that fine-tuned."""
    config = PruneConfig(data=data.spec, budget=(f"latency={TARGET}x",), settings=Settings(seed=seed), finetune=0)
    out = cache / f"nvit-{seed}.safetensors"
    begin(config, model, "dense", data, out, lambda what, done, of: None, force=True)()
    pruned = load_model(out)
    return pruned, Finetune(data, recipe, model.network(), seed)(pruned)


def theirs_at(model: Model, data: Dataset, seed: int, target: float) -> PlainViT:
    """torch-pruning at the share of MACs that gives that share of the measured latency, by the secant method, timed twice."""
    plain = to_plain(model)
    full, images = count_macs(plain), calibration(data, seed)
    share, best, closest = target, plain, float("inf")
    tried: list[tuple[float, float]] = []
    for _ in range(6):
        cut = prune(plain, METHODS[THEIRS], share * full, images, seed).network
        ratio = fmean(timed({"dense": model, "cut": cut})["cut"] for _ in range(2))
        told(f"  torch-pruning at {count_macs(cut) / full:.3f} of the MACs: {ratio:.3f} of the latency")
        tried.append((share, ratio))
        if abs(ratio / target - 1) < closest:
            closest, best = abs(ratio / target - 1), cut
        if closest <= 0.01 or (len(tried) > 1 and share < tried[-2][0] and ratio > 0.98 * tried[-2][1]):
            break  # there, or at the floor: smaller ones are not faster
        share = _next(tried, target)
    return best


def _next(tried: list[tuple[float, float]], target: float) -> float:
    """The next share of MACs: in proportion, then along the line through the last two."""
    share, ratio = tried[-1]
    if len(tried) > 1 and abs(ratio - tried[-2][1]) > 1e-3:
        before, ratio_before = tried[-2]
        line = share + (target - ratio) * (share - before) / (ratio - ratio_before)
        if 0.5 * share < line < 2 * share:
            return line
    return share * target / ratio


def timed(models: Mapping[str, Model | PlainViT]) -> dict[str, float]:
    """Latencies over that of `dense`, all graphs timed together."""
    with tempfile.TemporaryDirectory(prefix="wb-") as folder:
        paths = {name: Path(folder) / f"{i}.onnx" for i, name in enumerate(models)}
        for name, model in models.items():
            export(model, paths[name]) if isinstance(model, Model) else export_plain(model, paths[name])
        found = measure_latency(dict(paths), Device(), precision=0.02, cap_s=12.0 * len(paths))
    return {name: latency.ratio.value / found["dense"].ratio.value for name, latency in found.items()}

"""Time and memory of scoring and cutting a large model, beside one pass of gradients over the same images.

A model of ViT-Base's size (86M parameters, random weights) is cut to a share of its MACs. The target: scoring and cutting in
at most the time of the gradient pass plus 5 s, in under 2.5 GB of memory at its peak (resident, torch included).

    python benchmarks/pruning_scale.py --images 32
"""

from __future__ import annotations

import argparse
import resource
import time
from types import SimpleNamespace

import numpy as np
import torch
from tables import Table, begin, parser_of
from torch.nn import functional as F

from wb.compress.nvit.costs import costs_of
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.nvit.settings import Settings
from wb.core.architecture import Architecture
from wb.core.specs import image_spec
from wb.data import Dataset
from wb.data.batches import batches
from wb.data.split import Images
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, from_network
from wb.models.network import build
from wb.spaces.columnar.presets import vit_space

CLASSES = tuple(map(str, range(1000)))


def random_model(preset: str) -> Model:
    """The largest network of a preset for 224x224 colour images in 1000 classes, with initial weights."""
    images = SimpleNamespace(
        specs=lambda: (image_spec(3, 224, 224),), mean=(0.5,) * 3, std=(0.25,) * 3, classes=CLASSES
    )
    architecture: Architecture = vit_space(images, preset).largest("softmax")
    torch.manual_seed(0)
    network = build(architecture)
    network.reset()
    return from_network(architecture, network)


def random_data(count: int) -> Dataset:
    """Noise with labels, because only time is measured here."""
    rng = np.random.default_rng(0)
    split = Images(rng.integers(0, 256, (count, 3, 224, 224), dtype=np.uint8), rng.integers(0, 1000, count))
    return Dataset("noise", "noise", split, split.take(slice(0, 2)), split.take(slice(0, 2)), CLASSES, "0")


def gradient_pass(model: Model, data: Dataset, batch: int) -> None:
    """Only forward and backward passes over the images."""
    network = model.network()
    for images, labels in batches(data.train, batch, shuffle=False):
        network.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels).backward()


def clocks() -> tuple[float, float]:
    """Wall and CPU seconds; on a busy machine only CPU seconds tell how much work was done."""
    return time.perf_counter(), time.process_time()


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--preset", default="deit-base")
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--target", type=float, default=0.5, help="share of the MACs")
    parser.add_argument("--repeats", type=int, default=3, help="both are timed in turn")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    model, data = random_model(options.preset), random_data(options.images)
    target = {"macs": options.target * count_macs(model.architecture).value}
    settings = Settings(calibration=options.images, batch=options.batch)
    title = f"{options.preset}: {count_parameters(model.architecture).text()} parameters, {options.images} images"
    columns = ("clock", "gradient pass", "score", "score and cut", "allowed", "MACs left", "peak memory")
    table = Table(title, columns)
    for _ in range(options.repeats):
        start = clocks()
        gradient_pass(model, data, options.batch)
        passed = clocks()
        pruner = NViT(data, target, costs_of(["macs"], model.architecture, None), settings)
        scored = pruner.scored(Pruned(model))
        done = clocks()
        cut = pruner.cut(scored, target).model
        end = clocks()
        left = count_macs(cut.architecture).value / count_macs(model.architecture).value
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        for i, clock in enumerate(("wall", "CPU")):
            alone, scoring, all_ = passed[i] - start[i], done[i] - passed[i], end[i] - passed[i]
            times = (f"{seconds:.1f} s" for seconds in (alone, scoring, all_, alone + 5))
            table.row(clock, *times, f"{left:.4f}", f"{memory:.2f} GB")
        del cut, scored
    out.table(table)


if __name__ == "__main__":
    main()

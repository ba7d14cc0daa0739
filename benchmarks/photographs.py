"""Fronts on photographs against the networks that a user would try first, at equal CPU seconds of training.

A search is counted as a whole, and every peer is trained for as many CPU seconds by the recipe that `auto` chooses for it, its
epochs as many as a first one says that fit. The convolutional network is also trained as it would be without `wb`: crops, flips,
AdamW, one cycle. Peers of convolutions are also read in static 8 bits, all of each, by the quantizer that makes the twins of
finalists, where that is faster. All files are timed interleaved in one run. The front is asked, at the latency of
each peer, for its best network on validation that is no slower; test accuracies are compared. A part that is there already is
not made again, so that the same command continues.

    python benchmarks/photographs.py imagefolder:PATH/animals --time 10min --folder runs/photographs
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from convnets import convnet
from tables import Table, begin, parser_of, told
from torch import nn

from wb.compress.ptq.calibration import of_images
from wb.compress.ptq.convolutions import static_products
from wb.compress.ptq.subject import of_graph
from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.system.durations import duration
from wb.data import Dataset, Split, load
from wb.export.graph import export, export_module
from wb.export.score import checked, score
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.feeds import made_up
from wb.models.model import from_network
from wb.models.network import Network, build
from wb.search.ending.twins import CALIBRATION, GAIN
from wb.spaces.columnar.presets import vit_space
from wb.spaces.spaces import space_for
from wb.tasks.classes import CLASSES
from wb.training.recipes.choose import LONG, recipe_for
from wb.training.recipes.recipe import Flip, Recipe, RecipeOptions
from wb.training.train import fit_module

MISSED = 3
PUBLISHED = ("mobilenet", "repvit", "convnext", "resnet")
MIRRORED = "convnet, mirrored"
LOW = ", 8 bits"
USUAL = "convnet, AdamW"  # trained as anyone would without wb
POINTS = 5.0  # by which the best network under 1 ms is to beat the convolutional network


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("data", help="as for --data of wb search")
    parser.add_argument("--time", default="10min", help="of a search")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", type=Path, required=True, help="for runs, peers and their readings")
    parser.add_argument("--peers", nargs="*", help="some of the peers, by name")
    parser.add_argument("--limit", type=int, default=None, help="images of each split")
    return parser


def peers(data: Dataset) -> dict[str, Callable[[], nn.Module]]:
    """Makers of fresh networks, which draw their weights from torch's global generator."""

    def of(architecture: Architecture) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            network = build(architecture)
            network.reset()
            return network

        return make

    found: dict[str, Callable[[], nn.Module]] = {
        name: lambda: convnet(data.channels, len(data.classes), int(torch.initial_seed()))
        for name in ("convnet", USUAL)
    }
    every = {
        "kernel": "3,5,7",
        "ratio": "1,2,3,4",
        "act": "relu,gelu",
        "merge": "dw3,conv,conv3",
        "mixer": "none,depthwise,softmax",
    }
    space = space_for(data, "hybrid", changes=every)
    for name in PUBLISHED:
        with suppress(BadOption):  # images of that size cannot be merged so
            found[f"{name}-like"] = of(space.seeds[name]())
    attending = {
        "stem": "conv",
        "mixer": "softmax",
        "embed": "64",
        "depth": "4",
        "mlp": "2",
        "heads": "4",
        "qk": "16",
        "v": "16",
    }
    found["compact transformer"] = of(vit_space(data, "small", {**attending, "stem_width": "32"}).largest())
    found["vit tiny"] = of(vit_space(data, "tiny").largest("softmax"))
    return found


def searched(options: argparse.Namespace, seed: int) -> tuple[Path, float]:
    """The run folder of one search, and the CPU seconds that it took."""
    folder = options.folder / f"search-{seed}"
    note = options.folder / f"search-{seed}.json"
    if not note.exists():
        command = [sys.executable, "-m", "wb.cli.main", "search", "--data", options.data, "--time", options.time]
        command += ["--seed", str(seed), "--out", str(folder)] if not folder.exists() else []
        if folder.exists():
            command = [*command[:3], "search", "--resume", str(folder)]
        if options.limit and "--resume" not in command:
            command += ["--limit", str(options.limit)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, stdout=sys.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        note.write_text(json.dumps({"seconds": seconds}))
    return folder, float(json.loads(note.read_text())["seconds"])


def trained(name: str, make: Callable[[], nn.Module], data: Dataset, seconds: float, seed: int, folder: Path) -> Path:
    """The exported file of a peer that was trained for about `seconds` CPU seconds."""
    path = folder / f"{name.replace(',', '').replace(' ', '-')}-{seed}.onnx"
    if path.exists():
        return path
    torch.manual_seed(seed)
    module = make()
    count = sum(weight.numel() for weight in module.parameters())
    convolutions = not isinstance(module, Network) or module.architecture.has_maps

    def recipe_of(epochs: int) -> Recipe:
        if name == USUAL:
            return usual(data, epochs)
        return recipe_for(RecipeOptions(), count, data, epochs, convolutions=convolutions)

    for _ in range(2):  # the first one also loads and compiles
        start = time.process_time()
        fit_module(make(), data, recipe_of(LONG).model_copy(update={"epochs": 1}), task=CLASSES, seed=seed)
    epochs = max(1, round(seconds / (time.process_time() - start)))
    recipe = recipe_of(epochs)
    start = time.process_time()
    fit_module(module, data, recipe, task=CLASSES, seed=seed)
    told(f"{name}, seed {seed}: {epochs} epochs, {time.process_time() - start:.0f} CPU s; {recipe.text}")
    if isinstance(module, Network):
        export(from_network(module.architecture, module), path)
    else:
        export_module(module, made_up(data.specs(), 2), path)
    return path


def usual(data: Dataset, epochs: int) -> Recipe:
    """What is usual for small convolutional networks: AdamW in float32, one cycle, crops, and flips of colour images."""
    flip: Flip = "on" if data.channels == 3 else "off"
    return Recipe(name="usual", epochs=epochs, batch=64, label_smoothing=0.0, augment="crop", flip=flip)


def lowered(files: Mapping[str, Path], data: Dataset, device: Device) -> dict[str, Path]:
    """The peers in static 8 bits: those that have convolutions, and are faster so."""
    found = {}
    for name, path in files.items():
        low = path.with_suffix(".int8.onnx")
        if not low.exists():
            subject = of_graph(path)
            if not any(subject.convolution(group) for group in subject.groups):
                continue
            inputs = of_images(subject.graph, data.train, CALIBRATION, 0)
            onnx.save(static_products(subject, inputs).graph, low.with_suffix(".part"))
            low.with_suffix(".part").rename(low)
        timed = measure_latency({"float": path, "low": low}, device)
        if timed["low"].ratio.value < (1 - GAIN) * timed["float"].ratio.value:
            found[name + LOW] = low
    return found


def front_of(run: Path) -> dict[str, Path]:
    """The files of a front."""
    return {path.stem: path for path in sorted((run / "models").glob("*.onnx"))}


def read(files: Mapping[str, Path], data: Dataset, device: Device) -> dict[str, dict[str, float]]:
    """Latency in ms, timed together, and accuracy on validation and test, of each file."""
    latencies = measure_latency(dict(files), device)
    return {
        name: {
            "ms": latencies[name].reading.value,
            "validation": 100 * score(path, data.validation, CLASSES, device).value,
            "test": 100 * score(path, data.test, CLASSES, device).value,
        }
        for name, path in files.items()
    }


def mirrored(path: Path, reading: Mapping[str, float], data: Dataset, device: Device) -> dict[str, float]:
    """The same file asked about each image and its mirror image, as twins of finalists are; its latency counts twice."""

    def accuracy(split: Split) -> float:
        turned = replace(split, images=np.ascontiguousarray(split.images[..., ::-1]))
        both = checked(path, split, CLASSES, device) + checked(path, turned, CLASSES, device)
        return 100 * CLASSES.reading(CLASSES.grade(both / 2, split.labels), device.text).value

    return {
        "ms": 2 * reading["ms"],
        "validation": accuracy(data.validation),
        "test": accuracy(data.test),
    }


def best(front: Mapping[str, Mapping[str, float]], most: float) -> Mapping[str, float] | None:
    """The network of a front that is best on validation among those within `most` ms."""
    within = [one for one in front.values() if one["ms"] <= most]
    return max(within, key=lambda one: one["validation"]) if within else None


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    data, device = load(options.data, limit=options.limit), Device()
    makers = {name: make for name, make in peers(data).items() if not options.peers or name in options.peers}
    twin = [MIRRORED] if "convnet" in makers else []
    rows: dict[str, list[tuple[float, float, float]]] = {name: [] for name in [*makers, *twin]}
    rows |= {name + LOW: [] for name in makers}
    ahead: dict[str, list[float]] = {name: [] for name in ("convnet", USUAL) if name in makers}
    spans, spent = [], []
    for seed in range(options.seeds):
        run, seconds = searched(options, seed)
        spent.append(seconds)
        files = {name: trained(name, make, data, seconds, seed, options.folder) for name, make in makers.items()}
        own = {f"front {name}": path for name, path in front_of(run).items()}
        files |= lowered(files, data, device)
        readings = read({**files, **own}, data, device)
        front = {name: readings[name] for name in own}
        spans.append(max(one["ms"] for one in front.values()) / min(one["ms"] for one in front.values()))
        if twin:
            readings[MIRRORED] = mirrored(files["convnet"], readings["convnet"], data, device)
        for name in rows.keys() & readings.keys():
            found = best(front, readings[name]["ms"] * 1.03)
            rows[name].append(
                (readings[name]["ms"], readings[name]["test"], np.nan if found is None else found["test"])
            )
        if (top := best(front, 1.0)) is not None:
            for name in ahead:
                ahead[name].append(top["test"] - readings[name]["test"])
        told(json.dumps(readings, indent=1))
    report(out, options, data, rows, ahead, spans, spent)


def report(out: Any, options: argparse.Namespace, data: Dataset, rows: Any, ahead: Any, spans: Any, spent: Any) -> None:
    title = (
        f"{data.name}, {len(data.train):,} training images; every training, and each search as a whole, "
        f"{duration(float(np.mean(spent)))} of CPU time; {options.seeds} seeds"
    )
    table = Table(title, ("peer", "ms", "peer, test %", "front there, test %", "ahead, points"))
    for name, values in rows.items():
        if not values:  # not faster in 8 bits
            continue
        ms, peer, own = (np.array(column) for column in zip(*values, strict=True))
        some = "" if len(values) == options.seeds else f" ({len(values)} seeds)"
        table.row(name + some, f"{ms.mean():.3f}", spread(peer), spread(own), spread(own - peer))
    out.table(table)
    for name, points in ahead.items():
        out.say(
            f"The best network under 1 ms is {spread(np.array(points))} points ahead of {name} (target {POINTS:g})."
        )
    out.say(f"Fronts span {spread(np.array(spans))} times in latency (target 5).")
    if any(np.mean(points) < POINTS for points in ahead.values()):
        raise SystemExit(MISSED)


def spread(values: Any) -> str:
    """Mean and standard deviation."""
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():.1f} ± {deviation:.1f}"


if __name__ == "__main__":
    main()

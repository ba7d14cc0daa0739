"""Time and memory of fusing two models of ViT-Base's size: 86M parameters, random weights, read from files and written.

Run by `benchmarks/fusion.py scale`; every fusion has a process of its own, so that the peak of its memory is known.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from tables import Output, Table
from tables import told as progress

from wb.core.specs import image_spec
from wb.fusion.fuse import fuse
from wb.fusion.settings import Settings
from wb.models.counting import count_parameters
from wb.models.model import from_network, load, save
from wb.models.network import build
from wb.spaces.columnar.presets import vit_space

GOALS = {"orth": "< 60 s, < 3 models", "regress": "< 600 s with 512 images and 2 threads"}
CLASSES = tuple(map(str, range(1000)))


def write_models(folder: Path) -> None:
    """Two networks of 12 blocks, width 768, for 224x224 colour images, of random weights."""
    images = SimpleNamespace(
        specs=lambda: (image_spec(3, 224, 224),), mean=(0.5,) * 3, std=(0.25,) * 3, classes=CLASSES
    )
    architecture = vit_space(images, "deit-base").largest("softmax")
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = build(architecture)
        network.reset()
        save(from_network(architecture, network), folder / f"{seed}.safetensors")
    print(json.dumps({"parameters": count_parameters(architecture).value}))


def fuse_models(folder: Path, method: str, images: int, threads: int) -> None:
    """Fuses the two files into a third and prints what that took; megabytes are beyond those after the imports."""
    torch.set_num_threads(threads)
    before = peak()
    settings = Settings.model_validate({"method": method})
    looked = torch.rand(images, 3, 224, 224, generator=torch.Generator().manual_seed(0)) if images else None
    start, cpu = time.perf_counter(), time.process_time()
    names = ["0.safetensors", "1.safetensors"]
    found = fuse((load(folder / name) for name in names), names, settings, looked, progress=told)
    fused = time.perf_counter() - start
    save(found.model, folder / "fused.safetensors", force=True)
    total, cpu = time.perf_counter() - start, time.process_time() - cpu
    parts = {what: round(seconds, 1) for what, seconds in found.seconds.items()}
    print(json.dumps({"fused": fused, "total": total, "cpu": cpu, "peak": peak() - before, "parts": parts}))


def told(what: str, done: int, of: int) -> None:
    """Progress, with the memory so far."""
    progress(f"{what} {done}/{of}, peak {peak():.0f} MB")


def peak() -> float:
    """Peak resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def scale(options: argparse.Namespace, out: Output) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = call("write", folder)["parameters"]
        size = (folder / "0.safetensors").stat().st_size / 1e6
        title = f"two models of {parameters / 1e6:.1f}M parameters, {size:.0f} MB each"
        columns = ("", "read and fused", "and written", "CPU", "peak memory", "models", "goal")
        table = Table(title, columns, left=("goal",))
        for method, images in {"orth": 0, **({"regress": options.images} if options.images else {})}.items():
            found = call(method, folder, str(images), str(options.threads))
            seconds = (f"{found[part]:.1f} s" for part in ("fused", "total", "cpu"))
            label = f"{method}, {images} images, {options.threads} threads"
            ratio = f"{found['peak'] / size:.2f}"
            table.row(label, *seconds, f"{found['peak']:.0f} MB", ratio, GOALS[method])
            progress(label, json.dumps(found))
        out.table(table)


def call(*arguments: str | Path) -> dict[str, float]:
    """The output of this file, run in a process of its own."""
    done = subprocess.run([sys.executable, __file__, *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_models(Path(sys.argv[2]))
    else:
        fuse_models(Path(sys.argv[2]), sys.argv[1], int(sys.argv[3]), int(sys.argv[4]))

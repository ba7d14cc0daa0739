"""The suite `speed` of `benchmarks/quantization.py`: latency of ViT-Tiny in integers, ours and the peers' in one run."""

from __future__ import annotations

import argparse
import hashlib
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
from fusion_models import Cache, Key, initial
from numpy.typing import NDArray
from quantization_peers import Peer, dynamic, nbits, nncf, prepare, static, stock
from tables import Output, Table, told
from torch_pruning_vit import PlainViT, to_plain
from torch_pruning_vit import export as export_plain

import wb.export
import wb.models
from wb.compress.ptq.static import silent
from wb.core.precision import precisions, with_precisions
from wb.core.records import Precision
from wb.core.specs import PIXELS, image_spec
from wb.export.graph import export, export_module
from wb.export.lowering.fold import folded
from wb.export.lowering.lower import lower
from wb.export.lowering.products import linear_nodes
from wb.export.run import Runner
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.model import Model
from wb.spaces.columnar.presets import vit_space

CALIBRATION, JUDGED = 16, 32  # random images
FLOAT, DEFAULT, WHOLE = "wb: fp32", "wb: int8, stem fp32", "wb: int8"
OURS: dict[str, tuple[Precision, tuple[str, ...]]] = {  # a precision, and what stays in fp32
    FLOAT: ("fp32", ()),
    WHOLE: ("int8", ()),
    DEFAULT: ("int8", ("stem",)),
    "wb: int8, stem and head fp32": ("int8", ("stem", "head")),
    "wb: int4, stem fp32": ("int4", ("stem",)),
    "wb: w2, stem fp32": ("w2", ("stem",)),
}
ONE_PRODUCT = "wb: int8, stem fp32, q, k, v in one product"
PEERS: dict[str, tuple[str, Peer | None]] = {  # on which graph
    "stock: fp32": ("stock", None),
    "plain: ORT dynamic, defaults": ("plain", dynamic()),
    "plain: ORT dynamic, per channel": ("plain", dynamic(per_channel=True)),
    "prepared: ORT dynamic, defaults": ("prepared", dynamic()),
    "prepared: ORT dynamic, per channel": ("prepared", dynamic(per_channel=True)),
    "stock: ORT dynamic, per channel": ("stock", dynamic(per_channel=True)),
    "stock: ORT dynamic, per channel, MatMul only": (
        "stock",
        dynamic(per_channel=True, op_types_to_quantize=["MatMul"]),
    ),
    "plain: NNCF, transformer": ("plain", nncf),
    "stock: NNCF, transformer": ("stock", nncf),
    "prepared: ORT static U8S8": ("prepared", static()),
    "prepared: ORT static U8S8, linear only": (
        "prepared",
        static(op_types_to_quantize=["MatMul", "Gemm", "Conv"], extra_options={"MatMulConstBOnly": True}),
    ),
    "prepared: ORT MatMulNBits, 8 bits": ("prepared", nbits(8)),
    "prepared: ORT MatMulNBits, 4 bits": ("prepared", nbits(4)),
}
Row = dict[str, float]


@dataclass(frozen=True)
class Bench:
    """The network, with a folder and a cache of its graphs."""

    model: Model
    cache: Cache
    folder: Path

    def path(self, name: str) -> Path:
        """The path of the graph called `name`."""
        return self.folder / f"{hashlib.sha256(f'{name} {code()}'.encode()).hexdigest()[:16]}.onnx"

    def made(self, name: str, make: Callable[[Path], None]) -> Row:
        """Makes the graph, unless it exists; returns its size, and the seconds that making it took."""
        path = self.path(name)
        key: Key = {"graph": name, "model": self.model.fingerprint(), "code": code()}

        def find() -> Row:
            told(f"making {name}")
            partial = path.with_suffix(".partial")
            start = time.perf_counter()
            with silent():
                make(partial)
            seconds = time.perf_counter() - start
            partial.replace(path)
            return {"seconds": seconds, "MB": path.stat().st_size / 1e6}

        return self.cache.numbers(key, find)


@cache
def code() -> str:
    """The version of wb.export and wb.models, which make the graphs: 16 hexadecimal digits of the hash of their sources."""
    folders = [Path(next(iter(package.__path__))) for package in (wb.export, wb.models)]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def speed_rows(options: argparse.Namespace, out: Output) -> None:
    """Makes all graphs, times them together and prints the table."""
    folder = options.cache.with_suffix("") / "graphs"
    folder.mkdir(parents=True, exist_ok=True)
    bench = Bench(tiny(), Cache(options.cache), folder)
    made = graphs(bench)
    rows = {name: row for name, row in made.items() if name == FLOAT or re.search(options.rows, name)}
    device = Device(threads=options.threads)
    key: Key = {"timed": list(rows), "code": code(), "threads": options.threads, "seconds": options.seconds}
    timing = bench.cache.numbers(key, lambda: timed({name: bench.path(name) for name in rows}, device, options.seconds))
    images = np.random.default_rng(1).random((JUDGED, 3, 224, 224), dtype=np.float32)
    for name, row in rows.items():
        reference = FLOAT if name.startswith("wb") else "stock: fp32" if name.startswith("stock") else FLOAT
        key = {"judged": name, "code": code(), "images": JUDGED, "batch": 1}
        row |= bench.cache.numbers(key, lambda n=name, r=reference: judged(bench.path(n), bench.path(r), images))
        row |= {what: timing[f"{name}/{what}"] for what in ("ms", "low", "high", "ratio", "error")}
    show(out, rows, device)


def tiny() -> Model:
    """ViT-Tiny with random weights."""
    images = SimpleNamespace(
        specs=lambda: (image_spec(3, 224, 224),), mean=(0.5,) * 3, std=(0.25,) * 3, classes=tuple(map(str, range(1000)))
    )
    return initial(vit_space(images, "deit-tiny").largest("softmax"), seed=0)


def graphs(bench: Bench) -> dict[str, Row]:
    """All rows, in the order of the table, with the cost of making them."""
    model, rows = bench.model, {}
    for name, (precision, spared) in OURS.items():
        policy = {group: precision for group in precisions(model.architecture) if group not in spared}
        lowered = Model(with_precisions(model.architecture, policy), model.weights)
        rows[name] = bench.made(name, lambda path, m=lowered: _export(m, path))
    sources = {"plain": bench.path(FLOAT), "prepared": bench.path("prepared"), "stock": bench.path("stock: fp32")}
    images = np.random.default_rng(0).random((CALIBRATION, 3, 224, 224), dtype=np.float32)
    network = stock(to_plain(model))
    rows[ONE_PRODUCT] = bench.made(ONE_PRODUCT, lambda path: one_product(network, path))
    preparing = bench.made("prepared", lambda path: prepare(sources["plain"], path))["seconds"]
    for name, (source, peer) in PEERS.items():
        if peer is None:
            rows[name] = bench.made(name, lambda path: _export_stock(network, path))
        else:
            rows[name] = dict(bench.made(name, lambda path, s=source, p=peer: p(sources[s], path, images)))
            rows[name]["seconds"] += preparing if source == "prepared" else 0
    return rows


def one_product(network: PlainViT, path: Path) -> None:
    """A network with q, k and v in one product, lowered by `wb.export.lowering.lower` to int8 except its convolution."""
    export_plain(network, path)
    graph = folded(path)
    convolutions = {node.name for node in graph.graph.node if node.op_type == "Conv"}
    onnx.save(lower(graph, {name: "int8" for name in linear_nodes(graph) if name not in convolutions}), path)


def timed(paths: dict[str, Path], device: Device, seconds: float) -> Row:
    """Milliseconds with their interval, and the ratio to the reference graph with its relative error, by graph."""
    load = os.getloadavg()[0]
    found = measure_latency(dict(paths), device, precision=0.02, cap_s=seconds * len(paths))
    told(f"timed at a load of {load:.1f} before and {os.getloadavg()[0]:.1f} after")
    flat: Row = {}
    for name, latency in found.items():
        low, high = latency.reading.interval or (math.nan, math.nan)
        low_ratio, high_ratio = latency.ratio.interval or (math.nan, math.nan)
        flat[f"{name}/ms"], flat[f"{name}/low"], flat[f"{name}/high"] = latency.reading.value, low, high
        flat[f"{name}/ratio"] = latency.ratio.value
        flat[f"{name}/error"] = (high_ratio - low_ratio) / 2 / latency.ratio.value
    return flat


def judged(path: Path, reference: Path, images: NDArray[np.float32]) -> Row:
    """The distance of the logits from the float graph's."""
    expected, given = (
        Runner(graph, Device())({PIXELS: images}, batch=1).astype(np.float64) for graph in (reference, path)
    )
    error = float(((given - expected) ** 2).sum())
    signal = float((expected**2).sum())
    same = float((given.argmax(axis=1) == expected.argmax(axis=1)).mean())
    return {"SQNR": 10 * math.log10(signal / error) if error else math.inf, "agreement": same}


def show(out: Output, rows: dict[str, Row], device: Device) -> None:
    """Prints the table, and whether ours is at least as fast as the best peer."""
    columns = ("graph", "ms", "95 % interval", "speed-up", "MB", "SQNR dB", "top-1 as fp32", "made in s")
    table = Table(f"ViT-Tiny, 224x224, batch 1, {device.text}", columns)
    for name, row in rows.items():
        value, error = speed_up(rows, name)
        table.row(
            name,
            f"{row['ms']:.2f}",
            f"{row['low']:.2f} – {row['high']:.2f}",
            f"{value:.2f} ± {error:.2f}",
            f"{row['MB']:.1f}",
            "–" if math.isinf(row["SQNR"]) else f"{row['SQNR']:.1f}",
            f"{row['agreement']:.2f}",
            f"{row['seconds']:.1f}",
        )
    out.table(table)
    out.say("openvino is not timed here")
    peers = [name for name in rows if not name.startswith("wb")]
    if not peers:
        return
    best = max(peers, key=lambda name: speed_up(rows, name)[0])
    peer, unsure = speed_up(rows, best)
    for name in (name for name in (DEFAULT, WHOLE) if name in rows):
        ours, error = speed_up(rows, name)
        verdict = "meets" if ours >= peer else "meets, within noise," if peer - ours < error + unsure else "misses"
        out.say(f"{name}: {ours:.2f}x, the best peer ({best}): {peer:.2f}x; {verdict} the target")


def speed_up(rows: dict[str, Row], name: str) -> tuple[float, float]:
    """Speed-up over the float graph, with half its 95 % interval."""
    value = rows[FLOAT]["ratio"] / rows[name]["ratio"]
    return value, value * (0.0 if name == FLOAT else math.hypot(rows[FLOAT]["error"], rows[name]["error"]))


def _export(model: Model, path: Path) -> None:
    export(model, path, force=True)


def _export_stock(network: PlainViT, path: Path) -> None:
    import torch

    export_module(network, {PIXELS: torch.rand(2, *network.image)}, path, exporter="dynamo")

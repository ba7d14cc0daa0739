"""The suite `accuracy` of `benchmarks/quantization.py`: accuracy that trained transformers lose in fewer bits."""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, pstdev

import numpy as np
from fusion_models import Cache, Key
from pruning_models import FASHION_RECIPE, dense, fashion_architecture
from quantization_peers import Calibration, Peer, dynamic, nncf, prepare
from quantization_speed import code
from tables import Output, Table, told

from wb.compress.ptq.static import silent
from wb.core.precision import precisions, with_precisions
from wb.core.records import Precision
from wb.data import Dataset, load
from wb.export.graph import export
from wb.export.score import score
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.model import Model
from wb.tasks.classes import CLASSES

CALIBRATION = 300  # training images without their labels
TARGET = 0.003
FLOAT = "float"
OURS: dict[str, tuple[Precision, tuple[str, ...]]] = {  # a precision, and what stays in fp32
    FLOAT: ("fp32", ()),
    "int8, stem fp32": ("int8", ("stem",)),
    "int8": ("int8", ()),
    "int4, stem fp32": ("int4", ("stem",)),
    "int4, stem and head fp32": ("int4", ("stem", "head")),
}
PEERS: dict[str, Peer] = {
    "NNCF static int8, transformer": nncf,
    "ORT dynamic int8, per channel": dynamic(per_channel=True),
}
Row = dict[str, float]


def accuracy_rows(options: argparse.Namespace, out: Output) -> None:
    """Trains or loads the model of every seed, makes all files of it and prints the table."""
    if options.data is None:
        raise SystemExit("accuracy needs --data, e.g. idx:PATH/fashion-mnist")
    data = load(options.data, limit=options.limit)
    cache, found = Cache(options.cache), {}
    folder = options.cache.with_suffix("")
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    recipe = FASHION_RECIPE.model_copy(update={"epochs": options.epochs})
    for seed in map(int, options.seeds.split(",")):
        model = dense(data, fashion_architecture(data), recipe, seed, folder)
        for name, row in one_seed(model, data, cache, folder / "graphs", options.seconds).items():
            found.setdefault(name, []).append(row)
            told(f"seed {seed}, {name}: {100 * row['accuracy']:.2f} %, {row['ratio']:.3f} of the time")
    show(out, found, f"{data.spec}, {len(data.train)} images, {options.epochs} epochs, seeds {options.seeds}")


def one_seed(model: Model, data: Dataset, cache: Cache, folder: Path, seconds: float) -> dict[str, Row]:
    """Accuracy, size and latency of every file of one model."""
    makers = makers_of(model, folder, data)
    paths = {name: folder / f"{_digest(name, model)}.onnx" for name in makers}
    for name, make in makers.items():
        if not paths[name].exists():
            with silent():
                make(partial := paths[name].with_suffix(".partial"))
            partial.replace(paths[name])
    rows: dict[str, Row] = {}
    for name, path in paths.items():
        key: Key = {"accuracy": name, "model": model.fingerprint(), "data": data.fingerprint, "code": code()}

        def find(path: Path = path) -> Row:
            found = score(path, data.test, CLASSES, Device())
            return {"accuracy": found.value, "size": path.stat().st_size}

        rows[name] = dict(cache.numbers(key, find))
    key = {"ratios": list(paths), "model": model.fingerprint(), "code": code(), "seconds": seconds}
    ratios = cache.numbers(key, lambda: timed(paths, seconds))
    return {name: {**row, "ratio": ratios[name]} for name, row in rows.items()}


def makers_of(model: Model, folder: Path, data: Dataset) -> dict[str, Callable[[Path], None]]:
    """The functions that write each file; the first writes the float file, which the peers start from."""
    source = folder / f"{_digest(FLOAT, model)}.onnx"
    chosen = np.random.default_rng(0).permutation(len(data.train))[:CALIBRATION]
    images: Calibration = data.train.pixels(chosen)
    makers: dict[str, Callable[[Path], None]] = {}
    for name, (precision, spared) in OURS.items():
        policy = {group: precision for group in precisions(model.architecture) if group not in spared}
        lowered = Model(with_precisions(model.architecture, policy), model.weights)
        makers[name] = lambda path, m=lowered: _export(m, path)
    for name, peer in PEERS.items():
        makers[name] = lambda path, p=peer: _prepared(source, path, p, images)
    return makers


def timed(paths: dict[str, Path], seconds: float) -> Row:
    """Latency over the float file's."""
    found = measure_latency(dict(paths), Device(), precision=0.02, cap_s=seconds * len(paths))
    return {name: latency.ratio.value / found[FLOAT].ratio.value for name, latency in found.items()}


def show(out: Output, found: dict[str, list[Row]], title: str) -> None:
    """Mean ± population standard deviation over the seeds."""
    table = Table(title, ("file", "test accuracy, %", "- float, points", "size / float", "latency / float"))
    lost: dict[str, float] = {}
    for name, rows in found.items():
        drops = [100 * (row["accuracy"] - dense_["accuracy"]) for row, dense_ in zip(rows, found[FLOAT], strict=True)]
        sizes = [row["size"] / dense_["size"] for row, dense_ in zip(rows, found[FLOAT], strict=True)]
        lost[name] = fmean(drops)
        cells = (_spread([100 * row["accuracy"] for row in rows]), _spread(drops, "+.2f"))
        table.row(name, *cells, _spread(sizes, ".3f"), _spread([row["ratio"] for row in rows], ".3f"))
    out.table(table)
    for name in ("int8, stem fp32", "int8"):
        verdict = "meets" if lost[name] >= -100 * TARGET else "misses"
        out.say(f"{name}: {lost[name]:+.2f} points on average; {verdict} the target of {100 * TARGET:g} points")


def _spread(values: list[float], form: str = ".2f") -> str:
    return f"{fmean(values):{form}} ± {pstdev(values):{form.lstrip('+')}}"


def _digest(name: str, model: Model) -> str:
    return hashlib.sha256(f"{name} {model.fingerprint()} {code()}".encode()).hexdigest()[:16]


def _export(model: Model, path: Path) -> None:
    export(model, path, force=True)


def _prepared(source: Path, path: Path, peer: Peer, images: Calibration) -> None:
    prepared = path.with_suffix(".prepared")
    prepare(source, prepared)
    peer(prepared, path, images)
    prepared.unlink()

"""Kernelized-hash attention (EcoFormer) against softmax: accuracy, modelled energy, and latency against the number of tokens.

    python benchmarks/hash_attention.py accuracy --data idx:PATH/fashion-mnist --limit 6000 --cache FOLDER [--seeds 3]
    python benchmarks/hash_attention.py latency [--plot hash-latency.png]

`accuracy`: a softmax transformer is trained for every seed; it is fine-tuned for some epochs with the labels and its own first
state as teacher, and so are its conversions to hash attention, one as the paper derives it (kernel) and one as its code has it
(official). Accuracy on the test split, which nothing else looks at. Energy is the model of `wb.hardware.energy`, of the
products in attention alone (queries with keys, with values, hashing) and of the whole network; latency is of the exported
files, timed together, one thread.

`latency`: one mixer alone, 64 channels in 4 heads of 16, 16 bits and 25 anchors, exported and timed by the runtime on one image
of 49 to 3136 tokens; all mixers of one size are timed together, in one run.

Beside the paper's: 73 % less energy and 0.33 points lost on ImageNet with PVTv2-B0 (https://arxiv.org/abs/2209.09004); it
counts energy as here, but of attention on 3136 and fewer tokens with binary accumulations in hardware.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from pruning_models import FASHION_RECIPE, dense, fashion_architecture
from tables import Output, Table, begin, parser_of, told

from wb.compress.binarize.hash import HashAttention
from wb.core.architecture import Architecture
from wb.core.layout import Layout
from wb.core.records import Attention, Cosformer, Hash, Sla, Softmax
from wb.data import Dataset, load
from wb.export.assess import Assessor
from wb.export.counting.count import energy_by_part
from wb.export.graph import export_module
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.models.block import build_operator
from wb.models.model import Model, save
from wb.models.model import load as load_model
from wb.training.fit import Recipe
from wb.training.train import Finetune

SIDES = (7, 10, 14, 20, 28, 40, 56)
SIZES = {"heads": 4, "qk": 16, "v": 16}
MIXERS: dict[str, Attention] = {
    "softmax": Softmax.model_validate(SIZES),
    "hash": Hash.model_validate(SIZES),
    "cosformer": Cosformer.model_validate(SIZES),
    "sla": Sla.model_validate(SIZES),
}


def latencies(seconds: float) -> dict[int, dict[str, float]]:
    """Latency of each mixer in milliseconds, by the number of tokens."""
    found = {}
    for side in SIDES:
        layout = Layout((side, side))
        with tempfile.TemporaryDirectory() as folder:
            graphs = {}
            for name, record in MIXERS.items():
                torch.manual_seed(0)
                module = build_operator(record, 64, layout)
                module.reset()
                graphs[name] = Path(folder) / f"{name}.onnx"
                export_module(module, {"x": torch.randn(2, layout.tokens, 64)}, graphs[name], "y")
            timed = measure_latency(dict(graphs), Device(), cap_s=seconds * len(graphs))
        found[layout.tokens] = {name: latency.reading.value for name, latency in timed.items()}
        told(layout.tokens, {name: round(ms, 4) for name, ms in found[layout.tokens].items()})
    return found


def show_latencies(found: dict[int, dict[str, float]], plot: Path | None, out: Output) -> None:
    """Prints the table and the number of tokens from which hash attention is faster, and draws a plot."""
    title = "one mixer of 64 channels, ms on one thread, all of one row timed together"
    table = Table(title, ("tokens", *MIXERS, "hash / softmax"))
    for tokens, row in found.items():
        table.row(str(tokens), *(f"{row[name]:.4g}" for name in MIXERS), f"{row['hash'] / row['softmax']:.2f}")
    out.table(table)
    faster = [tokens for tokens, row in found.items() if row["hash"] < row["softmax"]]
    where = f"faster than softmax from {faster[0]} tokens on" if faster else "never faster than softmax"
    out.say(f"hash attention is {where}")
    if plot is not None:
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots(figsize=(6, 4))
        for name in MIXERS:
            axes.plot(list(found), [row[name] for row in found.values()], marker="o", label=name)
        axes.set(xscale="log", yscale="log", xlabel="tokens", ylabel="ms")
        axes.legend()
        figure.savefig(plot, dpi=120, bbox_inches="tight")


def one_seed(data: Dataset, seed: int, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Every row of the table for one seed; fine-tuned models are kept in the cache."""
    recipe = FASHION_RECIPE.model_copy(update={"epochs": options.epochs})
    softmax = dense(data, fashion_architecture(data), recipe, seed, options.cache)
    teacher = softmax.network()
    tune = Finetune(data, Recipe(epochs=options.finetune, learning_rate=options.rate), teacher, seed)
    models = {"softmax": softmax}
    models["softmax, fine-tuned"] = _kept(options, data, seed, "softmax", lambda: tune(softmax))
    for form in ("kernel", "official"):
        converted = HashAttention(data, form=form, seed=seed)(softmax)
        models[f"hash ({form}), converted"] = converted
        models[f"hash ({form}), fine-tuned"] = _kept(options, data, seed, form, lambda c=converted: tune(c))
    readings = Assessor(Device(), seed=seed)(models, {"acc": data.validation, "test": data.test}, cap_s=4)
    return {
        name: {
            "test": 100 * found["test"].value,
            "attention": _attention(models[name].architecture),
            "energy": found["energy"].value,
            "latency": found["latency"].value,
        }
        for name, found in readings.items()
    }


def _kept(options: argparse.Namespace, data: Dataset, seed: int, name: str, make) -> Model:  # type: ignore[no-untyped-def]
    path = (
        options.cache
        / f"hash-{data.fingerprint}-{seed}-{options.epochs}-{options.finetune}-{options.rate}-{name}.safetensors"
    )
    if not path.exists():
        save(make(), path, force=True)
        told(f"seed {seed}: {name} fine-tuned")
    return load_model(path)


def _attention(architecture: Architecture) -> float:
    """Picojoules of the products within mixers."""
    return sum(e for name, e in energy_by_part(architecture).items() if name.endswith("mixer.products"))


def show_accuracy(found: dict[str, list[dict[str, float]]], title: str, out: Output, *, interim: bool) -> None:
    """Mean ± standard deviation over seeds, beside the fine-tuned softmax network."""
    base = found["softmax, fine-tuned"]
    columns = ("network", "test %", "- softmax, points", "energy of attention", "of all (modelled)", "latency")
    table = Table(title, columns)
    for name, rows in found.items():
        lost = [row["test"] - other["test"] for row, other in zip(rows, base, strict=True)]
        ratios = [
            [row[key] / other[key] for row, other in zip(rows, base, strict=True)]
            for key in ("attention", "energy", "latency")
        ]
        cells = [_spread([row["test"] for row in rows]), _spread(lost, "+")]
        table.row(name, *cells, *(f"{fmean(values):.3f}x" for values in ratios))
    out.table(table, interim=interim)
    if not interim:
        out.say("the paper: -73 % energy at -0.33 points (PVTv2-B0, ImageNet)")


def _spread(values: Sequence[float], sign: str = "") -> str:
    return f"{fmean(values):{sign}.2f} ± {stdev(values) if len(values) > 1 else 0:.2f}"


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("suite", choices=["accuracy", "latency"])
    parser.add_argument("--data")
    parser.add_argument("--limit", type=int, default=6000, help="training images")
    parser.add_argument("--epochs", type=int, default=15, help="of training the softmax network")
    parser.add_argument("--finetune", type=int, default=10, help="epochs, of every row alike")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing for each graph")
    parser.add_argument("--plot", type=Path)
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    if options.suite == "latency":
        show_latencies(latencies(options.seconds), options.plot, out)
        return
    if options.data is None or options.cache is None:
        raise SystemExit("accuracy needs --data, e.g. idx:PATH/fashion-mnist, and --cache, a folder for trained models")
    options.cache.mkdir(parents=True, exist_ok=True)
    data = load(options.data, limit=options.limit)
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(options.seeds):
        for name, row in one_seed(data, seed, options).items():
            found.setdefault(name, []).append(row)
        title = f"{data.spec}, {len(data.train)} training images, {seed + 1} seeds"
        show_accuracy(found, title, out, interim=seed + 1 < options.seeds)


if __name__ == "__main__":
    main()

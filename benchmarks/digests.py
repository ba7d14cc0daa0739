"""Digests of what `wb` computes, to find out whether a code change changed a number: exported graphs, and files of jobs.

python benchmarks/digests.py --write FILE [--quick] [--only PATTERN]
python benchmarks/digests.py --check FILE [--quick] [--only PATTERN]

Digests are valid on one machine with its versions of the libraries. Graphs (`--quick`: only these) are of small networks that
cover every operator, stem, norm and precision, with seeded weights. Jobs run through the command line, on digits, in one
thread, and under counted budgets, so that no timing influences them. Metadata of graphs are left out, because the JSON of
architecture and history may change its form. Logits are digested too: they show whether a graph that differs computes the
same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import optuna
import torch
from rich.console import Console
from rich.table import Table
from safetensors.numpy import load_file

sys.path.insert(0, str(Path(__file__).parent.parent))

from digests_networks import NETWORKS, PARENT

from wb.core.architecture import Architecture
from wb.export.graph import export
from wb.models.model import Model
from wb.models.network import build

ROOT = Path(__file__).parent.parent
WB = [sys.executable, "-m", "wb.cli.main"]
# What every job is given; it writes the file or folder that is named like it. All but `train` and `search` read its model.
FAST = " --seed 3 --threads 1"
TRAIN = "train --architecture parent.json -o train.safetensors --epochs 2"
JOBS = {
    "train": TRAIN,
    "prune": "prune nvit train.safetensors -o prune.safetensors --budget macs=0.6x --rounds 2 --recovery 4 --samples 64 "
    "--finetune 1",
    "depth": "prune depth train.safetensors -o depth.safetensors --budget macs=0.7x --samples 64 --finetune 1",
    "fuse": "fuse train.safetensors other.safetensors -o fuse.safetensors --data digits --samples 128 --finetune 1",
    "quantize": "quantize train.safetensors -o quantize.onnx",
    "static": "quantize train.safetensors -o static.onnx --policy int8 --samples 32",
    "binarize": "binarize train.safetensors -o binarize.safetensors --attention hash --weights w2 --finetune 1",
    "search": "search -o search --objectives acc,params --trials 20 --epochs 1 --finetune 1 --limit 400 --set embed=8,16 "
    "--set depth=1,2",
}


def sha(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def of_weights(path: Path) -> str:
    """Digest of names, shapes and bytes, in the order of the names, without metadata."""
    parts: list[bytes] = []
    for name, weight in sorted(load_file(path).items()):
        parts += [name.encode(), str(weight.shape).encode(), weight.tobytes()]
    return sha(*parts)


def of_graph(path: Path) -> dict[str, str]:
    """Digests of a graph file without its metadata, and of its logits for four images, one by one."""
    graph = onnx.load(path)
    del graph.metadata_props[:]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((4, 1, 8, 8), dtype=np.float32)
    logits = [np.asarray(session.run(None, {"pixel_values": image[None]})[0]) for image in images]
    plain = graph.SerializeToString(deterministic=True)
    return {"graph": sha(plain), "logits": sha(*(each.tobytes() for each in logits))}


def graphs(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Digests of every network's exported file."""
    for i, (name, content) in enumerate(NETWORKS.items()):
        if not wanted(f"graphs/{name}"):
            continue
        architecture = Architecture.from_json(json.dumps(content))
        generator = torch.Generator().manual_seed(0)
        shapes = {key: weight.shape for key, weight in sorted(build(architecture).named_parameters())}
        weights = {key: 0.3 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
        export(Model(architecture, weights), folder / f"{i}.onnx")
        yield from ((f"graphs/{name}/{kind}", digest) for kind, digest in of_graph(folder / f"{i}.onnx").items())


def jobs(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Digests of the files of every job."""
    chosen = [name for name in JOBS if wanted(f"jobs/{name}")]
    (folder / "parent.json").write_text(json.dumps(PARENT), encoding="utf-8")
    if set(chosen) - {"train", "search"}:
        chosen = ["train", *(name for name in chosen if name != "train")]
    if "fuse" in chosen:
        _wb(TRAIN.replace("train.", "other.") + " --seed 4", folder)
    for name in chosen:
        _wb(JOBS[name] + FAST, folder)
        if (folder / f"{name}.safetensors").exists() and name not in ("quantize", "static"):
            yield f"jobs/{name}/weights", of_weights(folder / f"{name}.safetensors")
        if (folder / f"{name}.onnx").exists():
            yield from ((f"jobs/{name}/{kind}", digest) for kind, digest in of_graph(folder / f"{name}.onnx").items())
    if "search" in chosen:
        yield from ((f"jobs/search/{name}", digest) for name, digest in of_run(folder / "search").items())


def of_run(run: Path) -> dict[str, str]:
    """Digest of a run: its weights, the choices and counted readings of its trials, and its front; nothing that was timed."""
    study = optuna.load_study(study_name=None, storage=f"sqlite:///{run / 'study.db'}")
    trials = [[trial.number, trial.state.name, trial.params, trial.values] for trial in study.trials]
    front = json.loads((run / "front.json").read_text(encoding="utf-8"))
    points = [[p["id"], p["choices"], p["test"]["value"], p["values"]["acc"]["value"]] for p in front]
    models = [path for path in sorted((run / "models").iterdir()) if path.suffix == ".safetensors"]
    return {
        "supernet": of_weights(run / "supernet.safetensors"),
        "largest": of_weights(run / "largest.safetensors"),
        "trials": sha(json.dumps(trials, sort_keys=True).encode()),
        "front": sha(json.dumps(points, sort_keys=True).encode()),
        "models": sha(*(of_weights(path).encode() for path in models)),
    }


def _wb(command: str, folder: Path) -> None:
    places = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    words = [*WB, *command.split()]
    done = subprocess.run(words, cwd=folder, env=os.environ | places, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"wb {command}: exit code {done.returncode}\n{done.stderr}")


def compare(known: dict[str, str], found: dict[str, str], wanted: Callable[[str], bool]) -> int:
    """Prints which digests are equal and which differ; returns how many differ."""
    table = Table("what", "digest", "against the file")
    wrong = 0
    for name in sorted({name for name in known if wanted(name)} | set(found)):
        old, new = known.get(name), found.get(name)
        verdict = "same" if old == new else "not in the file" if old is None else "gone" if new is None else "different"
        wrong += verdict != "same"
        table.add_row(name, (new or "")[:12], verdict, style=None if verdict == "same" else "bold red")
    Console().print(table, f"{wrong} of {table.row_count} are not the same" if wrong else "all are the same")
    return wrong


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the digests; with --only, beside those there")
    parser.add_argument("--check", type=Path, metavar="FILE", help="compare with those that were written")
    parser.add_argument("--only", metavar="PATTERN", default="*", help="'graphs/w*', 'jobs/prune*'")
    parser.add_argument("--quick", action="store_true", help="graphs only")
    return parser


def main() -> None:
    parser = arguments()
    given = parser.parse_args()
    if (given.write is None) == (given.check is None):
        parser.error("give --write FILE or --check FILE")

    def wanted(name: str) -> bool:
        return fnmatch(name, given.only) and not (given.quick and name.startswith("jobs/"))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in (graphs, jobs):
            for name, digest in part(Path(folder), wanted):
                found[name] = digest
                print(name, file=sys.stderr)
    path: Path = given.write or given.check
    known = json.loads(path.read_text(encoding="utf-8")) if given.check or path.exists() else {}
    if given.write:
        path.write_text(json.dumps(known | found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"wrote {path}")
    elif compare(known, found, wanted):
        raise SystemExit(1)


if __name__ == "__main__":
    main()

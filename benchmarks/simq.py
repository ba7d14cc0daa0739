"""SimQ-NAS's comparison on our own supernets: searching architecture and precision together against one after the other.

    python benchmarks/simq.py --cache FOLDER [--data idx:PATH/fashion-mnist --limit 10000] [--trials 100 --seeds 3]

One supernet per seed serves every row. All searches have the same sampler and number of true evaluations, each of which
exports the candidate in its precisions, times the file and scores it on the validation split:

    joint           architecture and precision of every group, int8 or fp32 (with --int4 a row that has int4 too)
    float           architectures in fp32
    float, INT8     the float search's front, every network fully in INT8; the search ends earlier, by as many evaluations
    float and INT8  that shorter float search and its front in INT8 together
    INT8            architectures, all fully in INT8

Hypervolumes are of validation error, latency and size, the last two over those of the largest network in fp32; the reference
point is --worst error at that network's latency and size. `linear`: a share of that box. `log`: in percentage points times
halvings of latency times halvings of size, so that each halving counts alike. The last columns compare with the largest
network fully in INT8: the least latency and size, one network for both, at no less accuracy: the smaller of the two ratios is
as large as possible. Mean and standard deviation over seeds. An interrupted run continues from --cache.

With --finetune EPOCHS a second table compares what `wb search` delivers, where finalists are fine-tuned with the supernet's
largest network as teacher: of every search the three most accurate networks that have at most half the latency and half the size
of the largest one in INT8, fine-tuned and measured again, and that one itself, fine-tuned alike.

Source: SimQ-NAS, https://arxiv.org/abs/2312.13301, where baselines are fully INT8 networks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from tables import Table, begin, parser_of, told

from wb.core.architecture import Architecture
from wb.core.measures.metrics import parse_objectives
from wb.core.measures.readings import Reading
from wb.core.precision import allowed, precisions, with_precisions
from wb.data import load
from wb.export.assess import Assessor
from wb.export.timing.measure import reference_pace
from wb.hardware.device import Device
from wb.search.beginning.recipes import FINETUNE_RATE
from wb.search.crew.crew import Crew
from wb.search.ending.front import front
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.sampler.hypervolume import hypervolume
from wb.search.sampler.sampler import make_sampler
from wb.search.study.optimize import Optimization
from wb.search.study.storage import file_url
from wb.search.study.study import create_study, load_study
from wb.search.study.trials import evaluated, readings_of
from wb.search.supernet import Supernet, train_supernet
from wb.spaces.columnar.presets import vit_space
from wb.training.fit import Recipe
from wb.training.train import Finetune

METRICS = parse_objectives("acc,latency,size")
SEARCHES = {"joint": "int8,fp32", "float": "fp32", "INT8": "int8"}
Row = Sequence[tuple[float, float, float]]  # error, latency in ms, bytes
Found = Sequence[tuple[Architecture, Mapping[str, Reading]]]


class Seed:
    """One seed's supernet, searches and readings, kept in a folder."""

    def __init__(self, options: argparse.Namespace, seed: int) -> None:
        self.options, self.seed = options, seed
        self.data = load(options.data, limit=options.limit)
        self.folder = Path(options.cache) / self.data.fingerprint / options.preset / str(seed)
        self.folder.mkdir(parents=True, exist_ok=True)

    @cached_property
    def supernet(self) -> Supernet:
        """The supernet of the seed, trained once for all precisions, which play no part in training."""
        path, space = self.folder / "supernet.safetensors", vit_space(self.data, self.options.preset)
        if not path.exists():
            recipe = Recipe(epochs=self.options.epochs)
            train_supernet(space, self.data, recipe, seed=self.seed, checkpoint=self.folder / "check.pt").to(
                "cpu"
            ).save(path)
        return Supernet.load(path, space)

    @cached_property
    def evaluate(self) -> Evaluator:
        """The pace of the reference graph, the same for all evaluations of a seed."""
        path = self.folder / "pace.json"
        if not path.exists():
            path.write_text(reference_pace(Device()).model_dump_json(), encoding="utf-8")
        pace = Reading.model_validate_json(path.read_text(encoding="utf-8"))
        return Evaluator(self.supernet, self.data, Device(), pace, seed=self.seed)

    def search(self, name: str, options: str) -> list[tuple[Architecture, dict[str, Reading]]]:
        """Every evaluated network of one search."""
        space = vit_space(self.data, self.options.preset, {"precision": options})
        file, crew = self.folder / f"{name}.db", Crew(self.folder)
        study = load_study(file_url(file), name) if file.exists() else create_study(file_url(file), name, METRICS)
        study.sampler = make_sampler("guided", space, (), self.seed, crew.name)
        evaluator = Evaluator(
            Supernet(space, self.supernet.weights), self.data, Device(), self.evaluate.pace, seed=self.seed
        )

        def tell(count: int, trial: object) -> None:
            if count % 10 == 0:
                told(f"seed {self.seed}, {name}: {count} of {self.options.trials}")

        def evaluate(architecture: Architecture) -> Evaluation:
            return evaluator(architecture)

        Optimization(study, space, METRICS, (), evaluate, self.options.trials, tell, crew)()
        found = evaluated(study)[: self.options.trials]
        return [(space.decode({n: t.params[n] for n in space.genes}), readings_of(t)) for t in found]

    def fully(self, name: str, architectures: Sequence[Architecture], precision: str) -> list[dict[str, Reading]]:
        """Readings of the architectures with every group in one precision, evaluated once."""
        path = self.folder / f"{name}.json"
        known: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        found = []
        for architecture in architectures:
            policy = {g: precision for g, options in allowed(architecture).items() if precision in options}
            changed = with_precisions(architecture, policy)
            if changed.key not in known:
                readings = self.evaluate(changed).readings
                known[changed.key] = {metric: r.model_dump(mode="json") for metric, r in readings.items()}
                path.write_text(json.dumps(known), encoding="utf-8")
            found.append({metric: Reading.model_validate(r) for metric, r in known[changed.key].items()})
        return found

    def tuned(self, architecture: Architecture, epochs: int) -> dict[str, Reading]:
        """Readings of a network after fine-tuning as `wb search` does it."""
        path = self.folder / f"tuned-{epochs}.json"
        known: dict[str, dict[str, object]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if architecture.key not in known:
            largest = self.supernet.space.largest()
            recipe = Recipe(epochs=epochs, learning_rate=FINETUNE_RATE)
            tune = Finetune(self.data, recipe, lambda images: self.supernet.run(largest, images), self.seed)
            model = tune(self.supernet.extract(architecture))
            assess = Assessor(Device(), self.evaluate.pace, self.seed)
            readings = assess({"model": model}, {"acc": self.data.validation}, cap_s=3.0)["model"]
            known[architecture.key] = {metric: r.model_dump(mode="json") for metric, r in readings.items()}
            path.write_text(json.dumps(known), encoding="utf-8")
        return {metric: Reading.model_validate(r) for metric, r in known[architecture.key].items()}


def costs(readings: Sequence[Mapping[str, Reading]]) -> Row:
    """Error, latency and size of each network."""
    return [(1 - r["acc"].value, r["latency"].value, r["size"].value) for r in readings]


def rows(seed: Seed) -> tuple[dict[str, Row], Row, dict[str, Found]]:
    """What every row of the table found, the largest network in fp32 and in INT8, and all networks of the searches."""
    largest = vit_space(seed.data, seed.options.preset).largest()
    ends = costs([*seed.fully("largest", [largest], "fp32"), *seed.fully("largest-int8", [largest], "int8")])
    searches = dict(SEARCHES) | ({"joint with int4": "int4,int8,fp32"} if seed.options.int4 else {})
    runs = {name: seed.search(name, options) for name, options in searches.items()}
    found = {name: costs([readings for _, readings in run]) for name, run in runs.items()}
    shorter, best = _first(runs["float"])
    found["float, INT8"] = costs(seed.fully("float-int8", best, "int8"))
    found["float and INT8"] = [*found["float"][:shorter], *found["float, INT8"]]
    order = ["joint", "joint with int4", "float", "float, INT8", "float and INT8", "INT8"]
    return {name: found[name] for name in order if name in found}, ends, dict(runs)


def _first(run: Found) -> tuple[int, list[Architecture]]:
    """The first evaluations, so many that one is left for each network of their front; and that front."""
    for count in range(len(run), 0, -1):
        best = front({n: readings for n, (_, readings) in enumerate(run[:count])}, METRICS, ())
        if count + len(best) <= len(run):
            return count, [run[n][0] for n in best]
    return 0, []


def delivered(seed: Seed, runs: Mapping[str, Found], ends: Row, epochs: int) -> dict[str, tuple[float, float, float]]:
    """Of every search the most accurate of the fine-tuned candidates: validation accuracy, times faster and smaller than the
    largest network in INT8, which comes first.
    """
    largest = vit_space(seed.data, seed.options.preset).largest()
    int8 = with_precisions(largest, dict.fromkeys(precisions(largest), "int8"))
    base = seed.tuned(int8, epochs)
    found = {"largest, INT8": (100 * base["acc"].value, 1.0, 1.0)}
    for name, run in runs.items():
        small = [
            (architecture, readings)
            for architecture, readings in run
            if readings["latency"].value <= ends[1][1] / 2 and readings["size"].value <= ends[1][2] / 2
        ]
        small.sort(key=lambda one: -one[1]["acc"].value)
        tuned = [seed.tuned(architecture, epochs) for architecture, _ in small[:3]]
        if tuned:
            best = max(tuned, key=lambda readings: readings["acc"].value)
            faster, smaller = (base[metric].value / best[metric].value for metric in ("latency", "size"))
            found[name] = (100 * best["acc"].value, faster, smaller)
    return found


def judge(row: Row, ends: Row, worst: float) -> dict[str, float]:
    """The numbers of one row of the table, for one seed."""
    points, (largest, int8) = np.array(row), np.array(ends)
    unit = points / np.array([worst, largest[1], largest[2]])
    halved = np.column_stack([100 * points[:, 0], np.log2(points[:, 1:] / largest[1:])])
    safe = points[points[:, 0] <= int8[0] + 1e-9]
    ratios = int8[1:] / safe[:, 1:] if len(safe) else np.zeros((1, 2))
    latency, size = ratios[ratios.min(axis=1).argmax()]
    return {
        "linear": hypervolume(unit, [1, 1, 1]),
        "log": hypervolume(halved, [100 * worst, 0, 0]),
        "best": 100 * (1 - points[:, 0].min()),
        "latency": latency,
        "size": size,
    }


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--cache", required=True)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--limit", type=int, help="training images")
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--epochs", type=int, default=60, help="of training the supernet")
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--worst", type=float, default=0.5, help="error of the reference point")
    parser.add_argument("--int4", action="store_true")
    parser.add_argument("--finetune", type=int, default=0, help="epochs; prints the second table")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    judged: dict[str, list[dict[str, float]]] = {}
    tuned: dict[str, dict[int, tuple[float, float, float]]] = {}
    for number in range(options.seeds):
        seed = Seed(options, number)
        found, ends, runs = rows(seed)
        for name, row in found.items():
            judged.setdefault(name, []).append(judge(row, ends, options.worst))
        interim = number + 1 < options.seeds
        what = f"{seed.data.spec}, {len(seed.data.train)} training images; {options.trials} evaluations"
        out.table(searches_table(judged, f"{what}, {number + 1} seeds"), interim=interim)
        (e, ms, b), (e8, ms8, b8) = ends
        out.say(f"seed {number}: largest fp32 {100 - 100 * e:.2f} %, {ms:.3f} ms, {b / 1e3:.0f} kB; "
                f"INT8 {100 - 100 * e8:.2f} %, {ms8:.3f} ms, {b8 / 1e3:.0f} kB")  # fmt: skip
        if options.finetune:
            for name, one in delivered(seed, runs, ends, options.finetune).items():
                tuned.setdefault(name, {})[number] = one
            out.table(tuned_table(tuned, options.finetune), interim=interim)


def searches_table(judged: Mapping[str, Sequence[Mapping[str, float]]], title: str) -> Table:
    """Every search over the seeds so far."""
    heads = (
        "hypervolume, linear",
        "log",
        "joint - this, log",
        "best validation %",
        "latency: x faster",
        "size: x smaller",
    )
    table = Table(title, ("search", *heads))
    for name, seeds in judged.items():
        cells = [_spread([s[key] for s in seeds], form) for key, form in (("linear", ".4f"), ("log", ".1f"))]
        cells.append(_spread([j["log"] - s["log"] for j, s in zip(judged["joint"], seeds, strict=True)], "+.1f"))
        cells += [_spread([s[key] for s in seeds], ".2f") for key in ("best", "latency", "size")]
        table.row(name, *cells)
    return table


def tuned_table(tuned: Mapping[str, Mapping[int, tuple[float, float, float]]], epochs: int) -> Table:
    """What every search delivers, over the seeds so far."""
    base = tuned["largest, INT8"]
    title = f"at most half the latency and size of the largest in INT8; {epochs} epochs of fine-tuning for all"
    columns = ("search", "validation %", "- largest INT8, points", "latency: x faster", "size: x smaller", "seeds")
    table = Table(title, columns)
    for name, seeds in tuned.items():
        lost = [row[0] - base[seed][0] for seed, row in seeds.items()]
        cells = [_spread([row[i] for row in seeds.values()], ".2f") for i in range(3)]
        table.row(name, cells[0], _spread(lost, "+.2f"), *cells[1:], str(len(seeds)))
    return table


def _spread(values: Sequence[float], form: str) -> str:
    return f"{np.mean(values):{form}} ± {np.std(values, ddof=1) if len(values) > 1 else 0:{form.strip('+')}}"


if __name__ == "__main__":
    main()

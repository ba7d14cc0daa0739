"""Searches with all mixers against searches with softmax attention alone, at equal evaluations and CPU time.

    python benchmarks/mixers.py --task animals64 --data imagefolder:PATH/animals --seeds 0 --minutes 4 --cache FOLDER
    python benchmarks/mixers.py --task banking77 --data csv:PATH/train.csv,PATH/test.csv --seeds 0,1,2 --cache FOLDER
    python benchmarks/mixers.py --task listops512 --seeds 0 --cache FOLDER

Both arms of a task have the same data, space, seed, number of evaluations and of finalists, and epochs of fine-tuning; they
differ in the mixers that a block may have: none and softmax, or none and all that the space supports. A supernet is trained for
as many epochs as fit into the same processor seconds, by timed steps: those of many kinds take longer. Candidates are chosen
by inherited accuracy and measured latency. Twins with mirror images or in 8 bits are left out.

The files of both fronts are timed together; a latency is a multiple of the reference graph's. `area` is the accuracy of the
network that is best on validation within a latency, less that of chance, averaged over all latencies up to that of the slowest
network of any seed and arm, in %: on validation it is the hypervolume with (accuracy of chance, that latency) as its reference
point, as a share of the whole rectangle; on test the networks are the same, chosen on validation. In `log` latencies count by
their logarithms, from the fastest network on.

What is in the cache is not made again: an interrupted search continues, further seeds are added by later calls, and the tables
are of all seeds there with the same settings. ListOps of 384 to 512 tokens is generated into the cache: up to ten arguments and
ten levels, a quarter of the arguments expressions.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # processor seconds of several threads would not compare

import torch
from mixers_tables import ALL, ARMS, SOFTMAX, report
from tables import begin, parser_of, told

from wb import api
from wb.core.architecture import Architecture
from wb.core.space import random_choices
from wb.data import Dataset, load
from wb.data.batches import typical
from wb.data.texts.listops import OPERATIONS
from wb.export.timing.measure import measure_latency
from wb.hardware.device import Device
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.recipes import supernet_recipe, tuning_recipe
from wb.search.fidelity.yardstick import held_back, ranking
from wb.search.run import Run
from wb.search.supernet import Supernet, sandwich
from wb.spaces.base import NetworkSpace
from wb.spaces.operators import NONE, OFFERED
from wb.spaces.spaces import space_for
from wb.training.fit import Batch

SUPERNET, TUNING = 0.45, 0.35  # shares of the time; the rest is for evaluations
NOMINAL = 20  # epochs, of the recipe whose steps are timed
STEPS = 40  # of the supernet that are timed, in which every kind of mixer has its turn
DRAWS = 8  # networks whose fine-tuning is timed
Changes = Mapping[str, str]


@dataclass(frozen=True)
class Task:
    """A space, its preset, and what of that is replaced."""

    space: str
    preset: str
    changes: Changes


WIDTHS = {"embed": "16,32,64", "heads": "1,2,4", "qk": "8,16", "v": "8,16", "mlp": "0,1,2"}
TASKS: Mapping[str, Task] = {
    "animals64": Task("vit", "tiny", {**WIDTHS, "depth": "1,2,3", "stem_width": "16", "patch": "4"}),
    "animals256": Task(
        "vit", "tiny", {**WIDTHS, "embed": "16,32,48", "depth": "1,2,3", "stem_width": "16", "patch": "2"}
    ),
    "banking77": Task("text", "encoder", {"depth": "1,2"}),
    "listops512": Task("text", "encoder", {**WIDTHS, "depth": "1,2", "ffn": "mlp"}),
}
SIZES = {"train": 3000, "validation": 500, "test": 1000}  # of ListOps
TOKENS = (384, 512)
LEVELS, ARGUMENTS, DEEPER = 10, (2, 10), 0.25


def listops(folder: Path) -> str:
    """The data of long expressions, written into the folder if they are not there."""
    paths = {part: folder / f"listops-{part}.csv" for part in SIZES}
    draws = random.Random(0)  # whose numbers from `random` no version changes
    if not all(path.exists() for path in paths.values()):
        for part, path in paths.items():
            with path.with_suffix(".part").open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(("text", "label"))
                for _ in range(SIZES[part]):
                    writer.writerow(_fitting(draws))
            path.with_suffix(".part").rename(path)
    return f"csv,tokenizer=words,length={TOKENS[1]}:{','.join(map(str, paths.values()))}"


def _fitting(draws: random.Random) -> tuple[str, int]:
    """An expression with a fitting number of tokens, and its value."""
    while True:
        words: list[str] = []
        value = _expression(draws, LEVELS, words)
        if TOKENS[0] <= _tokens(words) <= TOKENS[1]:
            return " ".join(words), value


def _tokens(words: Sequence[str]) -> int:
    """How many tokens they are: an operation's bracket is one of its own."""
    return len(words) + sum(len(word) > 1 for word in words)


def _expression(draws: random.Random, levels: int, words: list[str]) -> int:
    """The value of an expression, whose words are appended; one that gets too long is broken off."""
    name = list(OPERATIONS)[int(draws.random() * len(OPERATIONS))]
    words.append(f"[{name}")
    values = []
    for _ in range(ARGUMENTS[0] + int(draws.random() * (ARGUMENTS[1] - ARGUMENTS[0] + 1))):
        if len(words) > TOKENS[1]:
            return 0
        if levels > 1 and draws.random() < DEEPER:
            values.append(_expression(draws, levels - 1, words))
        else:
            values.append(int(draws.random() * 10))
            words.append(str(values[-1]))
    words.append("]")
    return OPERATIONS[name](values)


@dataclass(frozen=True)
class Bench:
    """One task with its data, and what both arms share."""

    name: str
    spec: str
    minutes: float
    trials: int
    finalists: int
    limit: int | None
    cache: Path

    @property
    def stem(self) -> str:
        """What files of these settings begin with."""
        limit = "" if self.limit is None else f"-{self.limit}"
        return f"{self.name}{limit}-{self.minutes:g}min-{self.trials}-{self.finalists}"

    def space(self, data: Dataset, arm: str) -> NetworkSpace:
        """The space of an arm."""
        task = TASKS[self.name]
        return space_for(data, task.space, task.preset, self.changes(data, arm))

    def changes(self, data: Dataset, arm: str) -> dict[str, str]:
        """What an arm replaces in the preset: none and the mixers that compute on what the stem gives."""
        task = TASKS[self.name]
        first = space_for(data, task.space, task.preset, {**task.changes, "mixer": f"{NONE},{SOFTMAX}"})
        (layout,) = first.largest().layouts()
        mixers = {SOFTMAX: [SOFTMAX], ALL: [kind for kind, record in OFFERED.items() if record.lacks(layout) is None]}
        return {**task.changes, "mixer": ",".join([NONE, *mixers[arm]])}

    def plan(self, data: Dataset) -> dict[str, int]:
        """The epochs of each arm's supernet, and those of fine-tuning; timed once, and kept."""
        path = self.cache / f"{self.stem}-plan.json"
        if not path.exists():
            seconds = {arm: _supernet_epoch(self.space(data, arm), data) for arm in ARMS}
            tuning = self.finalists * _tuning_epoch(self.space(data, SOFTMAX), data)
            found = {arm: round(60 * self.minutes * SUPERNET / epoch) for arm, epoch in seconds.items()}
            found["finetune"] = round(60 * self.minutes * TUNING / tuning)
            told(f"{self.name}: CPU seconds of an epoch, supernets {seconds}, finalists together {tuning:.1f}")
            path.write_text(json.dumps({name: max(1, epochs) for name, epochs in found.items()}))
        return dict(json.loads(path.read_text()))

    def search(self, data: Dataset, arm: str, seed: int) -> tuple[Run, float]:
        """A finished search, and its CPU seconds; one that was interrupted continues."""
        folder, note = self.cache / f"{self.stem}-{arm}-{seed}", self.cache / f"{self.stem}-{arm}-{seed}.seconds"
        run, spent = Run(folder), float(note.read_text()) if note.exists() else 0.0
        if run.front_path.exists():
            return run, spent
        plan, task, start = self.plan(data), TASKS[self.name], time.process_time()
        begun = run.record_path.exists()
        given: dict[str, Any] = {"resume": folder} if begun else {
            "data": self.spec, "space": task.space, "preset": task.preset, "changes": self.changes(data, arm),
            "trials": self.trials, "epochs": plan[arm], "finalists": self.finalists, "finetune": plan["finetune"],
            "rungs": "none", "mirror": False, "int8": False, "limit": self.limit, "seed": seed, "out": folder,
        }  # fmt: skip
        told(f"{self.name}, seed {seed}, {arm}: {plan[arm]} epochs of the supernet, {plan['finetune']} of finalists")
        try:
            api.search(**given, workers=1, quiet=True)
        finally:
            spent += time.process_time() - start
            note.write_text(f"{spent:.1f}")
        told(f"{self.name}, seed {seed}, {arm}: {spent:.0f} CPU s")
        return run, spent

    def seed(self, data: Dataset, seed: int) -> None:
        """Makes what the cache lacks of a seed: both searches, and their fronts timed together."""
        path = self.cache / f"{self.stem}-seed{seed}.json"
        if path.exists():
            return
        runs = {arm: self.search(data, arm, seed) for arm in ARMS}
        files = {f"{a} {p.id}": run.folder / p.onnx for a, (run, _) in runs.items() for p in run.read_front()}
        timed = measure_latency(dict(files), Device())
        found = {
            arm: {
                "seconds": seconds,
                "epochs": self.plan(data)[arm],
                "front": [
                    {
                        "ratio": timed[f"{arm} {point.id}"].ratio.value,
                        "validation": point.validation.value,
                        "test": point.test.value,
                        "architecture": dict(point.architecture),
                    }
                    for point in run.read_front()
                ],
            }
            for arm, (run, seconds) in runs.items()
        }
        path.write_text(json.dumps(found))

    def seeds(self) -> dict[int, dict[str, Any]]:
        """What the cache has of these settings, by seed."""
        found = {
            int(re.findall(r"seed(\d+)", path.stem)[-1]): path for path in self.cache.glob(f"{self.stem}-seed*.json")
        }
        return {seed: json.loads(path.read_text()) for seed, path in sorted(found.items())}


def _supernet_epoch(space: NetworkSpace, data: Dataset) -> float:
    """CPU seconds of an epoch of training the supernet: the mean of steps from all of a training."""
    config = SearchConfig(epochs=NOMINAL)
    ranks = ranking(data, held_back(data), 1.0)
    recipe, supernet = supernet_recipe(config, space, ranks), Supernet.fresh(space, 0)
    images, labels = typical(ranks.train, recipe.batch)
    backward, steps = sandwich(supernet, recipe, 0), iter(range(STEPS))

    def step() -> None:
        backward(Batch(images, labels, next(steps), STEPS))

    return _mean(step, list(supernet.weights.values()), STEPS - 1) * (recipe.steps(len(ranks.train)) // NOMINAL)


def _tuning_epoch(space: NetworkSpace, data: Dataset) -> float:
    """CPU seconds of an epoch of training one of a few random networks, in the mean."""
    recipe, rng = tuning_recipe(SearchConfig(), space, data, NOMINAL), random.Random(0)
    supernet, found = Supernet.fresh(space, 0), []
    images, _ = typical(data.train, recipe.batch)
    for architecture in [space.decode(random_choices(space, rng)) for _ in range(DRAWS)]:

        def step(architecture: Architecture = architecture) -> None:
            supernet.run(architecture, images).square().mean().backward()

        found.append(_mean(step, list(supernet.weights.values()), 2))
    return fmean(found) * recipe.steps(len(data.train)) / NOMINAL


def _mean(step: Callable[[], None], weights: Sequence[torch.nn.Parameter], count: int) -> float:
    """CPU seconds of one step with its optimizer's, after one for warming up."""
    optimizer = torch.optim.AdamW(weights, lr=1e-9)
    for number in range(count + 1):
        if number == 1:
            start = time.process_time()
        optimizer.zero_grad(set_to_none=True)
        step()
        optimizer.step()
    return (time.process_time() - start) / count


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    parser.add_argument("--task", dest="suite", choices=tuple(TASKS), required=True)
    parser.add_argument("--data", help="as for --data of wb search; listops512 generates its own")
    parser.add_argument("--seeds", default="0", help="to make, e.g. 0,1,2; those in the cache are shown, too")
    parser.add_argument("--minutes", type=float, default=4, help="of CPU time of a search, about")
    parser.add_argument("--trials", type=int, default=40, help="evaluations")
    parser.add_argument("--finalists", type=int, default=6)
    parser.add_argument("--limit", type=int, help="training examples")
    parser.add_argument("--cache", type=Path, required=True, help="where searches and figures are kept")
    return parser


def main() -> None:
    options, out = begin(arguments())
    torch.set_num_threads(1)
    options.cache.mkdir(parents=True, exist_ok=True)
    if options.suite == "listops512":
        options.data = listops(options.cache)
    if options.data is None:
        raise SystemExit(
            f"{options.suite} needs --data, e.g. imagefolder:PATH/animals or csv:PATH/train.csv,PATH/test.csv"
        )
    data = load(options.data, limit=options.limit)
    bench = Bench(
        options.suite, options.data, options.minutes, options.trials, options.finalists, options.limit, options.cache
    )
    for seed in map(int, options.seeds.split(",")):
        bench.seed(data, seed)
    title = (
        f"{bench.name}: {len(data.train):,} {data.train.noun}, {bench.trials} evaluations, {bench.finalists} finalists"
    )
    report(title, bench.seeds(), 1 / len(data.classes), out)


if __name__ == "__main__":
    main()

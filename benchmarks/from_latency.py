"""`wb search --from` beside every other way to the same measured latency: same model, same epochs of fine-tuning, same teacher.

    python benchmarks/from_latency.py --data idx:PATH/fashion-mnist --limit 10000 --cache FOLDER [--model FILE]

The transformer of `benchmarks/compensation.py`, or the model in a file, at shares of its latency, on ONNX Runtime with one
thread. Every method lands on the limit by measuring: `prune nvit` as it was, with compensation, and with head bases too; `prune
depth`; `--from`; uniform shrinking, which leaves every sub-layer the same share of heads and units, fitted and corrected as those
of `--from`; torch-pruning as tuned for `benchmarks/pruning.py`. `KL` and `as cut` are before fine-tuning, on the first test
images; `from scratch` is the network that `--from` found, trained for as many epochs as the model and the fine-tuning together,
with the same teacher. `supernet` is the best on validation images, within the limit, of the networks that `wb search --from MODEL
--supernet` ends with: trained for as many epochs as the model, each then fine-tuned as the others are. In the end the networks of
a limit are timed together. A row without figures did not reach its limit. The target: after fine-tuning `--from` is behind no
other method.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import fmean

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from compensation import CPU, PARENT, SIZES, mean
from pruning_latency import theirs_at, timed
from pruning_models import dense
from tables import Output, Table, begin, parser_of, told
from torch import Tensor, nn
from torch.nn import functional as F
from torch_pruning_vit import PlainViT
from torch_pruning_vit import count_macs as count_plain
from torch_pruning_vit import finetune as finetune_plain

from wb.compress.nvit.compensate import refitted
from wb.compress.nvit.settings import Settings
from wb.compress.prune.begin import begin as prune
from wb.compress.prune.config import PruneConfig
from wb.core.errors import BudgetMissed
from wb.data import Dataset, load
from wb.foreign.reading import load as load_foreign
from wb.models.counting import count_macs
from wb.models.model import Model, save
from wb.models.model import load as load_model
from wb.search.alternatives.option import WHOLE, Option
from wb.search.trained.begin import begin as search
from wb.search.trained.config import TrainedConfig
from wb.search.trained.job import TrainedJob
from wb.spaces.columnar.presets import vit_space
from wb.tasks.classes import CLASSES
from wb.training.fit import Recipe
from wb.training.train import Finetune, score, train

IMAGES = 2000  # test images for the KL
FROM, SCRATCH, SUPERNET = "`--from`", "its network from scratch", "supernet"
TOLERANCE = 1.03  # of a limit, for networks that others landed on it
NVIT = {
    "nvit as it was": {"rotate": False, "compensate": False},
    "nvit, compensated": {"rotate": False},
    "nvit": dict[str, bool](),
}
LADDER = ((4, 3 / 4), (3, 3 / 4), (3, 5 / 8), (2, 1 / 2), (2, 3 / 8), (1, 1 / 4), (1, 3 / 16), (1, 1 / 8), (1, 1 / 16))
Network = Model | PlainViT


@dataclass(frozen=True)
class Row:
    """One network: shares of latency and MACs, KL and accuracy as cut, accuracy in the end."""

    latency: float
    macs: float
    divergence: float | None
    before: float | None
    after: float


def silent(*_: object) -> None:
    """Nobody listens."""


class Bench:
    """One model, and everything that is made of it."""

    def __init__(self, model: Model, data: Dataset, seed: int, options: argparse.Namespace) -> None:
        self.model, self.data, self.seed, self.options = model, data, seed, options
        self.folder = options.cache / f"latency-{model.fingerprint()}-{seed}"
        self.images = torch.from_numpy(data.test.pixels(range(min(IMAGES, len(data.test)))))
        self.labels = torch.from_numpy(data.test.labels[: len(self.images)])
        self.wanted = self._answers(model.network())
        self.recipe = Recipe(epochs=options.epochs, learning_rate=1e-3)

    def rows(self, target: float) -> Iterator[tuple[str, Row | None]]:
        """Every method's row; None of one that does not reach the limit."""
        cut: dict[str, Network] = {}
        for name, method in self._methods(target).items():
            try:
                cut[name] = method()
            except BudgetMissed as error:
                told(f"{target}: {name}", error)
        tuned = {name: self._tuned(network) for name, network in cut.items()}
        if isinstance(found := cut.get(FROM), Model):
            recipe = PARENT.model_copy(update={"epochs": self.options.parent + self.options.epochs})
            tuned[SCRATCH] = train(found.architecture, self.data, recipe, seed=self.seed, teacher=self.model.network())
        if (best := self._of_supernet(target)) is not None:
            tuned[SUPERNET] = best
        ratios = timed({"dense": self.model} | tuned)
        for name in (*self._methods(target), SCRATCH, SUPERNET):
            row = self._row(cut.get(name), tuned[name], ratios[name]) if name in tuned else None
            told(f"seed {self.seed}, {target}: {name}", row)
            yield name, row

    def _methods(self, target: float) -> dict[str, Callable[[], Network]]:
        def nvit(name: str) -> Callable[[], Network]:
            settings = Settings(seed=self.seed, rounds=self.options.rounds, **NVIT[name])
            return lambda: self._pruned(PruneConfig(settings=settings), target, name)

        depth = PruneConfig(method="depth", settings=Settings(seed=self.seed, rounds=1, rotate=False))
        return {
            **{name: nvit(name) for name in NVIT},
            "depth": lambda: self._pruned(depth, target, "depth"),
            "uniform": lambda: self._uniform(target),
            "torch-pruning": lambda: self._theirs(target),
            FROM: lambda: self._found(target),
        }

    def _pruned(self, config: PruneConfig, target: float, name: str) -> Model:
        """As the commands do it, without fine-tuning; what is there already is read back."""
        rounds = f"-{config.settings.rounds}-rounds" if config.method == "nvit" else ""
        out = self.folder / f"{name.replace(' ', '-')}{rounds}-{target:g}.safetensors"
        if not out.exists():
            changes = {"data": self.data.spec, "budget": (f"latency={target:g}x",), "finetune": 0}
            prune(config.model_copy(update=changes), self.model, "model", self.data, out, silent, force=True)()
        return load_model(out)

    def _theirs(self, target: float) -> PlainViT:
        cut = theirs_at(self.model, self.data, self.seed, target)
        if (ratio := timed({"dense": self.model, "cut": cut})["cut"]) > TOLERANCE * target:
            raise BudgetMissed(f"what comes nearest is at {ratio:.3f} of the latency")
        return cut

    def _of_supernet(self, target: float) -> Model | None:
        """The network of the supernet's front that validation says is best within the limit; None if none is."""
        fronts = [(latency, value, path) for path, latency, value in self._front if latency <= TOLERANCE * target]
        return load_model(max(fronts, key=lambda one: one[1])[2]) if fronts else None

    @cached_property
    def _front(self) -> list[tuple[Path, float, float]]:
        """File, share of the latency and validation accuracy of every network that a search with a supernet ends with."""
        run, source = self.folder / f"supernet-{self.options.parent}", self.folder / "model.safetensors"
        if not (run / "report.html").exists():
            told(f"seed {self.seed}: a supernet")
            self.folder.mkdir(parents=True, exist_ok=True)
            save(self.model, source, force=True)
            options = {"--from": source, "--data": self.data.spec, "--limit": self.options.limit, "--out": run}
            options |= {"--epochs": self.options.parent, "--trials": self.options.trials, "--finalists": 8}
            options |= {"--rungs": "none", "--finetune": self.options.epochs, "--seed": self.seed}
            given = [str(part) for option, value in options.items() if value is not None for part in (option, value)]
            what = ["--resume", str(run)] if run.exists() else ["--supernet", *given]
            subprocess.run([sys.executable, "-m", "wb", "search", *what], check=True)
        models = {path: load_model(path) for path in sorted(run.glob("models/*.safetensors"))}
        ratios = timed({"dense": self.model} | {str(path): model for path, model in models.items()})
        values = {
            path: score(model.network(), self.data.validation, CLASSES, CPU).value for path, model in models.items()
        }
        return [(path, ratios[str(path)], value) for path, value in values.items()]

    @cached_property
    def library(self) -> TrainedJob:
        """A search that is begun and not done; its library is that of all of them."""
        return self._searched(0.5, f"library-{self.options.samples}")

    def _searched(self, target: float, name: str) -> TrainedJob:
        config = TrainedConfig(
            data=self.data.spec,
            budget=(f"latency={target:g}x",),
            seed=self.seed,
            finetune=0,
            calibration=self.options.samples,
        )
        out = self.folder / name / "report.html"
        return search(config, self.model, "model", self.data, out, silent)

    def _found(self, target: float) -> Model:
        """By the search, without fine-tuning; what is there already is read back."""
        path = self.folder / f"from-{self.options.samples}-{target:g}" / f"latency-{target:g}x.safetensors"
        if not path.exists():
            self._searched(target, path.parent.name)()
        return load_model(path)

    def _uniform(self, target: float) -> Model:
        """The largest of the ladder within the limit, by measuring, with the alternatives of the search."""
        best, low, high = None, 0, len(LADDER)  # all before `low` are over it, all from `high` on within
        while low < high:
            middle = (low + high) // 2
            cut = self._evenly(*LADDER[middle])
            ratio = timed({"dense": self.model, "cut": cut})["cut"]
            told(f"  uniform, {LADDER[middle]} of heads and units: {ratio:.3f} of the latency")
            if ratio <= target:
                best, high = cut, middle
            else:
                low = middle + 1
        if best is None:
            raise BudgetMissed("the smallest of the ladder is over the limit")
        return refitted(best, self.model, {}, self.data, seed=self.seed).model

    def _evenly(self, heads: int, share: float) -> Model:
        """The model with so many heads of all channels, and that share of the units, in every sub-layer."""
        scores = self.library.scores
        return scores.model_of({slot: _even(of, heads, share) for slot, of in scores.options.items()})

    def _tuned(self, network: Network) -> Network:
        teacher = self.model.network()
        if isinstance(network, Model):
            return Finetune(self.data, self.recipe, teacher, self.seed)(network)
        return finetune_plain(network, self.data, self.recipe, teacher, self.seed)

    def _row(self, cut: Network | None, tuned: Network, latency: float) -> Row:
        full = count_macs(self.model.architecture).value
        macs = count_macs(tuned.architecture).value if isinstance(tuned, Model) else count_plain(tuned)
        divergence = before = None
        if cut is not None:
            found = self._answers(_network(cut))
            divergence = F.kl_div(found, self.wanted, log_target=True, reduction="batchmean").item()
            before = (found.argmax(1) == self.labels).double().mean().item()
        after = score(_network(tuned), self.data.test, CLASSES, CPU).value
        return Row(latency, macs / full, divergence, before, after)

    def _answers(self, network: nn.Module) -> Tensor:
        """The logarithms of probabilities, (n, classes)."""
        with torch.inference_mode():
            return torch.cat([network(part) for part in self.images.split(250)]).log_softmax(1)


def _network(network: Network) -> nn.Module:
    return network.network() if isinstance(network, Model) else network


def _even(options: dict[str, Option], heads: int, share: float) -> str:
    """The alternative of a sub-layer with so many heads of all channels, or that share of the units."""
    mixers = [one for one in options.values() if one.unit == "heads"]
    if mixers:
        most = max(len(one.kept) for one in mixers)
        full = max((one.qk or 0, one.v or 0) for one in mixers)
        return next((o.name for o in mixers if len(o.kept) == heads < most and (o.qk or 0, o.v or 0) == full), WHOLE)
    units = {name: len(one.kept) for name, one in options.items() if one.unit == "mlp"}
    whole = max(units.values()) * 4 / 3  # three quarters are the largest alternative
    return min(units, key=lambda name: abs(units[name] - share * whole))


def tables(options: argparse.Namespace, out: Output) -> bool:
    """Prints the table; whether the target is met."""
    data = load(options.data, limit=options.limit)
    architecture = vit_space(data, "plain", SIZES).largest("softmax")
    seeds = [int(seed) for seed in options.seeds.split(",")]
    recipe = PARENT.model_copy(update={"epochs": options.parent})
    given = options.model and load_foreign(options.model)
    benches = [Bench(given or dense(data, architecture, recipe, s, options.cache), data, s, options) for s in seeds]
    reached = [score(one.model.network(), data.test, CLASSES, CPU).value for one in benches]
    accuracy = mean(reached, 2)
    title = (
        f"{Path(data.spec).name}, {len(data.train)} images, seeds {options.seeds}: mean (each); the model, "
        f"{options.parent} epochs, {accuracy} %"
    )
    ending = f"test after {options.epochs} epochs, %"
    table = Table(title, ("method", "asked", "latency", "MACs", "KL, 1e-3", "as cut, %", ending))
    faults: list[str] = []
    for target in map(float, options.targets.split(",")):
        found: dict[str, list[Row]] = {}
        for bench in benches:
            for name, row in bench.rows(target):
                found.setdefault(name, []).extend([] if row is None else [row])
        for name, rows in found.items():
            table.row(name, f"{target:g}x", *cells(rows))
        table.rule()
        faults += behind(found, target)
    out.table(table)
    error = 100 * (fmean(reached) * (1 - fmean(reached)) / len(data.test)) ** 0.5
    out.say(f"The standard error of one accuracy is about {error:.2f} points, less for differences.")
    out.say(f"Behind: {'; '.join(faults)}." if faults else "No other method is ahead of `--from` after fine-tuning.")
    return not faults


def cells(rows: list[Row]) -> list[str]:
    """The figures of one method at one limit."""
    if not rows:
        return ["missed", *["–"] * 4]
    divergences = [row.divergence for row in rows if row.divergence is not None]
    before = [row.before for row in rows if row.before is not None]
    return [
        f"{mean([row.latency for row in rows], 3, 1)}x",
        f"{mean([row.macs for row in rows], 3, 1)}x",
        mean(divergences, 1, 1000) if divergences else "–",
        mean(before, 2) if before else "–",
        mean([row.after for row in rows], 2),
    ]


def behind(found: dict[str, list[Row]], target: float) -> Iterator[str]:
    """What is ahead of `--from` after fine-tuning, of those that every seed has."""
    own = found.get(FROM, [])
    for name, rows in found.items():
        if name != FROM and own and len(rows) == len(own):
            lead = fmean(row.after for row in rows) - fmean(row.after for row in own)
            if lead > 0:
                yield f"{target:g}x: {100 * lead:.2f} points behind {name}"


def arguments() -> argparse.ArgumentParser:
    parser = parser_of(__doc__)
    for name, default in (("--data", "digits"), ("--seeds", "0"), ("--targets", "0.5,0.35,0.25,0.15")):
        parser.add_argument(name, default=default)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--model", type=Path, help="a model file; without it one is trained")
    parser.add_argument("--trials", type=int, default=60, help="of the search with a supernet")
    parser.add_argument("--parent", type=int, default=PARENT.epochs, help="epochs of the model")
    parser.add_argument("--epochs", type=int, default=3, help="of fine-tuning")
    parser.add_argument("--rounds", type=int, default=10, help="of nvit")
    parser.add_argument("--samples", type=int, default=1024, help="training images that alternatives are fitted to")
    parser.add_argument("--cache", type=Path, default=Path("runs/pruning-benchmark"), help="where models are kept")
    return parser


def main() -> None:
    torch.set_num_threads(1)
    options, out = begin(arguments())
    sys.exit(0 if tables(options, out) else 3)


if __name__ == "__main__":
    main()

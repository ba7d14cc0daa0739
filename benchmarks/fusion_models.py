"""Parts that the fusion benchmarks share: data, networks, parents that are trained once, and a cache of all results.

Numbers are lines of a JSON file, models lie in a folder beside it. A key contains everything that determines the entry.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from pydantic import JsonValue
from torch import Tensor

import wb.fusion
from wb.core.architecture import Architecture
from wb.data import Dataset, Split, load
from wb.data.batches import batches
from wb.data.dataset import fingerprint_of
from wb.data.split import Images
from wb.data.stratify import choose
from wb.models.model import Model, from_network, save
from wb.models.model import load as load_model
from wb.models.network import build
from wb.spaces.columnar.presets import vit_space
from wb.training.fit import Recipe
from wb.training.train import Finetune, train

PLAIN = Recipe(learning_rate=1e-3, label_smoothing=0.0, augment="none")  # batches of 32, one-cycle, AdamW
PARENTS = 2e-3  # the peak learning rate that makes the best parents
Key = Mapping[str, JsonValue]
Logits = Callable[[Tensor], Tensor]


def digits() -> Dataset:
    """The 1,797 digits as 1,200 training, 197 validation and 400 test images, stratified."""
    source = load("digits")
    parts = (source.train, source.validation, source.test)
    whole = Images(*(np.concatenate(a) for a in zip(*((p.images, p.labels) for p in parts), strict=True)))
    test = choose(whole.labels, 400)
    rest = whole.take(np.setdiff1d(np.arange(len(whole)), test))
    chosen = choose(rest.labels, 197)
    train_split = rest.take(np.setdiff1d(np.arange(len(rest)), chosen))
    splits = train_split, rest.take(chosen), whole.take(test)
    fingerprint = fingerprint_of(source.classes, *splits)
    return Dataset("digits", "digits, 1200/197/400", *splits, source.classes, fingerprint)


def network(data: Dataset, patch: int, width: int = 64, depth: int = 5, heads: int = 4) -> Architecture:
    """A vision transformer with a class token, heads of 16 channels and feed-forwards of twice its width."""
    sizes = {"embed": width, "depth": depth, "heads": heads, "qk": 16, "v": 16, "mlp": 2, "patch": patch}
    options = {name: str(size) for name, size in sizes.items()} | {"mixer": "softmax"}
    return vit_space(data, "plain", options).largest("softmax")


def initial(architecture: Architecture, seed: int) -> Model:
    """A network with initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = build(architecture)
        made.reset()
    return from_network(architecture, made)


def ensemble(models: list[Model]) -> Logits:
    """The logarithm of the mean of the models' probabilities."""
    networks = [model.network() for model in models]

    def logits(images: Tensor) -> Tensor:
        return torch.stack([net(images).softmax(dim=1) for net in networks]).mean(dim=0).clamp(min=1e-12).log()

    return logits


def judge(logits: Logits, split: Split) -> dict[str, float]:
    """Accuracy as a fraction, and mean cross entropy in nats."""
    right, loss = 0, 0.0
    with torch.inference_mode():
        for part in map(split.take, split.together(256)):  # of texts those of about one length
            for images, labels in batches(part, 256, shuffle=False):
                found = logits(images)
                right += int((found.argmax(dim=1) == labels).sum())
                loss += float(torch.nn.functional.cross_entropy(found, labels, reduction="sum"))
    return {"accuracy": right / len(split), "loss": loss / len(split)}


def pixels(data: Dataset, count: int | None = None) -> Tensor:
    """Training images, or texts as ids, without their labels: `count` of them, drawn at random, or all."""
    index = slice(None) if count is None else np.random.default_rng(0).permutation(len(data.train))[:count]
    return torch.from_numpy(data.train.inputs(index))


def code() -> str:
    """The version of wb.fusion: 16 hexadecimal digits of the hash of its sources."""
    digest = hashlib.sha256()
    for path in sorted(Path(next(iter(wb.fusion.__path__))).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@dataclass
class Cache:
    """Numbers in `path`, one JSON object a line; models in the folder of that name without its ending."""

    path: Path
    known: dict[str, dict[str, float]] = field(default_factory=dict)
    code: str = field(default_factory=code)  # before anything is fused

    def __post_init__(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:  # the end of an interrupted run
                continue
            self.known[_digest(entry["key"])] = entry["found"]

    def numbers(self, key: Key, find: Callable[[], dict[str, float]]) -> dict[str, float]:
        """The cached number for `key`, or the one that is computed now."""
        name = _digest(key)
        if name not in self.known:
            self.known[name] = find()
            with self.path.open("a") as file:
                file.write(json.dumps({"key": key, "found": self.known[name]}) + "\n")
        return self.known[name]

    def timed(self, key: Key, make: Callable[[], Model]) -> tuple[Model, float]:
        """The cached model for `key`, or the one that is made now, and the CPU seconds that making it took."""
        path = self.path.with_suffix("") / f"{_digest(key)}.safetensors"

        def find() -> dict[str, float]:
            start = time.process_time()
            model = make()
            seconds = time.process_time() - start
            save(model, path, force=True)
            return {"seconds": seconds}

        if not path.exists():
            self.known.pop(_digest(key), None)
        seconds = self.numbers(key, find)["seconds"]
        return load_model(path), seconds

    def model(self, key: Key, make: Callable[[], Model]) -> Model:
        """The model of `key`, without the seconds."""
        return self.timed(key, make)[0]


@dataclass(frozen=True)
class Bench:
    """One data set with its cache: what trains, fine-tunes and judges models of it, with `plain` but for epochs and rate."""

    data: Dataset
    cache: Cache
    epochs: int  # of parents
    rates: tuple[float, ...]
    plain: Recipe = PLAIN

    def parent(self, architecture: Architecture, seed: int) -> Model:
        """A network trained from scratch."""
        recipe = self.plain.model_copy(update={"epochs": self.epochs, "learning_rate": PARENTS})
        key: Key = {"parent": architecture.key, "data": self.data.fingerprint, "seed": seed, **recipe.arguments}
        return self.cache.model(key, lambda: train(architecture, self.data, recipe, seed=seed))

    def tuned(self, model: Model, epochs: int, seed: int, teachers: list[Model] | None = None) -> dict[str, float]:
        """Accuracy and loss on the test split after further training, with the rate of the best validation loss."""
        runs = [self._tuned(model, epochs, rate, seed, teachers or []) for rate in self.rates]
        return min(runs, key=lambda run: run["validation"])

    def _tuned(self, model: Model, epochs: int, rate: float, seed: int, teachers: list[Model]) -> dict[str, float]:
        recipe = self.plain.model_copy(update={"epochs": epochs, "learning_rate": rate})
        prints: list[JsonValue] = [teacher.fingerprint() for teacher in teachers]
        data = self.data.fingerprint
        key: Key = {"tuned": model.fingerprint(), "data": data, "seed": seed, "teachers": prints, **recipe.arguments}

        def find() -> dict[str, float]:
            teacher = ensemble(teachers) if teachers else None
            found = Finetune(self.data, recipe, teacher, seed)(model).network()
            chosen_by = judge(found, self.data.validation)["loss"]
            return {**judge(found, self.data.test), "validation": chosen_by, "rate": rate}

        return self.cache.numbers(key, find)

    def judged(self, model: Model) -> dict[str, float]:
        """Accuracy and loss on the test split."""
        key: Key = {"judged": model.fingerprint(), "data": self.data.fingerprint}
        return self.cache.numbers(key, lambda: judge(model.network(), self.data.test))


def _digest(key: Key) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:24]

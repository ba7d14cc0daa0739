"""`wb prune depgraph` from start to end: a module and data that fit it, pruning, fine-tuning, readings of its files."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from wb.compress.depgraph.config import DepgraphConfig
from wb.compress.depgraph.foreign import check_module, finetune, import_factory, label_loss, load_weights
from wb.compress.depgraph.graph import Size, measure_size
from wb.compress.depgraph.latency import judged, prune_to_latency
from wb.compress.depgraph.pruning import Pruned, prune_module
from wb.core.commands.progress import Progress
from wb.core.measures.metrics import Limit
from wb.core.measures.readings import Reading, ratio
from wb.core.specs import PIXELS
from wb.core.statistics.verdict import Judgement
from wb.data import Dataset, Split
from wb.data import load as load_data
from wb.data.batches import batches
from wb.data.preparation import Preparation, described
from wb.data.spec import resolved
from wb.export.graph import IMAGES, check_parity, export_module
from wb.export.score import examined
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device
from wb.jobs.frame.tune import tuning
from wb.tasks.classes import CLASSES
from wb.tasks.names import matched
from wb.training.fit import pick_device

Stages = dict[str, dict[str, Reading]]


class ModuleJob:
    """The steps of the command on one module; its graphs lie in `folder`, and `progress` hears what is being done."""

    def __init__(
        self, dense: nn.Module, dataset: Dataset, device: Device, seed: int, folder: Path, progress: Progress
    ) -> None:
        self.dense, self.dataset, self.device, self.seed = dense, dataset, device, seed
        self.folder, self.progress = folder, progress
        self.example = _first(dataset).to(next(dense.parameters()).device)
        self.prepared = dataset.test.preparation
        self.stages: Stages = {}
        self.timed: dict[str, Latency] = {}  # the first and the last stage, together

    @property
    def last(self) -> str:
        """The stage that was read last."""
        return list(self.stages)[-1]

    def graph(self, stage: str) -> Path:
        """Where a stage's graph is."""
        return self.folder / f"{stage}.onnx"

    def write(self, module: nn.Module, path: Path) -> None:
        """Writes `module` as a graph, and checks it against the module. Raises `ExportDiffers`."""
        network, images = copy.deepcopy(module).cpu().eval(), _first(self.dataset)
        metadata = {"wb.labels": json.dumps(self.dataset.classes)}
        if self.prepared is not None:
            metadata[IMAGES] = self.prepared.model_dump_json()
        feed = {PIXELS: images}
        export_module(network, feed, path, metadata=metadata)
        check_parity(network, path, feed, self.device)

    def read(self, module: nn.Module, stage: str) -> None:
        """Exports `module` and adds its readings to the stages: validation accuracy, size of the file, MACs, parameters."""
        self.progress(f"exporting and scoring, {stage}", 0, 0)
        self.write(module, self.graph(stage))
        size = measure_size(module, self.example)
        self.stages[stage] = {
            "accuracy (validation)": self.score(stage, self.dataset.validation),
            "macs": Reading(value=size.macs, unit="MAC", how="counted"),
            "params": Reading(value=size.params, unit="parameters", how="counted"),
            "size": Reading(value=self.graph(stage).stat().st_size, unit="B", how="counted"),
        }

    def score(self, stage: str, split: Split) -> Reading:
        """The accuracy of a stage's file; that of the dense one notes how images were prepared, and whether it is near chance."""
        reading, doubt = examined(self.graph(stage), split, CLASSES, self.device)
        if stage != "dense":
            return reading
        order = matched(self.dataset, (), None, "the module")[1]
        return reading.model_copy(
            update={"note": "; ".join((described(self.prepared), *order, *filter(None, [doubt])))}
        )

    def prune(
        self,
        limits: Sequence[Limit],
        timed: Limit | None,
        images: Sequence[tuple[Tensor, Tensor]],
        rounds: int,
        **options: Any,
    ) -> Pruned:
        """Prunes to `timed`, a limit on latency, or else to `limits`; reads the module before and after.

        Options are those of `prune_module`.
        """

        def run(limits: Sequence[Limit]) -> Pruned:
            self.progress("pruning", 0, rounds)
            return prune_module(
                self.dense, self.example, images, label_loss, limits, rounds=rounds, report=report, **options
            )

        def report(done: int, _: int, size: Size) -> None:
            self.progress(f"pruning, {size.macs:,} MACs", done, rounds)

        self.read(self.dense, "dense")
        if timed is None:
            pruned = run(limits)
        else:
            dense = self.graph("dense")
            pruned = prune_to_latency(lambda one: run([one]), self.write, dense, timed, self.device, seed=self.seed)
        self.read(pruned.module, "pruned")
        return pruned

    def batches(self, count: int, size: int) -> list[tuple[Tensor, Tensor]]:
        """`count` training images drawn with the seed, in mini-batches."""
        order = np.random.default_rng(self.seed).permutation(len(self.dataset.train))[:count]
        chosen, where = self.dataset.train.take(order), self.example.device
        return [(images.to(where), labels.to(where)) for images, labels in batches(chosen, size, shuffle=False)]

    def finetune(self, module: nn.Module, config: DepgraphConfig) -> None:
        """Fine-tunes `module` in place, and reads the result."""
        epochs = config.finetune
        self.progress("fine-tuning", 0, epochs)

        def report(epoch: int, _: int, loss: float) -> None:
            self.progress(f"fine-tuning, loss {loss:.3f}", epoch, epochs)

        recipe = tuning(config, sum(weight.numel() for weight in module.parameters()), self.dataset)
        teacher = self.dense.eval() if config.distill else None
        finetune(module, teacher, self.dataset, recipe, seed=self.seed, report=report)
        self.read(module, "fine-tuned")

    def finish(self) -> None:
        """Reads test accuracy and latency of the first and the last stage, both timed together."""
        ends = ("dense", self.last)
        self.progress("timing", 0, 0)
        self.timed = measure_latency({stage: self.graph(stage) for stage in ends}, self.device, seed=self.seed)
        dense = self.timed["dense"].ratio
        for stage in ends:
            self.stages[stage]["accuracy (test)"] = self.score(stage, self.dataset.test)
            self.stages[stage]["latency"] = self.timed[stage].reading
            self.stages[stage]["latency / dense"] = ratio(self.timed[stage].ratio, dense)

    def judged(self, limit: Limit) -> Judgement:
        """The last stage's latency, judged by the limit."""
        return judged(limit, self.timed["dense"], self.timed[self.last])


def read(
    factory: str,
    weights: Path | None,
    data: str | None,
    image_size: int | None,
    limit: int | None,
    images: Preparation | None,
) -> tuple[nn.Module, Dataset]:
    """The dense module, on the device where it is trained, and data that fit it."""
    dense = import_factory(factory)()
    if weights is not None:
        load_weights(dense, weights)
    dataset = load_data(resolved(data or "digits"), image_size=image_size, limit=limit).prepared(images)
    check_module(dense, _first(dataset), len(dataset.classes))
    return dense.to(pick_device()), dataset


def _first(dataset: Dataset) -> Tensor:
    """Two validation images (or one, if there is no more), float32 in [0, 1]."""
    return torch.from_numpy(dataset.validation.pixels(slice(0, 2)))

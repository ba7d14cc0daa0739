"""`wb prune depgraph`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli import _output
from wb.cli._depgraph import print_json, tell
from wb.cli._dry_run import DryRunOption
from wb.cli._dry_run import tell as show_plan
from wb.cli._images import read_preparation
from wb.cli._kinds import need
from wb.cli._options import (
    SAMPLES,
    BackgroundOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    MeanOption,
    PreprocessorOption,
    ScaleOption,
    SeedOption,
    StdOption,
    ThreadsOption,
)
from wb.cli._read import given_data

if TYPE_CHECKING:
    from torch import Tensor, nn

    from wb.compress.depgraph.pruning import Pruned
    from wb.core.metrics import Limit
    from wb.core.plan import Planned
    from wb.core.readings import Reading
    from wb.core.statistics.verdict import Judgement
    from wb.data import Dataset, Split
    from wb.data.preparation import Preparation
    from wb.export.timing.measure import Latency
    from wb.hardware.device import Device

    Stages = dict[str, dict[str, Reading]]


def depgraph(
    factory: Annotated[str, typer.Argument(help="MODULE:FACTORY, what gives the nn.Module when it is called.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write; weights go beside it.")],
    budget: Annotated[
        list[str], typer.Option(help="macs=0.5x, params=1M, or latency=0.7x; a share of the module's, or absolute.")
    ],
    weights: Annotated[Path | None, typer.Option(help="State dict to load (.safetensors or .pt).")] = None,
    data: DataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    calib: Annotated[
        int, typer.Option(SAMPLES, min=1, help="Training images that the saliency sees, each round.")
    ] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images per mini-batch of the saliency.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds in which the budget is approached.")] = 5,
    round_to: Annotated[int, typer.Option(min=1, help="Make numbers of channels multiples of this.")] = 1,
    cost: Annotated[
        str | None, typer.Option(help="What saliency is divided by: macs, params or none.", show_default="the budget's")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A layer that keeps its outputs; may be repeated.")] = None,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning afterwards.")] = 6,
    learning_rate: Annotated[float, typer.Option(min=0, help="Its peak.")] = 1e-3,
    distill: Annotated[bool, typer.Option(help="Fine-tune with the dense module as teacher.")] = True,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prune any importable nn.Module of images to classes, through torch-pruning's dependency graph.

    Images are shown in 0 to 1, unless --mean, --std, --scale or --preprocessor say what the module's loader makes of them.
    The ONNX file, which says that too, is the deliverable; the .safetensors has the pruned shapes and does not load into
    what FACTORY gives.

    A budget is on latency, or on macs and params. If the last latency is over it, all is written and the exit code is 3.
    """
    import torch

    from wb.compress.depgraph.foreign import publish
    from wb.compress.depgraph.graph import require
    from wb.compress.depgraph.latency import check_limits
    from wb.core.errors import BudgetMissed
    from wb.core.files import scratch
    from wb.core.metrics import Rules, parse_budget
    from wb.hardware.device import parse_device

    data = given_data(data, background)
    if weights is not None:
        need(weights, "weights", "model", "torch", expected="a state dict (.safetensors or .pt)")
    beside = _check_names(out, force)
    limits = parse_budget(budget, Rules(("latency", "macs", "params")))
    timed = check_limits(limits)
    options = {"rounds": rounds, "round_to": round_to, "cost": _checked_cost(cost), "keep": keep or ()}
    require()
    torch.set_num_threads(1 if threads is None else threads)
    images = read_preparation(mean, std, scale, preprocessor)
    where = parse_device(device or "cpu", threads=1 if threads is None else threads)
    if dry_run:
        effort = (rounds, calib, batch, finetune, distill)
        stages = _plan(factory, (weights, data, image_size, limit, images), limits, where, effort)
        show_plan(stages, [beside, out], as_json=as_json)
        return
    with _output.progress() as progress, scratch() as folder:
        task = progress.add_task("reading", total=None)
        dense, dataset = _read(factory, weights, data, image_size, limit, images)
        job = _Job(dense, dataset, where, seed or 0, Path(folder), progress, task)
        pruned = job.prune(limits, timed, job.batches(calib, batch), **options)
        if finetune:
            job.finetune(pruned.module, finetune, learning_rate, distill)
        job.finish()
        publish(pruned.module, job.graph(job.last), out, beside, force=force)
    judgement = None if timed is None else job.judged(timed)
    if as_json:
        print_json(job.stages, judgement, pruned, out, beside)
    else:
        tell(job.stages, judgement, pruned, factory, out, beside)
    if judgement is not None and judgement.verdict == "missed":
        raise BudgetMissed(
            f"the budget is missed: {judgement.text('the dense module')}. The files are written, but a quieter machine or a "
            "lower budget is needed to be sure"
        )


class _Job:
    """The steps of the command on one module, with a line of progress each; its graphs lie in `folder`."""

    def __init__(
        self, dense: nn.Module, dataset: Dataset, device: Device, seed: int, folder: Path, progress: Any, task: Any
    ) -> None:
        self.dense, self.dataset, self.device, self.seed = dense, dataset, device, seed
        self.folder, self.progress, self.task = folder, progress, task
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

    def tell(self, what: str, total: int | None = None) -> None:
        """A new line of progress."""
        self.progress.update(self.task, description=what, total=total, completed=0)

    def write(self, module: nn.Module, path: Path) -> None:
        """`module` as a graph, checked against it. Raises `ExportDiffers`."""
        import copy
        import json

        from wb.core.specs import PIXELS
        from wb.export.graph import IMAGES, check_parity, export_module

        network, images = copy.deepcopy(module).cpu().eval(), _first(self.dataset)
        metadata = {"wb.labels": json.dumps(self.dataset.classes)}
        if self.prepared is not None:
            metadata[IMAGES] = self.prepared.model_dump_json()
        feed = {PIXELS: images}
        export_module(network, feed, path, metadata=metadata)
        check_parity(network, path, feed, self.device)

    def read(self, module: nn.Module, stage: str) -> None:
        """Exports; adds to the stages validation accuracy and size of the file, MACs and parameters of the module."""
        from wb.compress.depgraph.graph import measure_size
        from wb.core.readings import Reading

        self.tell(f"exporting and scoring, {stage}")
        self.write(module, self.graph(stage))
        size = measure_size(module, self.example)
        self.stages[stage] = {
            "accuracy (validation)": self.score(stage, self.dataset.validation),
            "macs": Reading(value=size.macs, unit="MAC", how="counted"),
            "params": Reading(value=size.params, unit="parameters", how="counted"),
            "size": Reading(value=self.graph(stage).stat().st_size, unit="B", how="counted"),
        }

    def score(self, stage: str, split: Split) -> Reading:
        """Accuracy of a stage's file; of the dense one also what the images were shown as, and whether it is near chance."""
        from wb.data.preparation import described
        from wb.export.score import examined
        from wb.tasks.classes import CLASSES
        from wb.tasks.names import matched

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
        """To `timed`, a limit on latency, or else to `limits`; reads both ends. Options are those of `prune_module`."""
        from wb.compress.depgraph.foreign import label_loss
        from wb.compress.depgraph.graph import Size
        from wb.compress.depgraph.latency import prune_to_latency
        from wb.compress.depgraph.pruning import prune_module

        def run(limits: Sequence[Limit]) -> Pruned:
            self.tell("pruning", rounds)
            return prune_module(
                self.dense, self.example, images, label_loss, limits, rounds=rounds, report=report, **options
            )

        def report(done: int, _: int, size: Size) -> None:
            text = f"pruning, {size.macs:,} MACs"
            self.progress.update(self.task, completed=done, description=text)

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
        import numpy as np

        from wb.data.batches import batches

        order = np.random.default_rng(self.seed).permutation(len(self.dataset.train))[:count]
        chosen, where = self.dataset.train.take(order), self.example.device
        return [(images.to(where), labels.to(where)) for images, labels in batches(chosen, size, shuffle=False)]

    def finetune(self, module: nn.Module, epochs: int, learning_rate: float, distill: bool) -> None:
        """In place, and reads the result."""
        from wb.compress.depgraph.foreign import SMOOTHING, finetune
        from wb.training.fit import Recipe

        self.tell("fine-tuning", epochs)

        def report(epoch: int, _: int, loss: float) -> None:
            self.progress.update(self.task, completed=epoch, description=f"fine-tuning, loss {loss:.3f}")

        recipe = Recipe(epochs=epochs, learning_rate=learning_rate, label_smoothing=SMOOTHING)
        teacher = self.dense.eval() if distill else None
        finetune(module, teacher, self.dataset, recipe, seed=self.seed, report=report)
        self.read(module, "fine-tuned")

    def finish(self) -> None:
        """Test accuracy and latency of the first and the last stage, both timed together."""
        from wb.core.readings import ratio
        from wb.export.timing.measure import measure_latency

        ends = ("dense", self.last)
        self.tell("timing")
        self.timed = measure_latency({stage: self.graph(stage) for stage in ends}, self.device, seed=self.seed)
        dense = self.timed["dense"].ratio
        for stage in ends:
            self.stages[stage]["accuracy (test)"] = self.score(stage, self.dataset.test)
            self.stages[stage]["latency"] = self.timed[stage].reading
            self.stages[stage]["latency / dense"] = ratio(self.timed[stage].ratio, dense)

    def judged(self, limit: Limit) -> Judgement:
        """The last readings against a limit on latency."""
        from wb.compress.depgraph.latency import judged

        return judged(limit, self.timed["dense"], self.timed[self.last])


def _plan(
    factory: str,
    given: tuple[Path | None, str | None, int | None, int | None, Preparation | None],
    limits: Sequence[Limit],
    device: Device,
    effort: tuple[int, int, int, int, bool],
) -> list[Planned]:
    """What would be done; `given` and `effort` are what `_read` and `Options` take. Raises as the command before it begins."""
    import time

    from wb.compress.depgraph.estimate import Options, estimate
    from wb.training.estimate import data_stage

    with _output.progress() as progress:
        task = progress.add_task("reading", total=None)
        start = time.perf_counter()
        dense, dataset = _read(factory, *given)
        read = data_stage(dataset, time.perf_counter() - start)
        job = _Job(dense, dataset, device, 0, Path(), progress, task)
        job.tell("timing a few steps")
        return [read, *estimate(dense, factory, dataset, job.write, limits, device, Options(*effort))]


def _check_names(out: Path, force: bool) -> Path:
    """Where the weights go. Raises `BadOption` for a name that does not fit or that is taken."""
    from wb.core.errors import BadOption

    if out.suffix != ".onnx":
        raise BadOption(f"{out.name} is no name for an ONNX file; end it in .onnx")
    beside = out.with_suffix(".safetensors")
    for path in (out, beside):
        if path.exists() and not force:
            raise BadOption(f"{path} exists already; choose another name or say --force to replace it")
    return beside


def _checked_cost(cost: str | None) -> Any:
    from wb.core.errors import BadOption

    if cost not in (None, "macs", "params", "none"):
        raise BadOption(f"no cost {cost!r}; there are macs, params and none")
    return cost


def _read(
    factory: str,
    weights: Path | None,
    data: str | None,
    image_size: int | None,
    limit: int | None,
    images: Preparation | None,
) -> tuple[nn.Module, Dataset]:
    """The dense module, on the device where it is trained, and data that fit it."""
    from wb.compress.depgraph.foreign import check_module, import_factory, load_weights
    from wb.data import load as load_data
    from wb.data.spec import resolved
    from wb.training.fit import pick_device

    dense = import_factory(factory)()
    if weights is not None:
        load_weights(dense, weights)
    dataset = load_data(resolved(data or "digits"), image_size=image_size, limit=limit).prepared(images)
    check_module(dense, _first(dataset), len(dataset.classes))
    return dense.to(pick_device()), dataset


def _first(dataset: Dataset) -> Tensor:
    """Two validation images (or one, if there is no more), float32 in [0, 1]."""
    import torch

    return torch.from_numpy(dataset.validation.pixels(slice(0, 2)))

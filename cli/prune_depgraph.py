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
from wb.cli._options import (
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
from wb.jobs.kinds import need
from wb.jobs.names import SAMPLES

if TYPE_CHECKING:
    from wb.core.metrics import Limit
    from wb.core.plan import Planned
    from wb.core.readings import Reading
    from wb.data.preparation import Preparation
    from wb.hardware.device import Device

    Stages = dict[str, dict[str, Reading]]


def depgraph(
    factory: Annotated[str, typer.Argument(help="MODULE:FACTORY, a callable that returns the nn.Module.")],
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
        int, typer.Option(SAMPLES, min=1, help="Training images to compute the saliency on, each round.")
    ] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Images per mini-batch of the saliency.")] = 16,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of pruning down to the budget.")] = 5,
    round_to: Annotated[int, typer.Option(min=1, help="Make numbers of channels multiples of this.")] = 1,
    cost: Annotated[
        str | None, typer.Option(help="Cost to divide saliency by: macs, params or none.", show_default="the budget's")
    ] = None,
    keep: Annotated[list[str] | None, typer.Option(help="A layer that keeps its outputs; may be repeated.")] = None,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning afterwards.")] = 6,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak learning rate of fine-tuning.")] = 1e-3,
    distill: Annotated[bool, typer.Option(help="Fine-tune with the dense module as teacher.")] = True,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prune any importable nn.Module of images to classes, through torch-pruning's dependency graph.

    The module gets images in 0 to 1, prepared as --mean, --std, --scale or --preprocessor say. The ONNX file, whose metadata
    describe that preparation, is the deliverable. The .safetensors file has the pruned shapes and does not load into the module
    that FACTORY returns.

    A budget is on latency, or on macs and params. If the last latency is over it, all is written and the exit code is 3.
    """
    import torch

    from wb.cli._job import telling
    from wb.compress.depgraph.foreign import publish
    from wb.compress.depgraph.graph import require
    from wb.compress.depgraph.job import ModuleJob, read
    from wb.compress.depgraph.latency import check_limits
    from wb.core.errors import BudgetMissed
    from wb.core.files import scratch
    from wb.core.metrics import Rules, parse_budget
    from wb.hardware.device import parse_device
    from wb.jobs.inputs import given_data
    from wb.jobs.preparation import read_preparation

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
    with _output.progress() as work, scratch() as folder:
        progress = telling(work, "reading")
        dense, dataset = read(factory, weights, data, image_size, limit, images)
        job = ModuleJob(dense, dataset, where, seed or 0, Path(folder), progress)
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


def _plan(
    factory: str,
    given: tuple[Path | None, str | None, int | None, int | None, Preparation | None],
    limits: Sequence[Limit],
    device: Device,
    effort: tuple[int, int, int, int, bool],
) -> list[Planned]:
    """The plan; `given` has the arguments of `read`, `effort` those of `Options`. Raises as the command before it begins."""
    import time

    from wb.cli._job import telling
    from wb.compress.depgraph.estimate import Options, estimate
    from wb.compress.depgraph.job import ModuleJob, read
    from wb.training.estimate import data_stage

    with _output.progress() as work:
        progress = telling(work, "reading")
        start = time.perf_counter()
        dense, dataset = read(factory, *given)
        reading = data_stage(dataset, time.perf_counter() - start)
        job = ModuleJob(dense, dataset, device, 0, Path(), progress)
        progress("timing a few steps", 0, 0)
        return [reading, *estimate(dense, factory, dataset, job.write, limits, device, Options(*effort))]


def _check_names(out: Path, force: bool) -> Path:
    """The file of the weights. Raises `BadOption` for an ending that does not fit or a file that exists."""
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

"""`wb prune depgraph`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import (
    BackgroundOption,
    ForceOption,
    JsonOption,
    MeanOption,
    PreprocessorOption,
    ScaleOption,
    StdOption,
)
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption
from wb.cli.frame.planning import tell as show_plan
from wb.cli.pruning.depgraph_output import print_json, tell

if TYPE_CHECKING:
    from wb.compress.depgraph.config import DepgraphConfig
    from wb.core.commands.plan import Planned
    from wb.core.measures.metrics import Limit
    from wb.core.measures.readings import Reading
    from wb.data.preparation import Preparation
    from wb.hardware.device import Device

    Stages = dict[str, dict[str, Reading]]


def _offer() -> Offer:
    from wb.compress.depgraph.config import DepgraphConfig

    return Offer(DepgraphConfig)


@options(_offer)
def depgraph(
    given: dict[str, Any],
    factory: Annotated[str, typer.Argument(help="MODULE:FACTORY, what gives the nn.Module when it is called.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write; weights go beside it.")],
    *,
    background: BackgroundOption = None,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
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

    from wb.cli.frame.running import telling
    from wb.compress.depgraph.foreign import publish
    from wb.compress.depgraph.graph import require
    from wb.compress.depgraph.job import ModuleJob, read
    from wb.compress.depgraph.latency import check_limits
    from wb.core.errors import BudgetMissed
    from wb.core.measures.metrics import Rules, parse_budget
    from wb.core.system.files import scratch
    from wb.hardware.device import parse_device
    from wb.jobs.verbs.preparation import read_preparation

    config = _config(given, background)
    beside = _check_names(out, force)
    limits = parse_budget(config.budget, Rules(("latency", "macs", "params")))
    timed = check_limits(limits)
    cost = _checked_cost(config.cost)
    require()
    torch.set_num_threads(config.threads)
    images = read_preparation(mean, std, scale, preprocessor)
    device = parse_device(config.device, threads=config.threads)
    if dry_run:
        show_plan(_plan(factory, config, images, limits, device), [beside, out], as_json=as_json)
        return
    with output.progress() as progress, scratch() as folder:
        told = telling(progress, "reading")
        dense, dataset = read(factory, config.weights, config.data, config.image_size, config.limit, images)
        job = ModuleJob(dense, dataset, device, config.seed, Path(folder), told)
        calibration = job.batches(config.calib, config.batch)
        pruned = job.prune(
            limits, timed, calibration, config.rounds, round_to=config.round_to, cost=cost, keep=config.keep
        )
        if config.finetune:
            job.finetune(pruned.module, config)
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


def _config(given: dict[str, Any], background: str | None) -> DepgraphConfig:
    """The options as a configuration. Raises `BadOption` for what fits no field, `BadArtefact` for weights of another kind."""
    from wb.compress.depgraph.config import DepgraphConfig
    from wb.core.commands.option import structured
    from wb.jobs.frame.output import config_of
    from wb.jobs.inputs import given_data
    from wb.jobs.kinds import need

    data = given_data(given.get("data"), background) or "digits"
    config = config_of(DepgraphConfig, "prune depgraph", structured(DepgraphConfig, {**given, "data": data}))
    if config.weights is not None:
        need(config.weights, "weights", "model", "torch", expected="a state dict (.safetensors or .pt)")
    return config


def _plan(
    factory: str, config: DepgraphConfig, images: Preparation | None, limits: Sequence[Limit], device: Device
) -> list[Planned]:
    """What would be done. Raises as the command before it begins."""
    import time

    from wb.cli.frame.running import telling
    from wb.compress.depgraph.estimate import estimate
    from wb.compress.depgraph.job import ModuleJob, read
    from wb.training.estimate import data_stage

    with output.progress() as work:
        progress = telling(work, "reading")
        start = time.perf_counter()
        dense, dataset = read(factory, config.weights, config.data, config.image_size, config.limit, images)
        reading = data_stage(dataset, time.perf_counter() - start)
        job = ModuleJob(dense, dataset, device, 0, Path(), progress)
        progress("timing a few steps", 0, 0)
        return [reading, *estimate(dense, factory, dataset, job.write, limits, device, config)]


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

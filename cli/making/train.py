"""`wb train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption, SequenceOption, TorchrunOption
from wb.cli.frame.options import Offer, options
from wb.cli.frame.planning import DryRunOption, tell

if TYPE_CHECKING:
    from wb.core.commands.plan import Planned
    from wb.jobs.verbs.training import Training


def _offer() -> Offer:
    from wb.jobs.frame.config import TrainConfig

    return Offer(TrainConfig)


@options(_offer)
def train(
    given: dict[str, Any],
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write (.safetensors or .pt).")],
    *,
    background: BackgroundOption = None,
    torchrun: TorchrunOption = 1,
    sequence_parallel: SequenceOption = 1,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one architecture from scratch, or a trained model further, on any data. Interrupted, the same command continues."""
    from wb.cli.frame.running import chosen, telling
    from wb.core.commands.option import structured
    from wb.core.measures.metrics import METRICS
    from wb.jobs.frame.config import TrainConfig
    from wb.jobs.frame.output import config_of
    from wb.jobs.frame.work import resumable
    from wb.jobs.together.training import trained
    from wb.jobs.verbs.training import Training
    from wb.scale.processes import Processes
    from wb.tasks.known import task_of

    model = given.get("model")
    given = chosen(given, [] if model is None else [model], background)
    training = Training(config_of(TrainConfig, "train", structured(TrainConfig, given)), out, force)
    processes = Processes(torchrun, sequence_parallel)
    processes.check()
    if dry_run:
        tell(_plan(training), [out], as_json=as_json)
        return
    with output.progress(quiet=processes.follows) as work:
        progress = telling(work, "reading the data")
        with resumable(training.checkpoint, output.continues(training.checkpoint, out)):
            say = (lambda _: None) if processes.follows else output.say  # the first process says it
            model, readings = trained(training, processes, progress, say)
    if processes.follows:
        return
    if as_json:
        output.print_json({"model": str(out)} | {name: r.model_dump(mode="json") for name, r in readings.items()})
        return
    output.data.print(output.readings_table(readings, METRICS[task_of(model.architecture).metric].title))
    output.written(out)


def _plan(training: Training) -> list[Planned]:
    """The stages, with times extrapolated from a few steps; nothing is written.

    Raises:
        WbError: as the command does before it trains.
    """
    import time

    import torch

    from wb.core.commands.plan import Planned
    from wb.tasks.suited import check_fits
    from wb.training.estimate import data_stage, image_seconds, network_stage, training_stage
    from wb.training.head import IMAGES

    training.check()
    torch.set_num_threads(training.config.threads)
    with output.progress() as progress:
        task = progress.add_task("reading the data", total=None)
        start = time.perf_counter()
        begun = training.begin(output.say)
        chosen, data = begun.architecture, begun.data
        read = data_stage(data, time.perf_counter() - start)
        check_fits(chosen, data)
        progress.update(task, description="timing a few steps")
        steps = training_stage(
            "training",
            chosen,
            data,
            training.recipe(begun),
            teacher=training.config.teacher is not None,
            freeze=training.config.freeze,
        )
        each = image_seconds(chosen, data)
        images = len(data.validation) + len(data.test)
        noun = data.train.noun
        scoring = Planned("scoring", f"{images:,} {noun} of validation and test", images * each)
        looked = min(len(data.train), IMAGES) + min(len(data.validation), IMAGES)
        fitting = Planned("head", f"fitted to what the model makes of {looked:,} {noun}", looked * each)
    given = training.config.model or training.config.architecture
    name = str(given) if given else f"usual network of preset {training.config.preset}"
    return [read, network_stage(chosen, name), *([fitting] if begun.new_head else []), steps, scoring]

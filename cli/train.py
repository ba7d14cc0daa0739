"""`wb train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli import _output
from wb.cli._dry_run import DryRunOption, tell
from wb.cli._options import (
    BackgroundOption,
    DataOption,
    ForceOption,
    JsonOption,
    SeedOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from wb.core.plan import Planned
    from wb.jobs.training import Training


def train(
    out: Annotated[Path, typer.Option("--out", "-o", help="The model file to write (.safetensors or .pt).")],
    preset: Annotated[str, typer.Option(help="Train the largest softmax network of this preset.")] = "tiny",
    architecture: Annotated[
        Path | None,
        typer.Option(help="Train this architecture instead: a JSON file, or a model file whose weights are ignored."),
    ] = None,
    data: DataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training images.")] = 60,
    learning_rate: Annotated[float, typer.Option(min=0, help="Peak of the one-cycle schedule.")] = 3e-3,
    batch: Annotated[int, typer.Option(min=1, help="Images per step.")] = 32,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train one architecture of a space from scratch. Interrupted, the same command continues."""
    from wb.cli._job import telling
    from wb.data.spec import resolved
    from wb.jobs.inputs import Choice, given_data
    from wb.jobs.training import Training
    from wb.training.fit import Recipe

    training = Training(
        out,
        Choice(resolved(given_data(data, background) or "digits"), image_size, limit),
        Recipe(epochs=epochs, learning_rate=learning_rate, batch=batch),
        preset,
        architecture,
        seed or 0,
        1 if threads is None else threads,
        force,
    )
    if dry_run:
        tell(_plan(training), [out], as_json=as_json)
        return
    with _output.progress() as work:
        progress = telling(work, "reading the data")
        with _output.resumable(training.checkpoint, _output.continues(training.checkpoint, out)):
            _, readings = training(progress)
    if as_json:
        _output.print_json({"model": str(out)} | {name: r.model_dump(mode="json") for name, r in readings.items()})
        return
    _output.data.print(_output.readings_table(readings, "accuracy"))
    _output.written(out)


def _plan(training: Training) -> list[Planned]:
    """The stages, with times extrapolated from a few steps; nothing is written.

    Raises:
        WbError: as the command does before it trains.
    """
    import time

    import torch

    from wb.core.plan import Planned
    from wb.training.estimate import data_stage, image_seconds, network_stage, training_stage
    from wb.training.train import check_fits

    training.check()
    torch.set_num_threads(training.threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)
        start = time.perf_counter()
        data = training.data()
        read = data_stage(data, time.perf_counter() - start)
        chosen = training.network(data)
        check_fits(chosen, data)
        progress.update(task, description="timing a few steps")
        steps = training_stage("training", chosen, data, training.recipe, teacher=False)
        images = len(data.validation) + len(data.test)
        scoring = Planned("scoring", f"{images:,} images of validation and test", images * image_seconds(chosen, data))
    given = training.architecture
    name = str(given) if given else f"largest softmax network of preset {training.preset}"
    return [read, network_stage(chosen, name), steps, scoring]

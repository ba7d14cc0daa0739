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
from wb.cli._read import given_data, read_architecture

if TYPE_CHECKING:
    from wb.core.architecture import Architecture
    from wb.core.plan import Planned
    from wb.data import Dataset
    from wb.training.fit import Recipe


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
    import torch

    from wb.core.errors import BadOption
    from wb.data import load as load_data
    from wb.data.spec import resolved
    from wb.models.counting import count_macs, count_parameters
    from wb.models.model import Step, save
    from wb.tasks.known import task_of
    from wb.training.fit import Recipe, pick_device
    from wb.training.train import score
    from wb.training.train import train as train_model

    spec = resolved(given_data(data, background) or "digits")
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    torch.set_num_threads(1 if threads is None else threads)
    recipe = Recipe(epochs=epochs, learning_rate=learning_rate, batch=batch)
    if dry_run:
        stages = _plan(spec, image_size, limit, preset, architecture, recipe)
        tell(stages, [out], as_json=as_json)
        return
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)
        dataset = load_data(spec, image_size=image_size, limit=limit)
        chosen = _chosen(dataset, preset, architecture)
        checkpoint = out.with_name(out.name + ".checkpoint")
        progress.update(task, description="training", total=epochs)

        def report(epoch: int, _: int, loss: float) -> None:
            progress.update(task, completed=epoch, description=f"training, loss {loss:.3f}")

        with _output.resumable(checkpoint, _output.continues(checkpoint, out)):
            model = train_model(chosen, dataset, recipe, seed=seed or 0, checkpoint=checkpoint, report=report)
        network = model.network(pick_device())
        readings = {
            name: score(network, split, task_of(chosen), pick_device())
            for name, split in (("validation", dataset.validation), ("test", dataset.test))
        }
    counted = {"params": count_parameters(chosen), "macs": count_macs(chosen)}
    model = model.then(Step(name="score", readings={**readings, **counted}))
    save(model, out, force=force)
    checkpoint.unlink(missing_ok=True)
    if as_json:
        _output.print_json({"model": str(out)} | {name: r.model_dump(mode="json") for name, r in readings.items()})
        return
    _output.data.print(_output.readings_table(readings, "accuracy"))
    _output.written(out)


def _chosen(data: Dataset, preset: str, architecture: Path | None) -> Architecture:
    """What is to be trained; of a given architecture no weights are taken, so that its classes are those of the data."""
    from wb.spaces.presets import vit_space

    chosen = read_architecture(architecture) if architecture else vit_space(data, preset).largest("softmax")
    if chosen.classes == len(data.classes):
        chosen = chosen.model_copy(update={"labels": data.classes})
    return chosen


def _plan(
    spec: str, image_size: int | None, limit: int | None, preset: str, architecture: Path | None, recipe: Recipe
) -> list[Planned]:
    """The stages, with times extrapolated from a few steps; nothing is written.

    Raises:
        WbError: what the command would refuse before it trains.
    """
    import time

    from wb.core.plan import Planned
    from wb.data import load as load_data
    from wb.training.estimate import data_stage, image_seconds, network_stage, training_stage
    from wb.training.train import check_fits

    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)
        start = time.perf_counter()
        data = load_data(spec, image_size=image_size, limit=limit)
        read = data_stage(data, time.perf_counter() - start)
        chosen = _chosen(data, preset, architecture)
        check_fits(chosen, data)
        progress.update(task, description="timing a few steps")
        training = training_stage("training", chosen, data, recipe, teacher=False)
        images = len(data.validation) + len(data.test)
        scoring = Planned("scoring", f"{images:,} images of validation and test", images * image_seconds(chosen, data))
    name = str(architecture) if architecture else f"largest softmax network of preset {preset}"
    return [read, network_stage(chosen, name), training, scoring]

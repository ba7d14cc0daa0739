"""`wb train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._options import (
    BackgroundOption,
    DataOption,
    ForceOption,
    JsonOption,
    SeedOption,
    ThreadsOption,
)
from wb.cli._read import given_data, read_architecture


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
    as_json: JsonOption = False,
) -> None:
    """Train one architecture of a space from scratch. Interrupted, the same command continues."""
    import torch

    from wb.core.errors import BadOption
    from wb.data import load as load_data
    from wb.data.spec import resolved
    from wb.models.counting import count_macs, count_parameters
    from wb.models.model import Step, save
    from wb.spaces.presets import vit_space
    from wb.training.fit import Recipe, pick_device
    from wb.training.train import accuracy
    from wb.training.train import train as train_model

    data = given_data(data, background)
    if out.suffix not in (".safetensors", ".pt"):
        raise BadOption(f"{out.name} is no name for a model file; end it in .safetensors or .pt")
    if out.exists() and not force:
        raise BadOption(f"{out} exists already; choose another name or say --force to replace it")
    torch.set_num_threads(1 if threads is None else threads)
    with _output.progress() as progress:
        task = progress.add_task("reading the data", total=None)
        dataset = load_data(resolved(data or "digits"), image_size=image_size, limit=limit)
        chosen = read_architecture(architecture) if architecture else vit_space(dataset, preset).largest("softmax")
        if chosen.classes == len(
            dataset.classes
        ):  # its weights are not taken, so that its classes are those of the data
            chosen = chosen.model_copy(update={"labels": dataset.classes})
        checkpoint = out.with_name(out.name + ".checkpoint")
        progress.update(task, description="training", total=epochs)

        def report(epoch: int, _: int, loss: float) -> None:
            progress.update(task, completed=epoch, description=f"training, loss {loss:.3f}")

        recipe = Recipe(epochs=epochs, learning_rate=learning_rate, batch=batch)
        with _output.resumable(checkpoint, _output.continues(checkpoint, out)):
            model = train_model(chosen, dataset, recipe, seed=seed or 0, checkpoint=checkpoint, report=report)
        network = model.network(pick_device())
        readings = {
            name: accuracy(network, split, pick_device())
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

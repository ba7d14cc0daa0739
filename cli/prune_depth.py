"""`wb prune depth`."""

from __future__ import annotations

from typing import Annotated

import typer

from wb.cli._dry_run import DryRunOption
from wb.cli._options import (
    BackgroundOption,
    ByIndexOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    ModelDataOption,
    SeedOption,
    ThreadsOption,
)
from wb.cli.prune_nvit import BudgetOption, ModelArgument, OutOption
from wb.jobs.names import SAMPLES


def depth(
    model: ModelArgument = None,
    out: OutOption = None,
    budget: BudgetOption = None,
    snapshots: Annotated[str | None, typer.Option(help="Larger models to write too, as shares: 0.75x,0.5x.")] = None,
    data: ModelDataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    by_index: ByIndexOption = False,
    calib: Annotated[
        int, typer.Option(SAMPLES, min=1, help="Training images to measure the effect of each drop on.")
    ] = 512,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning at the end.")] = 20,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Peak learning rate of fine-tuning.")] = 1e-3,
    distill: Annotated[bool, typer.Option(help="Train with the dense model as teacher.")] = True,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Drop whole mixers and feed-forwards until a budget is met, each time the one with the least effect on the output.

    `wb analyze depth` shows those effects. Interrupted, the same command with the same --out continues.
    """
    from wb.cli._job import Asked, chosen
    from wb.cli._prune import prune

    given = {
        **chosen([model] if model else [], data, background, image_size, limit).fields,
        "by_index": by_index,
        "budget": budget,
        "snapshots": snapshots,
        "finetune": finetune,
        "learning_rate": learning_rate,
        "distill": distill,
        "device": device or "cpu",
        "threads": 1 if threads is None else threads,
    }
    settings = {"calibration": calib, "rounds": 1, "seed": seed or 0}
    prune("depth", given, settings, Asked(model, out, force, dry_run, as_json))

"""`wb prune nvit`."""

from __future__ import annotations

from pathlib import Path
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
from wb.jobs.names import SAMPLES

ModelArgument = Annotated[
    Path | None, typer.Argument(help="A model file.", show_default="the stock model, trained on first use")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="The model file to write; report and record go beside it.",
        show_default="a new folder in runs/",
    ),
]
BudgetOption = Annotated[
    list[str] | None,
    typer.Option(
        help="latency, macs, params, size, energy (a model); absolute (2ms, 1MB) or a share (0.5x).",
        show_default="latency=0.5x",
    ),
]


def nvit(
    model: ModelArgument = None,
    out: OutOption = None,
    budget: BudgetOption = None,
    snapshots: Annotated[str | None, typer.Option(help="Larger models to write too, as shares: 0.75x,0.5x.")] = None,
    data: ModelDataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    by_index: ByIndexOption = False,
    method: Annotated[str, typer.Option(help="Ranking of units: nvit, taylor, magnitude or random.")] = "nvit",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of scoring and cutting; 1 is one-shot.")] = 10,
    recovery: Annotated[int, typer.Option(min=0, help="Training steps between rounds.")] = 20,
    calib: Annotated[
        int, typer.Option(SAMPLES, min=1, help="Training images to compute the saliency on, each round.")
    ] = 640,
    batch: Annotated[int, typer.Option(min=1, help="Images per mini-batch of the saliency.")] = 16,
    momentum: Annotated[float, typer.Option(min=0, max=0.99, help="Weight of earlier rounds in the saliency.")] = 0.5,
    eta: Annotated[float, typer.Option(min=0, max=10, help="Weight of the cost: saliency / cost^eta.")] = 1.0,
    align: Annotated[int, typer.Option(min=1, help="Make dimensions multiples of this.")] = 1,
    keep: Annotated[
        str | None, typer.Option(help="Axes not to prune: embed,heads,qk,v,mlp,…, or blocks (whole sub-layers).")
    ] = None,
    finetune: Annotated[int, typer.Option(min=0, help="Epochs of fine-tuning at the end.")] = 20,
    learning_rate: Annotated[
        float, typer.Option(min=1e-9, help="Peak learning rate of fine-tuning, and rate of recovery.")
    ] = 1e-3,
    distill: Annotated[bool, typer.Option(help="Train with the dense model as teacher.")] = True,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Prune every axis of a trained transformer at once, by saliency and cost, until a budget is met.

    Interrupted, the same command with the same --out continues.
    """
    from wb.cli._job import Asked, chosen
    from wb.cli._prune import prune

    settings = {
        "method": method,
        "keep": [name.strip() for name in keep.split(",") if name.strip()] if keep else [],
        "align": align,
        "eta": eta,
        "rounds": rounds,
        "calibration": calib,
        "batch": batch,
        "momentum": momentum,
        "recovery": recovery,
        "learning_rate": learning_rate,
        "seed": seed or 0,
    }
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
    prune("nvit", given, settings, Asked(model, out, force, dry_run, as_json))

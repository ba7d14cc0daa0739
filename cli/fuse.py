"""`wb fuse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli._dry_run import DryRunOption
from wb.cli._options import (
    BackgroundOption,
    ByIndexOption,
    ForceOption,
    JsonOption,
    SeedOption,
    ThreadsOption,
)
from wb.jobs.names import SAMPLES

METHODS = "vanilla, ot (as published), perm, orth, or regress (needs data)."


def fuse(
    models: Annotated[
        list[Path] | None,
        typer.Argument(help="Two or more model files.", show_default="two stock models, trained on first use"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The model file to write; graph, report and record go beside it.",
            show_default="a new folder in runs/",
        ),
    ] = None,
    method: Annotated[str | None, typer.Option(help=METHODS, show_default="regress with data, else orth")] = None,
    stat: Annotated[
        str | None,
        typer.Option(help="What is compared: weights or activations.", show_default="weights; ot: activations"),
    ] = None,
    solver: Annotated[
        str | None,
        typer.Option(
            help="Solver that couples hidden units (in ot all axes): lap, emd or sinkhorn.",
            show_default="lap; ot: sinkhorn",
        ),
    ] = None,
    reg: Annotated[
        float | None, typer.Option(help="Sinkhorn's regularisation.", show_default="0.08; ot by weights: 0.06")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(help="Model that the others are aligned to, from 1, or mean (of the others).", show_default="1"),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Weights of the models in the average: 0.3,0.7.", show_default="equal")
    ] = None,
    calib: Annotated[
        int | None,
        typer.Option(SAMPLES, min=1, help="Training images to use, without their labels.", show_default="1024"),
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Restore the moments of activations.")] = False,
    finetune: Annotated[
        int | None,
        typer.Option(min=0, help="Epochs of fine-tuning, all models as teachers.", show_default="0; 5 without models"),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=1e-9, help="Peak learning rate of fine-tuning.", show_default="0.0003")
    ] = None,
    size: Annotated[
        str, typer.Option(help="Model whose sizes the result has: anchor, small or large (by parameters).")
    ] = "anchor",
    to: Annotated[Path | None, typer.Option(help="An architecture (JSON or a model file) to fuse into.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether and how the models can be fused; write nothing.")
    ] = False,
    dry_run: DryRunOption = False,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="digits, imagefolder:PATH, idx:PATH or cifar10:PATH, or none.",
            show_default="those that all models were trained with, else none; digits without models",
        ),
    ] = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    by_index: ByIndexOption = False,
    device: Annotated[str | None, typer.Option(help="Device to read accuracies with.", show_default="cpu")] = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Align trained transformers of one task and average them into one.

    Without data nothing is corrected or measured. Interrupted, the same command with the same --out continues.
    """
    from wb.cli import _fuse, _output
    from wb.core.errors import BadOption
    from wb.fusion.job import given

    chosen = given.choose_data(models or [], data, background, image_size, limit, _output.say)
    settings = {
        "method": method or ("regress" if chosen.spec and not repair else "orth"),
        "stat": stat,
        "solver": solver,
        "reg": reg,
        "anchor": _fuse.parse_anchor(anchor),
        "size": size,
        "weights": _fuse.parse_weights(weights),
        "repair": repair,
        "seed": seed or 0,
    }
    config = given.configured(
        settings,
        **chosen.fields,
        by_index=by_index,
        calib=calib,
        finetune=finetune if finetune is not None or models else given.EPOCHS,
        learning_rate=learning_rate,
        to=to,
        device=device,
        threads=1 if threads is None else threads,
    )
    if check and dry_run:
        raise BadOption("--dry-run says all that --check does; leave out one of them")
    if check:
        if out is not None or force:
            raise BadOption("--check writes nothing; leave out --out and --force")
        _fuse.check(config, models or [], as_json=as_json)
    else:
        (_fuse.plan if dry_run else _fuse.run)(config, models or [], to, out, force=force, as_json=as_json)

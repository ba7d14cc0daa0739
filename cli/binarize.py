"""`wb binarize`."""

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
from wb.cli.prune_nvit import ModelArgument


def binarize(
    model: ModelArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The model file to write; ONNX graph, report and record go beside it.",
            show_default="a new folder in runs/",
        ),
    ] = None,
    weights: Annotated[
        str, typer.Option(help="Weights of linear maps: w1 (binary), w2 (ternary) or keep (unchanged).")
    ] = "w1",
    attention: Annotated[
        str, typer.Option(help="Softmax attention: keep, or hash (kernelized hashing, linear in the tokens).")
    ] = "keep",
    keep: Annotated[
        list[str] | None,
        typer.Option(help="Group to keep in floating point, or the beginning of its name: s0.b3, s0.b3.ffn.out."),
    ] = None,
    head: Annotated[bool, typer.Option("--all", help="Round the head too; by default it stays in fp32.")] = False,
    form: Annotated[
        str | None,
        typer.Option(help="Form of hash attention: kernel, or official (the published code).", show_default="kernel"),
    ] = None,
    bits: Annotated[int | None, typer.Option(min=1, help="Bits of a hash code.", show_default="16")] = None,
    anchors: Annotated[
        int | None, typer.Option(min=1, help="Anchors of the hash functions.", show_default="25")
    ] = None,
    finetune: Annotated[
        int, typer.Option(min=0, help="Epochs of fine-tuning after each stage: attention, then weights.")
    ] = 20,
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Peak learning rate of fine-tuning.")] = 1e-3,
    data: ModelDataOption = None,
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    background: BackgroundOption = None,
    limit: Annotated[int | None, typer.Option(help="Use at most this many training images.")] = None,
    by_index: ByIndexOption = False,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give a trained transformer binary or ternary weights, hash attention, or both, and fine-tune it with distillation.

    The file and the modelled energy shrink. This runtime has no fast kernels for so few bits; the result says if it is slower.
    Interrupted, the same command with the same --out continues.
    """
    from wb.cli import _binarize
    from wb.cli._job import Asked, chosen

    given = {
        **chosen([model] if model else [], data, background, image_size, limit).fields,
        "by_index": by_index,
        "attention": attention,
        "weights": weights,
        "keep": tuple(keep or ()),
        "head": head,
        "finetune": finetune,
        "learning_rate": learning_rate,
        "seed": seed or 0,
        "device": device or "cpu",
        "threads": 1 if threads is None else threads,
    }
    hashing = {"form": form, "bits": bits, "anchors": anchors}
    _binarize.binarize(given, hashing, Asked(model, out, force, dry_run, as_json))

"""Options that mean the same in every command and are of no configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wb.cli.frame.options import After

ModelArgument = Annotated[
    Path | None, typer.Argument(help="A model file.", show_default="the stock model, trained on first use")
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        "-o",
        help="The model file to write; ONNX graph, report and record go beside it.",
        show_default="a new folder in runs/",
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Mean that the network's loader subtracts from images, one number or one for each channel: 0.485,0.456,0.406.",
        show_default="what the file says, else 0",
    ),
    After("by_index", "limit"),
]
StdOption = Annotated[
    str | None,
    typer.Option("--std", help="Deviation that it then divides images by.", show_default="what the file says, else 1"),
    After("mean"),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--scale",
        help="Factor for images in 0 to 1, before mean and std: 255 for 0 to 255.",
        show_default="what the file says, else 1",
    ),
    After("std"),
]
PreprocessorOption = Annotated[
    Path | None,
    typer.Option(
        "--preprocessor",
        help="A file of Hugging Face's preprocessor that says all three, or timm's config.json.",
        show_default="none",
    ),
    After("scale"),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background", help="What transparent images are laid on: white, black or #rrggbb.", show_default="white"
    ),
    After("image_size"),
]
RunLimitOption = Annotated[
    float | None,
    typer.Option(
        "--run-limit",
        min=0.1,
        help="Seconds that an ONNX file may take to load and to run once, when it is tried out.",
        show_default="30",
    ),
    After("preprocessor"),
]
TorchrunOption = Annotated[
    int,
    typer.Option(
        "--torchrun",
        help="Processes that train together, each a part of every batch. torchrun starts them, and again if one ends; it may "
        "also start the whole command: torchrun --nproc-per-node 2 -m wb …",
    ),
]
SequenceOption = Annotated[
    int,
    typer.Option(
        "--sequence-parallel",
        help="Of decoders: so many of the processes share the tokens of each passage, so that each needs less memory.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

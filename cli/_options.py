"""Options that mean the same in every command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH. [default: digits]"
    ),
]
ModelDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH. \\[default: those the model was "
        "trained with; digits without a model]",
    ),
]
ByIndexOption = Annotated[
    bool,
    typer.Option("--by-index", help="Take the classes of the data in their order, though they are named otherwise."),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="What the network's loader takes off the images, one number or one for each channel: 0.485,0.456,0.406.",
    ),
]
StdOption = Annotated[str | None, typer.Option("--std", help="What it divides them by afterwards.")]
ScaleOption = Annotated[
    float | None,
    typer.Option("--scale", help="What it multiplies them by before, as they are in 0 to 1: 255 for 0 to 255."),
]
PreprocessorOption = Annotated[
    Path | None,
    typer.Option("--preprocessor", help="A preprocessor_config.json that says all three, or timm's config.json."),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background", help="What transparent images are laid on: white, black or #rrggbb. \\[default: white]"
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where latency is measured. [default: cpu]")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the runtime and of training. [default: 1]")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random. [default: 0]")
]
RunLimitOption = Annotated[
    float | None,
    typer.Option(
        "--run-limit",
        min=0.1,
        help="Seconds that an ONNX file may take to load and to run once, when it is tried out. \\[default: 30]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

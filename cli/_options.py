"""Options that mean the same in every command."""

from __future__ import annotations

from typing import Annotated

import typer

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH. [default: digits]"
    ),
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]

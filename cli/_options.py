"""Options that mean the same in every command, and what options were called before."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperCommand

from wb.jobs.names import SAMPLES

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH.", show_default="digits"
    ),
]
ModelDataOption = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH.",
        show_default="those the model was trained with; digits without a model",
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
    typer.Option(
        "--preprocessor", help="A file of Hugging Face's preprocessor that says all three, or timm's config.json."
    ),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background", help="What transparent images are laid on: white, black or #rrggbb.", show_default="white"
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where latency is measured.", show_default="cpu")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the runtime and of training.", show_default="1")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.", show_default="0")
]
RunLimitOption = Annotated[
    float | None,
    typer.Option(
        "--run-limit",
        min=0.1,
        help="Seconds that an ONNX file may take to load and to run once, when it is tried out.",
        show_default="30",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
FORMER = {"--rate": "--learning-rate", "--calib": SAMPLES}  # earlier names, which still work and are not shown


class Command(TyperCommand):
    """A command whose options may be given by the names they had before, and which takes nothing that is no UTF-8 text.

    Most libraries that read and write models refuse other paths, each in its own way, and some late.
    """

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]  # typer re-exports
        from wb.core.errors import BadOption

        for argument in args:
            if not argument.isascii() and any("\ud800" <= character <= "\udfff" for character in argument):
                raise BadOption(f"{argument!r} has bytes that are no UTF-8 text; rename the file or folder")
        own = {name for parameter in self.params for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        renamed = [_renamed(argument, own) for argument in args[:end]]
        return super().parse_args(ctx, renamed + args[end:])


def _renamed(argument: str, own: set[str]) -> str:
    """`--calib=8` -> `--samples=8`, in a command that has the new name among its `own` and not the old one."""
    name, sign, value = argument.partition("=")
    new = FORMER.get(name)
    return argument if new is None or name in own or new not in own else f"{new}{sign}{value}"

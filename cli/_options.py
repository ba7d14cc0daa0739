"""Options that all commands share, and former names of options."""

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
    typer.Option("--by-index", help="Match the classes of data and model by their order, although their names differ."),
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        "--mean",
        help="Mean that the network's loader subtracts from images, one number or one per channel: 0.485,0.456,0.406.",
    ),
]
StdOption = Annotated[str | None, typer.Option("--std", help="Deviation that it then divides images by.")]
ScaleOption = Annotated[
    float | None,
    typer.Option("--scale", help="Factor for images in 0 to 1, before mean and std: 255 for 0 to 255."),
]
PreprocessorOption = Annotated[
    Path | None,
    typer.Option(
        "--preprocessor",
        help="File with all three: a preprocessor file of Hugging Face, or timm's config.json.",
    ),
]
BackgroundOption = Annotated[
    str | None,
    typer.Option(
        "--background", help="Colour behind transparent images: white, black or #rrggbb.", show_default="white"
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
        help="Time limit in seconds for the trial run of an ONNX file: loading it and running it once.",
        show_default="30",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
FORMER = {"--rate": "--learning-rate", "--calib": SAMPLES}  # former names, which still work and are not shown


class Command(TyperCommand):
    """A command that also accepts former names of its options, and refuses arguments that are not UTF-8 text.

    Most libraries that read and write models refuse such paths, each in its own way, and some late.
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
    """`--calib=8` -> `--samples=8`, if `own`, the options of the command, has the new name and not the old one."""
    name, sign, value = argument.partition("=")
    new = FORMER.get(name)
    return argument if new is None or name in own or new not in own else f"{new}{sign}{value}"

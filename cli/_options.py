"""Options that mean the same in every command, and what options were called before."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperCommand

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data", help="digits, imagefolder:PATH, idx:PATH (MNIST-style files) or cifar10:PATH.", show_default="digits"
    ),
]
DeviceOption = Annotated[str | None, typer.Option("--device", help="Where latency is measured.", show_default="cpu")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads of the runtime and of training.", show_default="1")
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", min=0, max=2**32 - 1, help="Seed of everything random.", show_default="0")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Replace a file that exists.")]
SAMPLES = "--samples"  # how many images; `--calibration` says which, where they can be chosen

FORMER = {"--rate": "--learning-rate", "--calib": SAMPLES}  # earlier names, which still work and are not shown
FIELDS = {"calib": SAMPLES, "changes": "--set", "seeds": "--seed-architecture"}  # of records, called otherwise


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


def option_of(field: str) -> str:
    """What a field of a command's configuration is called on the command line."""
    return FIELDS.get(field, "--" + field.replace("_", "-"))

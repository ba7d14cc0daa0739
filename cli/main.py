"""The `wb` command: one file per verb; a verb imports what it needs when it runs, so that help is instant."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from contextlib import suppress
from importlib import import_module
from types import ModuleType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from wb import __version__
from wb.cli.analyzing.analyze import app as analyze
from wb.cli.converting.convert import convert
from wb.cli.converting.exits import exits
from wb.cli.converting.fold import app as fold
from wb.cli.converting.grow import grow
from wb.cli.device.device import app as device
from wb.cli.frame.errors import end_like_interrupted, tell
from wb.cli.frame.notes import listen
from wb.cli.frame.options import Command
from wb.cli.frame.output import Unread
from wb.cli.looking.data import data
from wb.cli.looking.diff import diff
from wb.cli.looking.doctor import doctor
from wb.cli.looking.measure import measure
from wb.cli.looking.ops import ops
from wb.cli.looking.predict import predict
from wb.cli.looking.report import report
from wb.cli.looking.run import run
from wb.cli.looking.runs import runs
from wb.cli.looking.show import show
from wb.cli.looking.spaces import spaces
from wb.cli.making.binarize import binarize
from wb.cli.making.bundle import bundle
from wb.cli.making.export import export
from wb.cli.making.fuse import fuse
from wb.cli.making.generate import generate
from wb.cli.making.import_checkpoint import import_checkpoint
from wb.cli.making.quantize import quantize
from wb.cli.making.train import train
from wb.cli.pruning.methods import app as prune
from wb.cli.searching.search import search
from wb.cli.sweeping.sweep import app as sweep

SPARED = {"rich.markdown": "Markdown", "rich.traceback": "Traceback"}  # of which help in plain text shows nothing
CLOSED = 141  # exit code that shells give a program whose output pipe was closed (128 + SIGPIPE)


class Commands(TyperGroup):
    """Turns every error into one paragraph and an exit code; `--debug` adds the traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer re-exports click's Context
        gc.enable()
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException, SystemExit, Unread):
            raise
        except BaseException as error:
            ctx.exit(tell(error, debug=bool(ctx.obj and ctx.obj.get("debug"))))


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search, prune, fuse, quantize, measure and export transformers that fit a device.",
)
LOOKING = (runs, report, show, diff, data, predict, run, generate, measure, spaces, ops, doctor)
for command in (search, train, fuse, quantize, binarize, convert, grow, exits, export, bundle, *LOOKING):
    app.command(cls=Command)(command)
app.command(name="import", cls=Command)(import_checkpoint)
app.add_typer(prune, name="prune")
app.add_typer(fold, name="fold")
app.add_typer(analyze, name="analyze")
app.add_typer(sweep, name="sweep")
app.add_typer(device, name="device")


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"wb {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    ctx: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    ctx.obj = {"debug": debug}
    listen()


def main() -> None:
    """Entry point of the `wb` script."""
    _spare()
    gc.disable()  # until a command runs: what help loads is never garbage, and looking for some takes a tenth of its time
    if "--debug" in sys.argv[2:]:  # allowed anywhere
        sys.argv.remove("--debug")
        sys.argv.insert(1, "--debug")
    if not sys.warnoptions and "--debug" not in sys.argv:
        warnings.simplefilter("ignore")  # warnings of libraries are for programmers
    with suppress(AttributeError):  # stdout may be no text file
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    end_like_interrupted()
    try:
        app()
    except OSError as error:  # raised while printing without a command: --help, --version
        _flushed()
        raise SystemExit(tell(error, debug=False)) from None
    except SystemExit as end:
        failed = _flushed()
        if isinstance(end.__context__, BrokenPipeError) or isinstance(failed, BrokenPipeError):
            raise SystemExit(CLOSED) from None
        if failed is not None and not end.code:
            raise SystemExit(tell(failed, debug=False)) from None
        raise


def _spare() -> None:
    """Imports typer's help without the modules in `SPARED`, which take a third of the time of `wb --help`.

    Empty classes stand for theirs meanwhile. A typer that cannot be imported so is imported whole when help is shown.
    """
    if not any(name in sys.modules for name in (*SPARED, "typer.rich_utils")):
        for module, name in SPARED.items():
            sys.modules[module] = ModuleType(module)
            setattr(sys.modules[module], name, type(name, (), {}))
        with suppress(Exception):
            import_module("typer.rich_utils")
        for module in SPARED:
            del sys.modules[module]


def _flushed() -> OSError | None:
    """Flushes stdout; if that fails, redirects it to nowhere, so that Python does not complain when it exits."""
    try:
        sys.stdout.flush()
    except OSError as error:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return error
    return None


if __name__ == "__main__":
    main()

"""The `wb` command: one file per verb; what a verb needs is imported when it runs, so that help is instant."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from wb import __version__
from wb.cli._notes import listen
from wb.cli._output import messages
from wb.cli.analyze import app as analyze
from wb.cli.binarize import binarize
from wb.cli.doctor import doctor
from wb.cli.export import export
from wb.cli.fuse import fuse
from wb.cli.measure import measure
from wb.cli.prune import app as prune
from wb.cli.quantize import quantize
from wb.cli.report import report
from wb.cli.search import search
from wb.cli.show import show
from wb.cli.spaces import spaces
from wb.cli.train import train
from wb.core.errors import WbError, out_of_memory, reason

INTERRUPTED = 130


class Commands(TyperGroup):
    """Turns every error into one paragraph and an exit code; `--debug` adds the traceback."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # typer re-exports click's Context
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort, TyperException):
            raise
        except WbError as error:
            ctx.exit(self._tell(ctx, str(error), error.exit_code))
        except KeyboardInterrupt:
            ctx.exit(self._tell(ctx, "interrupted", INTERRUPTED))
        except OSError as error:
            ctx.exit(self._tell(ctx, f"{error}; check the path, the permissions and the space on the disk", 1))
        except Exception as error:  # the last resort: a mistake of ours is one paragraph as well
            if out_of_memory(error):
                text = f"there is not enough memory for this ({reason(error)}); free some, raise `ulimit -v`, or work on less"
                ctx.exit(self._tell(ctx, text, 1))
            text = (
                f"{type(error).__name__}: {error}. This is a mistake of wb's; run it again with --debug and report it"
            )
            ctx.exit(self._tell(ctx, text, 1))

    @staticmethod
    def _tell(ctx: typer.Context, text: str, code: int) -> int:
        if ctx.obj and ctx.obj.get("debug"):
            traceback.print_exc()
        messages.print("[bold red]error:[/] ", end="")
        messages.print(text, markup=False, highlight=False, soft_wrap=True)
        return code


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Search, prune, fuse, quantize, measure and export transformers that fit a device.",
)
for command in (search, train, show, measure, fuse, quantize, binarize, export, report, spaces, doctor):
    app.command()(command)
app.add_typer(prune, name="prune")
app.add_typer(analyze, name="analyze")


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
    if "--debug" in sys.argv[2:]:  # allowed anywhere
        sys.argv.remove("--debug")
        sys.argv.insert(1, "--debug")
    app()


if __name__ == "__main__":
    main()

"""`wb run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption
from wb.cli.frame.options import Offer, options


def _offer() -> Offer:
    from wb.jobs.running.config import RunConfig

    return Offer(RunConfig)


@options(_offer)
def run(
    given: dict[str, Any],
    model: Annotated[
        Path, typer.Argument(help="A model file; of a .safetensors file each process reads its part alone.")
    ],
    pictures: Annotated[
        list[str] | None,
        typer.Argument(
            help="Pictures, or folders of them; or texts, or files of texts (.txt).",
            show_default="the lines of the standard input",
        ),
    ] = None,
    *,
    as_json: JsonOption = False,
) -> None:
    """Name the classes of pictures or texts by a network that several processes share, one that no device could hold.

    A network that continues texts says what these cost it: nats a token, and the perplexity. With --pipeline 2 --tensor 2 two
    stages have half of the blocks each, and two processes each half of their heads. Padding is left out.
    torchrun may also start the whole command, on several machines: torchrun --nproc-per-node 2 -m wb run …
    """
    import sys

    from wb.cli.frame.running import telling
    from wb.core.errors import BadOption
    from wb.jobs.frame.output import config_of
    from wb.jobs.running.running import Running
    from wb.scale.joining import rank

    running = config_of(Running, "run", given)
    follows = rank() > 0
    if not pictures and running.data is None and not follows:
        if sys.stdin.isatty():
            raise BadOption(
                f"nothing to run {model} on; name pictures or texts, --data, or send lines to the standard input"
            )
        pictures = [line for line in sys.stdin.read().splitlines() if line.strip()]
    with output.progress(quiet=follows) as work:
        say = (lambda _: None) if follows else output.say  # the first process says it
        found = running(model, list(pictures or []), telling(work, "reading"), say)
    if found is None:
        return
    if as_json:
        output.print_json(found.content())
        return
    output.data.print(output.table(found.table()))

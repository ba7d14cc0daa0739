"""`wb ops`."""

from __future__ import annotations

from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption

TOKENS = "49,196,784"


def ops(
    *,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time mixers and feed-forwards beside softmax attention.")
    ] = False,
    tokens: Annotated[
        str | None,
        typer.Option(
            "--tokens", help="Numbers of tokens that are timed: squares, as of 3136 too.", show_default=TOKENS
        ),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option("--cap", min=0.1, help="Most seconds for timing one of them.", show_default="2.0")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="Where they are timed, as for wb measure.", show_default="cpu")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads that they are timed with.", show_default="1")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Order of the rounds of timing.", show_default="0")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/operators.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List all parts of networks: what they support, count, and take."""
    from wb.core.errors import BadOption
    from wb.hardware.device import parse_device
    from wb.jobs.verbs import operators

    if markdown and as_json:
        raise BadOption("given both --markdown and --json; choose one")
    timing = {"--tokens": tokens, "--cap": seconds, "--device": device, "--threads": threads, "--seed": seed}
    idle = [name for name, value in timing.items() if value is not None]
    if idle and not measure:
        raise BadOption(f"{idle[0]} is of timing, and nothing is timed without --measure; say both, or neither")
    found = list(operators.listed())
    if measure:
        sides = operators.sides_of(tokens or TOKENS)
        with output.progress() as progress:
            task = progress.add_task("timing", total=None)
            found = list(
                operators.measured(
                    found,
                    sides,
                    parse_device(device or "cpu", threads or 1),
                    cap_s=seconds or 2.0,
                    seed=seed or 0,
                    progress=lambda text: progress.update(task, description=text),
                )
            )
    if as_json:
        output.print_json([one.content() for one in found])
    elif markdown:
        output.data.print(operators.markdown(found), soft_wrap=True, markup=False, highlight=False, end="")
    else:
        for one in operators.tables(found):
            output.data.print(output.table(one))

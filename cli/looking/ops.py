"""`wb ops`."""

from __future__ import annotations

from typing import Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption


def ops(
    *,
    measure: Annotated[
        bool, typer.Option("--measure", help="Time mixers and feed-forwards beside softmax attention.")
    ] = False,
    tokens: Annotated[
        str, typer.Option("--tokens", help="Numbers of tokens that are timed: squares, as of 3136 too.")
    ] = "49,196,784",
    seconds: Annotated[float, typer.Option("--cap", min=0.1, help="Most seconds for timing one of them.")] = 2.0,
    device: Annotated[str, typer.Option("--device", help="Where they are timed.")] = "cpu",
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads that they are timed with.")] = 1,
    seed: Annotated[int, typer.Option("--seed", help="Order of the rounds of timing, and weights.")] = 0,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the page docs/operators.md.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List all parts of networks: what they support, count, and take."""
    from wb.core.errors import BadOption
    from wb.hardware.device import parse_device
    from wb.jobs.verbs import operators

    if markdown and as_json:
        raise BadOption("given both --markdown and --json; choose one")
    found = list(operators.listed())
    if measure:
        sides = operators.sides_of(tokens)
        with output.progress() as progress:
            task = progress.add_task("timing", total=None)
            found = list(
                operators.measured(
                    found,
                    sides,
                    parse_device(device, threads),
                    cap_s=seconds,
                    seed=seed,
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

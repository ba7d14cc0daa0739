"""`wb generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption
from wb.cli.frame.options import Offer, options


def _offer() -> Offer:
    from wb.jobs.generate.config import GenerateConfig

    return Offer(GenerateConfig)


@options(_offer)
def generate(
    given: dict[str, Any],
    model: Annotated[Path, typer.Argument(help="A model that foresees tokens, or an ONNX file of one.")],
    *,
    as_json: JsonOption = False,
) -> None:
    """Continue a text, token by token, as a model foresees it (`wb train --data lm:FILE` makes one).

    With --pipeline or --tensor several processes share the model, one that no device could hold; torchrun may also start the
    whole command: torchrun --nproc-per-node 2 -m wb generate …
    """
    import sys

    from wb.cli.frame.running import telling
    from wb.jobs.frame.output import config_of
    from wb.jobs.generate.generating import Generating
    from wb.scale.joining import rank

    how = config_of(Generating, "generate", given)
    if rank() > 0:  # the first process says it
        how(model, lambda what, done, of: None, lambda _: None)
        return
    if as_json:
        with output.progress() as work:
            found = how(model, telling(work, "reading"), output.say)
        output.print_json(found.content())
        return
    begun = False
    for piece in how.pieces(model, lambda what, done, of: None, output.say):
        sys.stdout.write(piece if begun else how.prompt + piece)
        sys.stdout.flush()
        begun = True
    sys.stdout.write("\n")

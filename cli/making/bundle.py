"""`wb bundle`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from wb.cli.frame import output
from wb.cli.frame.common import BackgroundOption, ForceOption, JsonOption
from wb.cli.frame.options import Offer, options


def _offer() -> Offer:
    from wb.jobs.bundle.config import BundleConfig

    return Offer(BundleConfig)


@options(_offer)
def bundle(
    given: dict[str, Any],
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A model file, a graph of wb's, or a network of a front: RUN:ID, or RUN for the one that its page advises.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to write.")],
    *,
    background: BackgroundOption = None,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put all that a device needs of a network into one folder, and try it out without wb.

    Graphs with any and with one example at a time, plain PyTorch, class names, a script that classifies pictures and checks
    itself on stored examples (infer.py), readings and lineage (card.json, README.md), and hashes.
    """
    from wb.cli.frame.running import telling
    from wb.jobs.bundle.bundle import Bundling
    from wb.jobs.frame.output import config_of
    from wb.jobs.inputs import given_data
    from wb.search.results.chosen import network_of

    given["data"] = given_data(given.get("data"), background)
    bundling = config_of(Bundling, "bundle", given)
    file, said = network_of(source)
    if said:
        output.say(said)
    with output.progress() as work:
        made = bundling(file, out, telling(work, "reading"), output.say, force=force)
    if as_json:
        readings = {name: reading.model_dump(mode="json") for name, reading in made.readings.items()}
        output.print_json(
            {"folder": str(out), "files": [path.name for path in made.files], "readings": readings, "notes": made.notes}
        )
        return
    output.data.print(output.table(made.table()))
    output.written(out)

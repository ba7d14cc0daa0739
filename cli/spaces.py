"""`wb spaces`."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from wb.cli import _output
from wb.cli._shared import JsonOption


def spaces(
    preset: Annotated[str | None, typer.Argument(help="Show this preset only.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the spaces and their presets with the options of each choice."""
    from rich.table import Table

    from wb.spaces.presets import PRESETS
    from wb.spaces.presets import preset as find
    from wb.spaces.revit import SEEDED

    chosen = {preset: find(preset)} if preset else dict(PRESETS)
    if as_json:
        listed = {name: options.model_dump(mode="json") for name, options in chosen.items()}
        _output.print_json({"vit": listed, "seeds": {name: "revit" for name in chosen if name in SEEDED}})
        return
    for name, options in chosen.items():
        by_block = options.by_block
        per_block = math.prod(len(getattr(options, field)) for field in by_block)
        per_block *= len(options.precision) ** 4
        once = [field for field in type(options).model_fields if field not in (*by_block, "depth", "precision")]
        whole = math.prod(len(v) for field in once if isinstance(v := getattr(options, field), tuple))
        table = Table(title=f"space vit, preset {name}", title_justify="left")
        for column in ("choice", "for", "options"):
            table.add_column(column)
        for field, value in options:
            place = "every block" if field in by_block else "the network"
            text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
            table.add_row(field, place, "from the images" if field == "patch" and not value else text)
        combinations = whole * sum(float(per_block) ** depth for depth in options.depth)
        _output.data.print(table)
        seed = ", from its seed architecture with `--seed-architecture revit`" if name in SEEDED else ""
        _output.data.print(f"at most {combinations:.1e} combinations; `wb search --preset {name}` searches it{seed}\n")

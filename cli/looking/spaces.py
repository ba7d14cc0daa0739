"""`wb spaces`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli.frame import output
from wb.cli.frame.common import JsonOption
from wb.core.errors import BadOption
from wb.core.nearest import meant

if TYPE_CHECKING:
    from rich.table import Table

    from wb.spaces.columnar.options import VitOptions
    from wb.spaces.hybrid.options import HybridOptions


def spaces(
    preset: Annotated[str | None, typer.Argument(help="Show this preset only.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the spaces and their presets with the options of each choice."""
    from wb.spaces.columnar import presets
    from wb.spaces.columnar.revit import SEEDED
    from wb.spaces.hybrid import presets as hybrid_presets
    from wb.spaces.hybrid.published import offered
    from wb.spaces.spaces import PHOTOGRAPH

    known = [*presets.PRESETS, *hybrid_presets.PRESETS, *presets.TEXT_PRESETS, *presets.DECODER_PRESETS]
    if preset not in (None, *known):
        raise BadOption(f"no preset {preset!r}{meant(str(preset), known)}; there are {', '.join(known)}")
    vit = {name: presets.preset(name) for name in presets.PRESETS if preset in (None, name)}
    hybrid = {name: options for name, options in hybrid_presets.PRESETS.items() if preset in (None, name)}
    texts = {name: options for name, options in presets.TEXT_PRESETS.items() if preset in (None, name)}
    decoders = {name: options for name, options in presets.DECODER_PRESETS.items() if preset in (None, name)}
    if as_json:
        listed = {
            space: {name: options.model_dump(mode="json") for name, options in chosen.items()}
            for space, chosen in (("vit", vit), ("hybrid", hybrid), ("text", texts), ("decoder", decoders))
        }
        seeds = {name: "revit" for name in vit if name in SEEDED}
        published = {name: offered(options) for name, options in hybrid.items()}
        output.print_json({**listed, "seeds": seeds, "published": published})
        return
    for name, options in vit.items():
        _vit(name, options, ", from its seed architecture with `--seed-architecture revit`" if name in SEEDED else "")
    for name, options in texts.items():
        _vit(name, options, "", space="text")
    for name, options in decoders.items():
        _vit(name, options, "", space="decoder")
    for name, one in hybrid.items():
        _hybrid(name, one, max(hybrid_presets.SHORTEST[name], PHOTOGRAPH), offered(one))


def _table(title: str, *columns: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _text(value: object, *, patch: bool = False) -> str:
    """The options of a choice."""
    return (
        "from the images"
        if patch and not value
        else ", ".join(map(str, value))
        if isinstance(value, tuple)
        else str(value)
    )


def _vit(name: str, options: VitOptions, seed: str, space: str = "vit") -> None:
    by_block = options.by_block
    per_block = math.prod(len(getattr(options, field)) for field in by_block)
    per_block *= len(options.precision) ** 4
    once = [field for field in type(options).model_fields if field not in (*by_block, "depth", "precision")]
    whole = math.prod(len(v) for field in once if isinstance(v := getattr(options, field), tuple))
    table = _table(f"space {space}, preset {name}", "choice", "for", "options")
    way = "" if space == "vit" else f" --space {space}"
    unused = () if space == "vit" else ("patch", "grid", "stem_width", "memory")
    for field, value in options:
        if field in unused:
            continue
        place = "every block" if field in by_block else "the network"
        table.add_row(field, place, _text(value, patch=field == "patch"))
    combinations = whole * sum(float(per_block) ** depth for depth in options.depth)
    output.data.print(table)
    output.data.print(f"at most {combinations:.1e} combinations; `wb search{way} --preset {name}` searches it{seed}\n")


def _hybrid(name: str, options: HybridOptions, shortest: int, published: tuple[str, ...]) -> None:
    choices = options.choices
    stages = range(len(options.stages))
    table = _table(f"space hybrid, preset {name}", "choice", *(f"stage {i}" for i in stages))
    for field in type(options.stages[0]).model_fields:
        table.add_row(field, *(_text(choices.get(f"s{i}.{field}", ())) for i in stages))
    combinations = math.prod(len(values) for values in choices.values())
    output.data.print(table)
    output.data.print(
        f"stem_width {_text(options.stem_width)}; patch {_text(options.patch, patch=True)}; chosen for images of {shortest} "
        f"pixels a side and more; at most {combinations:.1e} combinations; `wb search --space hybrid --preset {name}` searches "
        f"it, with `--seed-architecture` from {', '.join(published)}\n"
    )

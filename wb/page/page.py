"""Reports: each is one page that needs no network and no other file.

A report's template begins with `{% extends "frame.html.jinja" %}` and fills the blocks `title`, `style` (CSS of its own)
and `content`; `macros.html.jinja` has what several reports show alike.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wb.core.durations import duration
from wb.core.readings import Reading, scaled
from wb.page.look import template

# Plotly's bundle of plane figures, a third of the whole: https://www.npmjs.com/package/plotly.js-cartesian-dist-min,
# in the version that `plotly.offline.get_plotlyjs_version()` names.
LIBRARY = Path(__file__).with_name("plotly-cartesian.min.js")


@dataclass(frozen=True)
class Column:
    """A column of a table of readings; `how` is None where they were not all obtained in one way."""

    title: str
    readings: Sequence[Reading]

    @property
    def how(self) -> str | None:
        """How all of them were obtained."""
        ways = {reading.how for reading in self.readings}
        return ways.pop() if len(ways) == 1 else None


def render(report: Path, /, **context: object) -> str:
    """The page that the template `report` makes of `context`; everything in it is escaped that is not `Markup`.

    Templates know the filters `scaled(unit)`, `duration` and `setting`, and find others beside `report`.
    """
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, report.parent]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"scaled": scaled, "duration": duration, "setting": setting}
    environment.globals |= {
        "plotlyjs": _library,
        "themes": {name: template(dark=name == "dark").to_plotly_json() for name in ("light", "dark")},
    }
    return environment.get_template(report.name).render(context)


def _library() -> Markup:
    return Markup(LIBRARY.read_text(encoding="utf-8"))  # the library's own code, nothing from a run


def link(target: Path, beside: Path) -> str:
    """The way to `target` from a page in the folder `beside`, quoted, so that no path can be taken for another scheme."""
    return quote(Path(os.path.relpath(target, beside)).as_posix())


def setting(value: object) -> str:
    """A value of a configuration for people: lists and mappings with commas, `none` where there is nothing."""
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part}" for name, part in value.items()) or "none"
    return "none" if value is None else str(value)

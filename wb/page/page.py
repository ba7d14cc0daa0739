"""Rendering of reports: each is one self-contained HTML page that needs no network and no other file.

A report's template begins with `{% extends "frame.html.jinja" %}` and fills the blocks `title`, `style` (its own CSS) and
`content`. `macros.html.jinja` has the parts that several reports share.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from wb.core.measures.readings import Reading, scaled
from wb.core.system.durations import duration
from wb.page.look import template

# Plotly's bundle for 2D figures, a third of the whole library: https://www.npmjs.com/package/plotly.js-cartesian-dist-min,
# in the version of `plotly.offline.get_plotlyjs_version()`.
LIBRARY = Path(__file__).with_name("plotly-cartesian.min.js")


@dataclass(frozen=True)
class Column:
    """A column of a table of readings."""

    title: str
    readings: Sequence[Reading]

    @property
    def how(self) -> str | None:
        """How the readings were obtained; None if not all in the same way."""
        ways = {reading.how for reading in self.readings}
        return ways.pop() if len(ways) == 1 else None


def render(report: Path, /, **context: object) -> str:
    """Renders the template `report` with `context`; everything that is not `Markup` is escaped.

    Templates have the filters `scaled(unit)`, `duration` and `setting`, and can include templates beside `report`.
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
    """Relative URL of `target` for a page in the folder `beside`; quoted, so that no path can look like a URL scheme."""
    return quote(Path(os.path.relpath(target, beside)).as_posix())


def setting(value: object) -> str:
    """A configuration value as text: lists and mappings separated by commas, `none` for empty ones and None."""
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={part}" for name, part in value.items()) or "none"
    return "none" if value is None else str(value)

"""The frame of all reports: it needs nothing from elsewhere, and nothing that it is given becomes part of its code."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import plotly.graph_objects as go
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup
from plotly.offline import get_plotlyjs_version

from tests.pages import Page
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.page.alt import described
from wb.page.look import LONG, SPAN, axes, broken, figure_html
from wb.page.page import LIBRARY, Column, link, render, setting

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
MINIMAL = '{% extends "frame.html.jinja" %}\n{% block content %}{{ text }}{% endblock %}\n'
WHOLE = """{% extends "frame.html.jinja" %}
{% from "macros.html.jinja" import cell, heading, notes, origin, settings_section %}
{% block title %}Report of {{ text }}{% endblock %}
{% block style %}
.own { color: red; }
{% endblock %}
{% block content %}
<h1 title="{{ text }}">{{ text }}</h1>
{{ figure }}
<p>{{ 90 | duration }}, {{ 0.5 | scaled("ms") }}</p>
<table><tr>{{ heading(column) }}</tr><tr>{{ cell(column, 0) }}</tr></table>
{{ notes([column], [text]) }}
{{ settings_section({text: {text: text, "list": [1, text]}}) }}
{% endblock %}
"""


def made(folder: Path, template: str, **context: object) -> str:
    path = folder / "some.html.jinja"
    path.write_text(template, encoding="utf-8")
    return render(path, **context)


def whole(folder: Path, text: str) -> str:
    reading = Reading(value=2.0, unit="ms", how="measured", interval=(1.9, 2.1), n=7, device=text, note=text)
    figure = go.Figure(go.Scatter(x=[text], y=[1], name=text, text=[text]), {"title": {"text": text}})
    return made(folder, WHOLE, text=text, figure=figure_html("some", figure), column=Column(text, [reading]))


def test_a_template_needs_no_more_than_a_content(tmp_path: Path) -> None:
    page = Page(made(tmp_path, MINIMAL, text="a < b"))
    assert "a < b" in page.text
    assert "a predicted one begins with ~" in page.text


def test_a_page_has_what_its_template_says(tmp_path: Path) -> None:
    html = whole(tmp_path, "tokens")
    page = Page(html)
    assert "Report of tokens" in page.text
    assert ".own { color: red; }" in html.split("<style>")[1].split("</style>")[0]
    assert "1 min 30 s, 0.5 ms" in page.text
    assert "tokensmeasured" in page.raw
    assert "2 ms ±5.0 % *" in page.text
    assert "* tokens, tokens: tokens" in page.text
    assert "measured, n = 7, 95 % interval 1.9 ms to 2.1 ms, on tokens; tokens" in page.values("title")
    assert "1, tokens" in page.text
    assert {"figure-some", "settings"} <= set(page.values("id"))


def test_a_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = Page(whole(tmp_path, "tokens"))
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not [name for name in ("src", "srcset", "href", "action", "data") if page.values(name)]
    policies = [attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert str(policies[0]).startswith("default-src 'none';")


def test_nothing_given_becomes_code(tmp_path: Path) -> None:
    plain, page = Page(whole(tmp_path, "tokens")), Page(whole(tmp_path, HOSTILE))
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert HOSTILE in page.text
    assert HOSTILE in page.values("title")
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]


def test_what_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UndefinedError):
        made(tmp_path, MINIMAL)


def test_a_figure_is_a_piece_of_a_page_with_its_height_and_stays_as_it_was() -> None:
    figure = go.Figure(go.Scatter(x=[HOSTILE], y=[1]), {"height": 123})
    before = figure.to_json()
    html = figure_html("a-1", figure)
    assert isinstance(html, Markup)
    assert HOSTILE not in html
    assert "height:123px" in html
    assert Page(html).values("id") == ["figure-a-1"]
    assert Page(html).values("aria-label") == [described(figure)]
    assert HOSTILE.split("<")[0] not in html.split('aria-label="')[1].split('"')[0]
    assert figure.to_json() == before


@pytest.mark.parametrize("name", ["", "a b", 'a"', HOSTILE])
def test_a_figure_is_not_named_by_code(name: str) -> None:
    with pytest.raises(ValueError, match="id"):
        figure_html(name, go.Figure())


def test_a_page_carries_the_library_only_where_it_has_a_figure(tmp_path: Path) -> None:
    library = LIBRARY.read_text(encoding="utf-8")
    assert library in whole(tmp_path, "tokens")
    assert len(made(tmp_path, MINIMAL, text="a")) < 20_000
    assert "</script" not in library
    assert len(library) < 1_600_000


def test_the_library_is_of_the_release_that_figures_are_made_for() -> None:
    first = LIBRARY.read_text(encoding="utf-8")[:200]
    assert f"v{get_plotlyjs_version().split('.')[0]}." in first


def test_a_figure_that_the_library_cannot_draw_is_refused() -> None:
    with pytest.raises(ValueError, match="scatter3d"):
        figure_html("deep", go.Figure(go.Scatter3d(x=[1], y=[1], z=[1])))


@given(st.text("ab ", max_size=80))
def test_long_titles_are_broken_once_and_lose_nothing(title: str) -> None:
    assert broken(title).replace("<br>", " ") == title
    assert ("<br>" in broken(title)) == (len(title) > LONG and " " in title)


@given(st.lists(st.floats(0, 1), min_size=1))
def test_an_accuracy_axis_never_makes_a_cliff_of_one_image(found: list[float]) -> None:
    low, high = axes({"y": (METRICS["acc"], found)})["yaxis.autorangeoptions.include"]
    assert 0 <= low <= high <= 1
    assert max(high, max(found)) - min(low, min(found)) >= SPAN / 2 - 1e-9
    assert axes({"y": (METRICS["latency"], found)})["yaxis.autorangeoptions.include"] is None


@given(
    st.lists(st.text("ab:/%?#.\\ \"'<", min_size=1).filter(lambda name: "/" not in name and name not in (".", "..")))
)
def test_a_link_is_a_file_beside_the_page_whatever_its_name(names: list[str]) -> None:
    target = Path("/runs", *names)
    found = urlsplit(link(target, Path("/runs")))
    assert (found.scheme, found.netloc, found.query, found.fragment) == ("", "", "", "")
    assert Path("/runs", unquote(found.path)) == target


def test_settings_are_written_for_people() -> None:
    values: tuple[object, ...] = ([1, "b"], {"a": 1, "b": 2}, [], {}, None, 0, "x")
    assert [setting(value) for value in values] == ["1, b", "a=1, b=2", "none", "none", "none", "0", "x"]


def test_a_column_says_how_where_all_readings_agree() -> None:
    counted, measured = (Reading(value=1, unit="ms", how=how) for how in ("counted", "measured"))
    assert Column("x", [counted, counted]).how == "counted"
    assert Column("x", [counted, measured]).how is None
    assert Column("x", []).how is None

"""Plots in words: whatever is drawn is told, and what a file smuggles in is no tag."""

from __future__ import annotations

import plotly.graph_objects as go
from hypothesis import given
from hypothesis import strategies as st
from plotly.subplots import make_subplots

from wb.page.alt import described

values = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20)


@given(values)
def test_axes_ends_and_range_are_told(found: list[float]) -> None:
    figure = go.Figure(go.Scatter(x=list(range(len(found))), y=found, name="ours"))
    text = described(figure.update_xaxes(title_text="latency in ms").update_yaxes(title_text="accuracy"))
    assert "accuracy against latency in ms" in text
    assert "ours: " in text
    for number in (min(found), max(found), found[0], found[-1]):
        assert f"{number:.4g}" in text


def test_panels_say_what_they_show_and_horizontal_bars_are_read_along_them() -> None:
    figure = make_subplots(2, 1)
    figure.add_trace(go.Scatter(x=["a", "b"], y=[1.0, 2.0], name="loss"), 1, 1)
    figure.add_trace(go.Scatter(x=["a", "b"], y=[0.25, 0.5], name="right"), 2, 1)
    figure.update_yaxes(title_text="nats", row=1, col=1).update_yaxes(title_text="share", row=2, col=1)
    assert "nats and share" in described(figure)
    assert "right (share): 2 values of 0.25 to 0.5, from 0.25 at a to 0.5 at b" in described(figure)
    bars = go.Figure(go.Bar(x=[3.0, 4.0], y=["search", "train"], orientation="h", hoverinfo="skip"))
    assert "3 at search to 4 at train" in described(bars)


def test_cells_of_a_map_have_a_range_and_guides_are_passed_over() -> None:
    heat = go.Heatmap(z=[[None, 0.5], [0.75, None]])
    assert "2 values of 0.5 to 0.75" in described(go.Figure(heat))
    guide = go.Scatter(x=[0, 1], y=[0, 1], mode="lines", hoverinfo="skip")
    assert described(go.Figure(guide)) == "Plot of values: nothing yet."


def test_many_series_are_counted_and_markup_is_left_out() -> None:
    many = go.Figure([go.Scatter(x=[0], y=[i], name=f"<b>one</b> {i}") for i in range(20)])
    assert "and 8 more series" in described(many)
    assert "<" not in described(many)

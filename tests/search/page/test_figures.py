"""The figures show the numbers they are given."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import pytest

from wb.core.measures.metrics import METRICS, parse_budget, parse_objectives
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import Z95
from wb.core.system.durations import duration
from wb.search.page.figures import (
    front_figure,
    hypervolume_figure,
    predictions_figure,
    progress_figure,
    seconds_figure,
    table_figure,
)
from wb.search.page.traces import Candidate, describe

ACC, LATENCY = parse_objectives("acc,latency")


def candidate(number: int, acc: float, latency: float, size: float = 1000, **more: Any) -> Candidate:
    found = {
        "acc": Reading(value=acc, unit="fraction", how="measured", interval=(acc - 0.02, acc + 0.01)),
        "latency": Reading(value=latency, unit="ms", how="measured"),
        "size": Reading(value=size, unit="B", how="counted"),
    }
    return Candidate(number, found, **more)


def trace(figure: go.Figure, name: str | None) -> Any:
    return next(trace for trace in figure.data if trace.name == name)


def test_the_front_is_drawn_as_steps_with_its_intervals_and_its_test_accuracy() -> None:
    test = Reading(value=0.7, unit="fraction", how="measured")
    some = [candidate(5, 0.9, 3.0), candidate(4, 0.8, 1.0, test=test)]
    figure = front_figure((ACC, LATENCY), some, [candidate(1, 0.5, 2.0), candidate(2, 0.6, 5.0, over=True)], ())
    front, line = trace(figure, "front"), trace(figure, None)
    assert (front.x, front.y) == ((3.0, 1.0), (0.9, 0.8))
    assert front.error_y.array == pytest.approx((0.01, 0.01))
    assert front.error_y.arrayminus == pytest.approx((0.02, 0.02))
    assert front.error_x.array == (0.0, 0.0)
    assert (line.x, line.y, line.line.shape) == ((1.0, 3.0), (0.8, 0.9), "hv")
    assert (trace(figure, "front on the test split").x, trace(figure, "front on the test split").y) == ((1.0,), (0.7,))
    assert trace(figure, "evaluated").x == (2.0,)
    assert (trace(figure, "over budget").x, trace(figure, "over budget").marker.symbol) == ((5.0,), "x-thin")


def test_accuracy_goes_up_and_the_last_cost_to_the_right_whatever_the_order() -> None:
    for objectives in ("acc,latency", "latency,acc"):
        figure = front_figure(parse_objectives(objectives), [candidate(0, 0.9, 1.0)], [], ())
        assert figure.layout.xaxis.title.text == "latency in ms"
        assert figure.layout.yaxis.title.text == "accuracy"
        assert len(figure.layout.updatemenus) == 0


def test_budgets_are_lines_on_the_axis_of_their_metric() -> None:
    limits = parse_budget(["latency=2ms", "size=1MB", "acc=80%"])
    figure = front_figure((ACC, LATENCY), [candidate(0, 0.9, 1.0)], [candidate(1, 0.7, 4.0)], limits)
    across, up = figure.layout.shapes
    assert (across.x0, across.x1, across.yref) == (2.0, 2.0, "paper")
    assert across.name == "budget latency &lt;= 2 ms"
    assert (up.y0, up.y1, up.xref) == (0.8, 0.8, "paper")


def test_a_menu_shows_any_two_of_three_objectives() -> None:
    metrics = parse_objectives("acc,size,latency")
    front = [candidate(0, 0.9, 1.0, 5000), candidate(1, 0.8, 2.0, 100)]
    figure = front_figure(metrics, front, [candidate(2, 0.5, 2.0)], ())
    buttons = figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == [
        "accuracy against latency",
        "accuracy against file size",
        "file size against latency",
    ]
    assert trace(figure, None).x == (1.0,)  # against latency, network 0 is better in both
    data, layout = buttons[1].args
    assert all(len(values) == len(figure.data) for values in data.values())
    place = [t.name for t in figure.data].index("front")
    assert list(data["x"][place]) == [5000, 100]
    assert list(data["x"][0]) == [100, 5000]
    assert (layout["xaxis.title.text"], layout["xaxis.type"]) == ("file size in bytes", "log")
    assert figure.layout.xaxis.type == "linear"


def test_one_objective_is_shown_in_order_with_the_best_within_the_budget() -> None:
    front = [candidate(2, 0.8, 1.0, test=Reading(value=0.75, unit="fraction", how="measured"))]
    others = [candidate(0, 0.5, 1.0), candidate(1, 0.95, 9.0, over=True), candidate(3, 0.7, 1.0)]
    figure = progress_figure(ACC, front, others, ())
    best = trace(figure, "best so far")
    assert (best.x, best.y) == ((0, 2, 3), (0.5, 0.8, 0.8))
    assert trace(figure, "front on the test split").y == (0.75,)
    assert trace(figure, "over budget").x == (1,)
    assert trace(progress_figure(LATENCY, front, others, ()), "best so far").y == (1.0, 1.0, 1.0)


def test_the_end_of_the_first_batch_is_marked_where_there_is_one() -> None:
    assert hypervolume_figure([0.1, 0.5, 0.7], 2).layout.shapes[0].x0 == 2.5
    assert hypervolume_figure([0.1, 0.5, 0.7], 0).layout.shapes == ()


def test_predictions_are_shown_with_their_deviation() -> None:
    some = [
        candidate(0, 0.5, 1.0),
        candidate(1, 0.9, 2.0, predicted=(0.8, 3.0), deviation=(0.1, 0.5)),
        candidate(2, 0.7, 1.0, predicted=(0.7, 1.0)),
    ]
    figure = predictions_figure(LATENCY, 1, some)
    dots = trace(figure, "latency")
    assert (dots.x, dots.y) == ((2.0, 1.0), (3.0, 1.0))
    assert dots.error_y.array == pytest.approx((Z95 * 0.5, 0))
    assert figure.data[0].x == (1.0, 3.0)
    assert figure.layout.xaxis.title.text == "latency in ms, measured"


def test_the_table_says_which_is_predicted() -> None:
    figure = table_figure([7], [1.0], [1.2])
    assert figure.data[1].text == ("<b>network 7</b><br>whole graph 1 ms, measured<br>blocks ~1.2 ms, predicted",)


def test_bars_of_time_read_like_time() -> None:
    bar = seconds_figure({"supernet": 300.0, "search <b>": 0.5}, "seconds").data[0]
    assert bar.y == ("supernet", "search &lt;b&gt;")
    assert bar.text == ("5 min", "500 ms")
    assert [duration(seconds) for seconds in (0.0123, 3.25, 7200)] == ["12.3 ms", "3.2 s", "2 h"]


def test_hovering_shows_how_a_number_was_obtained_and_nothing_that_a_file_smuggles_in() -> None:
    latency = Reading(value=2.0, unit="ms", how="predicted")
    text = describe(Candidate(3, {"latency": latency, "<i>": latency}, "<script>", over=True))
    assert text == (
        "<b>network 3</b> (over budget)<br>latency ~2 ms, predicted<br>&lt;i&gt; ~2 ms, predicted<br>&lt;script&gt;"
    )


def test_wide_ranges_get_a_logarithmic_axis() -> None:
    figure = front_figure((ACC, METRICS["size"]), [candidate(0, 0.9, 1.0, 1e3), candidate(1, 0.95, 1.0, 1e6)], [], ())
    assert (figure.layout.xaxis.type, figure.layout.xaxis.dtick) == ("log", 1)

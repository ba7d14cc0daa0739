"""The page of an aspect sweep, its verdict in words, and the same as a table."""

from __future__ import annotations

from pathlib import Path

from wb.core.measures.readings import Reading
from wb.core.statistics.verdict import Remark
from wb.export.timing.runs import LATENCY
from wb.jobs.calls.shown import Table
from wb.jobs.frame.page import settings
from wb.jobs.sweep.figures import named_run, quality_figure, speed_figure
from wb.jobs.sweep.record import PUBLISHED, AspectSweep, Timing, spread
from wb.jobs.sweep.shapes import ARMS, Shape
from wb.page.look import figure_html
from wb.page.page import render

ROUGH = 3.0  # percent: half the interval of a latency beyond which the page says so


def page(record: AspectSweep, folder: Path, beside: Path) -> str:
    """The page; the folders of files and page do not matter, as there are no files beside them."""
    del folder, beside
    figures = {"quality": quality_figure(record), "speed": speed_figure(record)}
    return render(
        Path(__file__).parent / "aspect.html.jinja",
        record=record,
        result=result(record),
        remarks=remarks(record),
        columns=columns(record),
        rows=[cells(record, shape) for shape in record.shapes],
        figures={name: figure_html(name, figure) for name, figure in figures.items()},
        settings=settings(
            record,
            {"sweep": record.config.model_dump(mode="json", exclude={"training"}), "data": record.data},
        ),
    )


def columns(record: AspectSweep) -> list[str]:
    """Of the table on the page and in notebooks."""
    runs = [column for timing in record.timings for column in (named_run(timing), "times as fast")]
    title = record.metric.title
    return ["blocks x heads", "equal", "parameters", "file", *runs, f"validation {title}", f"test {title}", "spread"]


def cells(record: AspectSweep, shape: Shape) -> list[str]:
    """A row: `spread` is the standard deviation of the metric over seeds."""
    counted = record.counted[shape.name]
    runs = [
        reading.text()
        for timing in record.timings
        for reading in (timing.latencies[shape.name], timing.faster[shape.name])
    ]
    tests = [one.value for one in record.tests(shape)]
    checked = [one.validation for one in record.trials if one.shape == shape.name]
    validation = sum(one.value for one in checked) / len(checked)
    return [
        shape.name,
        "-" if shape is record.deepest else ARMS[shape.arm],
        counted["params"].plain(),
        counted["size"].plain(),
        *runs,
        checked[0].model_copy(update={"value": validation}).plain(),
        record.quality_of(shape).text(),
        spread_text(spread(tests), record.metric.unit) if len(tests) > 1 else "-",
    ]


def spread_text(value: float, unit: str) -> str:
    """A deviation of the task's metric: `0.31 points` of a fraction."""
    return f"{100 * value:.2f} points" if unit == "fraction" else f"{value:.3g} {unit}"


def result(record: AspectSweep) -> str:
    """The verdict on the shallowest shape at equal heads, then at equal size."""
    said = [
        _verdict(record, min((s for s in record.shapes[1:] if s.arm == arm), key=lambda s: s.depth)) for arm in ARMS
    ]
    return f"{' '.join(said)} The paper has {PUBLISHED:g}x for its widest at equal heads, on a CPU."


def remarks(record: AspectSweep) -> list[Remark]:
    """What reading the verdict takes."""
    seeds = record.config.seeds
    spreads = (
        f"Mean over {seeds} seeds on the test split, with the 95 % interval of a mean (Student's); differences are taken seed by "
        "seed."
    )
    found = [
        Remark(spreads)
        if seeds > 1
        else Remark("One seed does not tell how far trainings scatter; say --seeds 3.", True),
        Remark("All were trained by one recipe, that of the deepest."),
    ]
    each = [one for timing in record.timings for one in timing.latencies.values()]
    wide = [100 * (one.interval[1] - one.interval[0]) / one.value / 2 for one in each if one.interval is not None]
    if wide and max(wide) > ROUGH:
        found.append(
            Remark(f"The machine was busy: latencies are known to ±{max(wide):.0f} % at worst; time them again.", True)
        )
    return found


def _verdict(record: AspectSweep, shape: Shape) -> str:
    """`At equal heads 1 x 12 against 6 x 2: 2.1x as fast at 24 tokens; 0.41 of the parameters; test accuracy +0.3 …`."""
    runs = [f"{_sped(timing.faster[shape.name])}{_at(timing)}" for timing in record.timings]
    own, deep = (record.counted[one.name]["params"].value for one in (shape, record.deepest))
    told = f"test {record.metric.title} {_told(record, record.gain(shape))}"
    named = f"At {ARMS[shape.arm]} {shape.name} against {record.deepest.name}"
    return f"{named}: {'; '.join(runs)}; {own / deep:.2f} of the parameters; {told}."


def _sped(faster: Reading) -> str:
    """How many times as fast, and whether that is surely more or less than once."""
    low, high = faster.interval or (faster.value, faster.value)
    return f"{faster.plain()} as fast{' (slower)' if high < 1 else '' if low > 1 else ' (no sure gain)'}"


def _at(timing: Timing) -> str:
    """The run, where there are several kinds."""
    kind = "" if timing.metric == LATENCY else f" by {timing.metric}"
    return kind if timing.tokens is None else f"{kind} at {timing.tokens} tokens"


def _told(record: AspectSweep, gain: Reading) -> str:
    """The difference over seeds, and whether it is one."""
    scale, unit, digits = (100, "points", ".2f") if record.metric.unit == "fraction" else (1, record.metric.unit, ".3g")
    said = f"{scale * gain.value:+{digits}}"
    if gain.interval is None:
        return f"{said} {unit} (one seed)"
    low, high = gain.interval
    said += f" ±{scale * (high - low) / 2:{digits}} {unit}"
    if low <= 0 <= high:
        return f"{said}, no difference that {gain.n} seeds tell"
    better = (gain.value > 0) == (record.metric.direction == "maximize")
    return f"{said}, {'better' if better else 'worse'}"


def table(record: AspectSweep) -> Table:
    """The shapes for 80 columns: the first run alone; then the verdict and what it takes to read it."""
    timing, title = record.timings[0], record.metric.title
    rows = []
    for shape in record.shapes:
        tests = [one.value for one in record.tests(shape)]
        plain = (timing.latencies[shape.name], timing.faster[shape.name], record.quality_of(shape))
        rows.append(
            (
                shape.name,
                record.counted[shape.name]["params"].plain(),
                *(reading.plain() for reading in plain),
                spread_text(spread(tests), record.metric.unit) if len(tests) > 1 else "-",
            )
        )
    heads = ("blocks x heads", "parameters", named_run(timing), "faster", f"test {title}", "spread")
    lines = [result(record), *(remark.text for remark in remarks(record))]
    return Table(record.called(), heads, rows, lines)

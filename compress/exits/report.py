"""The page of early exits: the ladder of betas, who leaves where, the ways out; and the same as a table."""

from __future__ import annotations

from pathlib import Path

from wb.compress.exits.figures import ladder_figure, leaving_figure
from wb.compress.exits.record import WANTED, EarlyExits, Rung
from wb.core.measures.readings import Reading
from wb.core.statistics.verdict import Remark
from wb.jobs.calls.shown import Table
from wb.jobs.frame.page import links, settings
from wb.page.look import figure_html
from wb.page.page import render

COLUMNS = ("beta", "early", "validation", "test", "predicted", "measured", "of without")
BATCHES = "The graph takes one example at a time: a batch would go as far as the last of its examples."


def page(record: EarlyExits, folder: Path, beside: Path) -> str:
    """The page, for files in `folder` and a page in `beside`."""
    figures = {"betas": ladder_figure(record), "leaving": leaving_figure(record)}
    return render(
        Path(__file__).parent / "exits.html.jinja",
        record=record,
        result=result(record),
        remarks=remarks(record),
        columns=COLUMNS,
        rows=[(rung, cells(rung)) for rung in record.rungs],
        figures={name: figure_html(name, figure) for name, figure in figures.items()},
        batches=BATCHES,
        links=links({"model": record.model, "graph": record.graph}, folder, beside),
        settings=settings(
            record,
            {
                "exits": {**record.config.model_dump(mode="json", exclude={"training"}), "after": record.after},
                "data": record.data,
            },
        ),
    )


def result(record: EarlyExits) -> str:
    """The job in one sentence."""
    rung = record.chosen
    test, ratio = _there(rung.test), _there(rung.ratio)
    early = 1 - rung.leaving[-1]
    return (
        f"With gates by {rung.dial} {100 * early:.1f} % of test images leave early: {test.plain()} test accuracy "
        f"({record.without['test'].plain()} without exits) in {ratio.value:.3f} of the mean latency."
    )


def remarks(record: EarlyExits) -> list[Remark]:
    """Whether the chosen gates are as accurate and a quarter faster, what the other gates offer, and what the ways out say."""
    found = [
        Remark(f"Against the network without exits: {rung.paired.text()}.") for rung in [record.chosen] if rung.paired
    ]
    ratio = _there(record.chosen.ratio)
    if ratio.interval is not None and ratio.interval[1] > 1:
        found.append(Remark(f"Not faster: {ratio.text()} of the mean latency of the network without exits.", True))
    equal = [rung for rung in record.rungs if rung.paired is not None and rung.paired.points >= 0]
    best = min(equal, key=lambda rung: _there(rung.ratio).value, default=None)
    if best is None:
        found.append(Remark("No gates of the ladder are as accurate on the test split as the network without exits."))
    else:
        share = _there(best.ratio)
        met = "reached" if share.value <= WANTED else "not reached"
        found.append(
            Remark(
                f"The least latency of all gates that lose no test accuracy is {share.text()} of that without exits "
                f"({best.dial}); {WANTED:g} is {met}. It was chosen on the test split, which flatters it."
            )
        )
    if not (record.config.epochs or record.given) and (best is None or _there(best.ratio).value > WANTED):
        found.append(
            Remark(
                "The trunk stayed as it was. With --epochs it is tuned with its exits, whose answers are better then."
            )
        )
    slower = [
        way.name for way in record.ways[:-1] if record.alone is not None and way.latency.value >= record.alone.value
    ]
    if slower:
        found.append(Remark(f"Leaving after {', '.join(slower)} takes no less than the network without exits.", True))
    return found


def cells(rung: Rung) -> tuple[str, ...]:
    """A row of the ladder."""
    readings = (rung.validation, _there(rung.test), _there(rung.expected), _there(rung.latency), _there(rung.ratio))
    return (rung.name, f"{100 * (1 - rung.leaving[-1]):.1f} %", *(reading.text() for reading in readings))


def short(rung: Rung) -> tuple[str, ...]:
    """A row of the ladder for 80 columns: spreads of the ratio alone."""
    plain = (rung.validation, _there(rung.test), _there(rung.expected), _there(rung.latency))
    early = f"{100 * (1 - rung.leaving[-1]):.1f} %"
    return (rung.name, early, *(reading.plain() for reading in plain), _there(rung.ratio).text())


def table(record: EarlyExits) -> Table:
    """The ladder of betas, then the ways out and the remarks."""
    test, latency = record.without["test"].plain(), record.without["latency"].plain()
    without = ("none", "-", "-" if record.whole is None else record.whole.plain(), test, "-", latency, "1x")
    rows = [without, *map(short, record.rungs)]
    ways = [f"{way.name}: {way.latency.text()}, answers {way.validation.plain()} alone" for way in record.ways]
    lines = [
        f"leaving always: {'; '.join(ways)} (latencies measured together, on validation images)",
        *(remark.text for remark in remarks(record)),
        BATCHES,
    ]
    return Table(record.called(), COLUMNS, rows, lines)


def _there(reading: Reading | None) -> Reading:
    """A reading that a finished record has."""
    if reading is None:
        raise ValueError("a finished record has all readings")
    return reading

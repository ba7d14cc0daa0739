"""The report of a job in stages: readings of every stage, modelled energy by part, and what did not improve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go

from wb.compress.staged import figures
from wb.compress.staged.record import StagedRecord
from wb.core.measures.metrics import LATENCIES, METRICS
from wb.core.measures.readings import ratio
from wb.core.statistics.verdict import Remark, loss
from wb.jobs.calls.shown import Table, columns_table
from wb.jobs.frame.page import links, settings
from wb.page.look import figure_html
from wb.page.page import Column, render

COLUMNS = {  # costs
    "size": "file size",
    **{name: METRICS[name].title for name in LATENCIES},
    "energy": "energy",
    "macs": "MACs",
    "params": "parameters",
}
Record = StagedRecord[Any]


class Section(NamedTuple):
    """A table of the page that only one kind of job has: its title, what is said of it, its columns and rows."""

    title: str
    text: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def page(record: Record, folder: Path, beside: Path, section: Section) -> str:
    """The page, for files in `folder` and a page in `beside`."""
    names, columns = readings(record)
    return render(
        Path(__file__).parent / "staged.html.jinja",
        record=record,
        result=result(record),
        remarks=remarks(record),
        names=names,
        columns=columns,
        tests=[("original", record.original_test), (record.stages[-1].name, record.final_test)],
        ratios=ratios(record),
        figures={name: figure_html(name, figure) for name, figure in _figures(record).items()},
        section=section,
        links=links({"model": record.model, "graph": record.graph}, folder, beside),
        settings=settings(record, _sections(record), reference_graph=record.pace.text()),
    )


def result(record: Record) -> str:
    """The job in one sentence."""
    what = " and ".join(record.titles[stage.name] for stage in record.stages)
    tests = (record.final_test, record.original_test)
    test, before = (one.plain() for one in tests if one is not None)
    costs = ", ".join(f"{share:.3f} of the {name}" for name, share in shares(record).items())
    return f"{what[0].upper()}{what[1:]}: {test} test {record.metric.title} (original: {before}); {costs}."


def shares(record: Record) -> dict[str, float]:
    """The final model's file size, latency and modelled energy, as shares of the original's."""
    final = record.stages[-1].after
    named = {"size": "file", **{name: METRICS[name].title for name in LATENCIES}, "energy": "modelled energy"}
    return {n: final[metric].value / record.original[metric].value for metric, n in named.items() if metric in final}


def ratios(record: Record) -> dict[str, str]:
    """Stage -> its quality as converted and after fine-tuning, and its costs as multiples of the original's."""
    found: dict[str, str] = {}
    for stage in record.stages:
        before, after = (readings[record.quality].plain() for readings in (stage.before, stage.after))
        tuned = f" as converted, {after} fine-tuned" if stage.epochs else ""
        costs = [f"{stage.after[m].value / record.original[m].value:.3f}x {m}" for m in COLUMNS if m in stage.after]
        found[stage.name] = f"{record.metric.title} {before}{tuned}; {', '.join(costs)}"
    return found


def remarks(record: Record) -> list[Remark]:
    """Remarks on what did not improve: latency, accuracy, and what the job is meant to lower; and fine-tuning.

    Of latency a remark without warning, where something else is meant.
    """
    final, original = record.stages[-1].after, record.original
    found = []
    for metric in (metric for metric in LATENCIES if metric in final):
        latency, before = final[metric], original[metric]
        which = "" if metric == LATENCIES[0] else f" in {METRICS[metric].title}"
        if latency.overlaps(before):
            spread = "which is within the measurement’s spread"
            found.append(Remark(f"Not faster{which}: {latency.text()} against {before.text()}, {spread}."))
        elif latency.value > before.value:
            times = f"{ratio(latency, before).value:.2f} times as long{_why(record)}"
            found.append(Remark(f"Slower{which}: {latency.text()} against {before.text()}, {times}."))
    if record.final_test is not None and record.original_test is not None and record.metric.direction == "minimize":
        less = loss("the job", record.original_test, record.final_test)
        if less is not None:
            values = f"{record.final_test.plain()} on test, {record.original_test.plain()} before"
            noise = "" if less.warn else ", less than its 95 % interval"
            found.append(Remark(f"Less good: {values}{noise}.", less.warn))
    elif record.final_test is not None and record.original_test is not None:
        lost = 100 * (record.original_test.value - record.final_test.value)
        if lost > 0:
            unsure = record.final_test.overlaps(record.original_test)
            noise = ", less than its 95 % interval" if unsure else ""
            found.append(
                Remark(f"Less accurate: {lost:.2f} points of test {record.metric.title} are lost{noise}.", not unsure)
            )
    for metric, name in record.meant.items():
        if final[metric].value >= original[metric].value:
            found.append(Remark(f"{name}: {final[metric].text()} against {original[metric].text()}.", True))
    tuned = record.stages if record.config.finetune else ()
    quality = record.quality
    worse = [(stage.name, loss("fine-tuning", stage.before[quality], stage.after[quality])) for stage in tuned]
    return found + [Remark(f"{name}: {one.text}", one.warn) for name, one in worse if one is not None]


def table(record: Record) -> Table:
    """The readings of all stages as a table, with the remarks."""
    return columns_table(record.called(), *readings(record), [remark.text for remark in remarks(record)])


def readings(record: Record) -> tuple[list[str], list[Column]]:
    """Rows for the original and each stage; a column for each metric."""
    names = ["original", *(stage.name for stage in record.stages)]
    rows = [record.original, *(stage.after for stage in record.stages)]
    titles = {record.quality: record.metric.title, **{n: t for n, t in COLUMNS.items() if n in record.original}}
    return names, [Column(title, [found[name] for found in rows]) for name, title in titles.items()]


def _why(record: Record) -> str:
    """The reason in words why this runtime is slow, if any is known."""
    reasons = dict.fromkeys(record.reasons[stage.name] for stage in record.stages if stage.name in record.reasons)
    return f"; in this runtime {' and '.join(reasons)}" if reasons else ""


def _figures(record: Record) -> dict[str, go.Figure]:
    found = {"energy": figures.energy_figure(record), "accuracy": figures.accuracy_figure(record)}
    if any(stage.epochs for stage in record.stages):
        found["loss"] = figures.loss_figure(record)
    return found


def _sections(record: Record) -> dict[str, Mapping[str, object]]:
    config = record.config.model_dump(mode="json", exclude={"training"})
    return {
        "configuration": {"model": f"{record.source} ({record.model_key})", **config},
        "data": record.data,
    }

"""The report of a pruning: one page that shows where the parameters went, what that cost, and how it was found."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from wb.compress.nvit.nvit import REFITS
from wb.compress.nvit.settings import REFITTED_ON
from wb.compress.prune import figures
from wb.compress.prune.record import Pruning
from wb.core.architecture import Architecture, Block, axis_sizes, kinds_of_axes
from wb.core.measures.metrics import METRICS, usual_latency
from wb.core.statistics.verdict import of_tuning
from wb.jobs.calls.shown import Table, columns_table
from wb.jobs.frame.page import links, settings
from wb.jobs.frame.shares import COLUMNS, listed, shares, told
from wb.page.look import figure_html
from wb.page.page import Column, render


def page(record: Pruning, folder: Path, beside: Path) -> str:
    """The page, for models in `folder` and a page in `beside`."""
    names, columns = _table(record)
    return render(
        Path(__file__).parent / "prune.html.jinja",
        record=record,
        result=result(record),
        figures={name: figure_html(name, figure) for name, figure in _figures(record).items()},
        names=names,
        columns=columns,
        done=done(record),
        links={r.name: links({"model": r.model, "ONNX graph": r.graph}, folder, beside) for r in record.results},
        tables=[(r.name, *redistribution(record.architecture, r.architecture)) for r in record.results],
        ratios={r.name: listed(shares(r.after, record.dense_final)) for r in record.results},
        settings=settings(record, _sections(record), reference_graph=record.pace.text()),
    )


def result(record: Pruning) -> str:
    """The pruning in one sentence for each model."""
    dense = record.dense_test.plain() if record.dense_test else "not read"
    sentences = []
    for r in record.results:
        costs = told(shares(r.after, record.dense_final))
        tests = f"{r.test.plain()} test {record.metric.title} (dense: {dense})"
        sentences.append(f"{r.name}: {costs}; {tests}; budget {', '.join(r.limits)}: {r.verdict}.")
    return " ".join(sentences)


def done(record: Pruning) -> list[str]:
    """What was done besides cutting and training."""
    settings, train = record.config.settings, record.data.get("train")
    found = []
    if settings.rotate:
        found.append(
            "Before the first round every head of softmax attention, if there is any, was turned into the bases of its channels: "
            "the same function."
        )
    if settings.compensate:
        images = f"{min(REFITTED_ON, train)}" if isinstance(train, int) else f"{REFITTED_ON}"
        found.append(
            f"What is left of each model was refitted to the dense one after its last cuts, {1 + REFITS} at most, "
            f"on at most {images} training "
            f"{record.data.get('noun', 'images')} "
            "without labels: the weights that write to the stream, then the head."
        )
    found += [f"{name}: {refit.text}." for name, refit in record.refits.items()]
    for r in record.results if record.config.finetune else ():
        if record.quality in r.before:
            told = of_tuning(r.before[record.quality], r.after[record.quality], r.discarded.get(record.quality))
            found.append(f"{r.name}: {told}")
    return found


def redistribution(before: Architecture, after: Architecture) -> tuple[list[str], list[list[str]]]:
    """Every axis before and after, as a table: names of columns, and rows for the stem, the stages and their blocks."""
    was, now = axis_sizes(before), axis_sizes(after)
    kinds = kinds_of_axes([before])
    blocks = {
        name: (block, left) for (name, _, block), (_, _, left) in zip(before.blocks(), after.blocks(), strict=True)
    }
    places = [*dict.fromkeys(name.rsplit(".", 1)[0] for name in was if name.count(".") == 1), *blocks]
    rows = []
    for place in sorted(places, key=lambda place: (place != "stem", _numbers(place))):
        row = [place, _mixer(*blocks[place]) if place in blocks else ""]
        for kind in kinds:
            size = was.get(f"{place}.{kind}")
            row.append("" if size is None else f"{size} → {now.get(f'{place}.{kind}', 'gone')}")
        rows.append(row)
    return ["", "mixer", *(dim.title for dim in kinds.values())], rows


def _mixer(before: Block, after: Block) -> str:
    if before.mixer is None:
        return "–"
    return before.mixer.kind if after.mixer is not None else f"{before.mixer.kind} → gone"


def _numbers(place: str) -> tuple[int, ...]:
    """`s0.b10` -> (0, 10), so that blocks come in their order."""
    return tuple(int(part[1:]) for part in place.split(".") if part[1:].isdigit())


def _figures(record: Pruning) -> dict[str, go.Figure]:
    limited = [name for name in COLUMNS if any(name in r.aims for r in record.rounds)]
    found = {
        "shares": figures.shares_figure(record),
        "progress": figures.progress_figure(record, METRICS[limited[0] if limited else usual_latency(record.dense)]),
    }
    if axis_sizes(record.architecture):
        found["redistribution"] = figures.redistribution_figure(record)
    if record.spectrum:
        found["spectrum"] = figures.spectrum_figure(record)
    return found


def _table(record: Pruning) -> tuple[list[str], list[Column]]:
    """Rows dense, cut, final; one column per metric. A metric that was not read of the cut model shows the final reading."""
    rows = [("dense", record.dense_final)]
    for r in record.results:
        rows += [(f"{r.name}, cut", {**r.after, **r.before}), (f"{r.name}, final", r.after)]
    titles = {record.quality: record.metric.title, **COLUMNS}
    shown = {name: title for name, title in titles.items() if all(name in readings for _, readings in rows)}
    columns = [Column(title, [readings[name] for _, readings in rows]) for name, title in shown.items()]
    return [name for name, _ in rows], columns


def table(record: Pruning) -> Table:
    """The readings of all models as a table, with the record's remarks."""
    return columns_table("pruning", *_table(record), [remark.text for remark in record.remarks])


def _sections(record: Pruning) -> dict[str, Mapping[str, object]]:
    config = record.config.model_dump(mode="json", exclude={"settings", "training"})
    return {
        "configuration": {"model": f"{record.model} ({record.model_key})", **config},
        "method": record.config.settings.model_dump(mode="json"),
        "data": record.data,
    }

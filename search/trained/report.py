"""The report of a search from a trained model: the front, what was chosen for each sub-layer, and how far scores added up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from wb.core.statistics.verdict import of_tuning
from wb.jobs.calls.shown import Table, columns_table
from wb.jobs.frame.page import links, settings
from wb.jobs.frame.shares import COLUMNS, listed, shares, told
from wb.page.look import figure_html
from wb.page.page import Column, render
from wb.search.alternatives.option import WHOLE
from wb.search.trained.figures import additivity_figure, front_figure, metrics_of
from wb.search.trained.record import TrainedSearch

MODEL = "the model"


def page(record: TrainedSearch, folder: Path, beside: Path) -> str:
    """The page, for networks in `folder` and a page in `beside`."""
    names, columns = _readings(record)
    figures = {f"front-{metric.name}": front_figure(record, metric) for metric in metrics_of(record)}
    figures["additivity"] = additivity_figure(record)
    return render(
        Path(__file__).parent / "trained.html.jinja",
        record=record,
        result=result(record),
        figures={name: figure_html(name, figure) for name, figure in figures.items()},
        fronts=[(metric.title, f"front-{metric.name}") for metric in metrics_of(record)],
        names=names,
        columns=columns,
        links={r.name: links({"model": r.model, "ONNX graph": r.graph}, folder, beside) for r in record.results},
        ratios={r.name: listed(shares(r.after, record.dense_final)) for r in record.results},
        done=done(record),
        chosen=alternatives(record),
        divergences=divergences(record),
        tau=agreement_text(record),
        settings=settings(record, _sections(record), reference_graph=record.pace.text()),
    )


def result(record: TrainedSearch) -> str:
    """The search in one sentence for each network."""
    dense = record.dense_test.plain() if record.dense_test else "not read"
    sentences = []
    for r in record.results:
        costs = told(shares(r.after, record.dense_final))
        tests = f"{r.test.plain()} test {record.metric.title} (the model: {dense})"
        verdict = f"; {', '.join(r.limits)}: {r.verdict}" if record.config.front is None else ""
        sentences.append(f"{r.name}: {costs}; {tests}{verdict}.")
    return " ".join(sentences)


def done(record: TrainedSearch) -> list[str]:
    """What was kept of each network: of its correction, and of its fine-tuning."""
    found = [f"{one.name}: {one.refit.text}." for one in record.made if one.refit is not None]
    for r in record.results:
        if record.quality in r.before:
            told = of_tuning(r.before[record.quality], r.after[record.quality], r.discarded.get(record.quality))
            found.append(f"{r.name}: {told}")
    return found


def alternatives(record: TrainedSearch) -> tuple[list[str], list[list[str]]]:
    """What was chosen: names of columns, and a row for each sub-layer with the choice of each network."""
    slots = [name for name, _ in record.architecture.parts() if name.endswith((".mixer", ".ffn"))]
    rows = [[slot, *(one.choice.get(slot, WHOLE) for one in record.made)] for slot in slots]
    return ["", *(one.name for one in record.made)], rows


def divergences(record: TrainedSearch) -> tuple[list[str], list[list[str]]]:
    """Divergences from the model on validation images: names of columns, and a row for each network."""
    steps = list(dict.fromkeys(step for r in record.results for step in r.divergences))
    rows = [
        [
            r.name,
            f"~{one.predicted:.2g}",
            f"{one.measured:.2g}",
            *(f"{r.divergences[step]:.2g}" if step in r.divergences else "–" for step in steps),
        ]
        for r, one in zip(record.results, record.made, strict=True)
    ]
    return ["", "sum of scores", f"on the {record.data.get('noun', 'images')} that score", *steps], rows


def agreement_text(record: TrainedSearch) -> str:
    """How far scores add up, in a sentence."""
    if record.tau is None:
        return "Whether scores add up cannot be told: all choices diverge alike."
    return (
        f"Kendall's tau between summed scores and measured divergence is {record.tau:.2f} for {len(record.random)} random "
        "choices: 1 would be the same order, 0 none."
    )


def table(record: TrainedSearch) -> Table:
    """The readings of all networks, with the record's remarks."""
    lines = [agreement_text(record), *(remark.text for remark in record.remarks)]
    return columns_table("search from a model", *_readings(record), lines)


def _readings(record: TrainedSearch) -> tuple[list[str], list[Column]]:
    """Rows: the model and every network, in the end; columns: quality on both splits, and costs."""
    rows = [(MODEL, {**record.dense_final}, record.dense_test)]
    rows += [(r.name, {**r.after}, r.test) for r in record.results]
    title = record.metric.title
    columns = [Column(f"{title}, validation", [readings[record.quality] for _, readings, _ in rows])]
    columns.append(Column(f"{title}, test", [test for _, _, test in rows if test is not None]))
    columns += [
        Column(text, [readings[name] for _, readings, _ in rows])
        for name, text in COLUMNS.items()
        if name in record.dense_final
    ]
    return [name for name, _, _ in rows], columns


def _sections(record: TrainedSearch) -> dict[str, Mapping[str, object]]:
    config = record.config.model_dump(mode="json", exclude={"training"})
    found = {"model": f"{record.model} ({record.model_key})", "alternatives": record.alternatives}
    return {"configuration": {**found, **config}, "data": record.data}

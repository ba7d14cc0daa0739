"""The report of a fusion: one page with the readings, the curves between the parents, and the alignment plans."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from wb.core.architecture import kind_of_axis, kinds_of_axes
from wb.core.measures.readings import Readings, scaled
from wb.core.records import Dim
from wb.fusion.job import figures
from wb.fusion.job.record import Fusion, ParentRow
from wb.fusion.job.tables import Table, matches, rows, short, sizes, titles, ways
from wb.fusion.job.verdict import remarks
from wb.fusion.plans import picture
from wb.jobs.calls.shown import Table as Shown
from wb.jobs.frame.page import settings
from wb.page.look import figure_html
from wb.page.page import link, render

PAPER = {  # plans of `ot` that belong to outputs of layers rather than axes
    "position": "embeddings",
    "cls": "embeddings",
    "patch": "embeddings",
    "q": "queries",
    "k": "keys",
    "v": "values",
    "o": "outputs of attention",
    "down": "outputs of feed-forwards",
}
FLAT = 0.005  # nats: a rise below is no barrier
Pictures = Mapping[str, Sequence[tuple[str, str, bool]]]  # kind -> (axis, address of the picture, whether signed)


def page(record: Fusion, folder: Path, beside: Path) -> str:
    """The page, for a model in `folder` and a page in `beside`."""
    names = short([parent.name for parent in record.parents])
    table, metrics = readings(record, names)
    return render(
        Path(__file__).parent / "fuse.html.jinja",
        record=record,
        names=names,
        result=result(record),
        numbers=_numbers(record),
        barriers=barriers(record),
        table=table,
        remarks=remarks(record),
        graph=link(folder / record.graph, beside) if record.graph else None,
        metrics=metrics,
        titles=titles(record),
        notes=[
            (who, titles(record)[metric], found[metric].note)
            for who, found in table
            for metric in metrics
            if _noted(found, metric)
        ],
        lines=figure_html("lines", figures.lines_figure(record)) if record.lines else None,
        distances=[
            (title, figure_html(f"distance-{i}", figure))
            for i, (title, figure) in enumerate(figures.distance_figures(record))
        ],
        series=figures.distance_series(record),
        plans=[(name, pictures(parent)) for name, parent in zip(names, record.parents, strict=True) if parent.plans],
        blocks=_blocks(record, names),
        ways=ways(names, [parent.matched_by for parent in record.parents]),
        sizes=_sizes(record, names),
        model=link(folder / str(record.model), beside),
        settings=settings(record, _sections(record)),
    )


def result(record: Fusion) -> str:
    """The fusion in one sentence or two."""
    count, method = len(record.parents), record.config.settings.method
    parameters = scaled(record.final["params"].value, "parameters")
    models = f"{count} models were fused" if count > 1 else "One model was brought"
    start = f"{models} by {method} into one of {parameters} parameters"
    if record.config.data is None:
        return f"{start}. Nothing was measured; it is expected to need fine-tuning."
    tests = [parent.readings["test"].plain() for parent in record.parents]
    fused = f"{record.one_shot['test'].plain()} test {record.metric.title} one shot"
    if record.tuned:
        epochs = f"{record.config.finetune} epoch{'s' if record.config.finetune > 1 else ''}"
        kept = ", which is not kept" if record.untuned else ""
        fused += f", {record.tuned['test'].plain()} after {epochs} of fine-tuning{kept}"
    parents = f"the parents have {', '.join(tests[:-1])} and {tests[-1]}" if count > 1 else f"the model has {tests[0]}"
    ensemble = f", their ensemble {record.ensemble['test'].plain()}" if record.ensemble else ""
    fitted = f" Correction: {record.refit.told('averaged')}." if record.refit is not None else ""
    return f"{start}: {fused}; {parents}{ensemble}.{fitted}"


def table(record: Fusion) -> Shown:
    """The readings of all models as a table, with remarks and notes."""
    columns, cells = rows(record)
    return Shown("fusion", ("", *columns), cells, [*(remark.text for remark in remarks(record)), *record.notes])


def barriers(record: Fusion) -> str:
    """The barriers between the parents in words."""
    vanilla, aligned = record.line("vanilla"), record.line("aligned")
    said = []
    if vanilla is not None:
        said.append(f"Averaged as they are, {_barrier(record.barrier(vanilla))}.")
    if aligned is not None:
        less, rises = "", [record.barrier(line) for line in record.lines]
        if vanilla is not None and FLAT < rises[1] < rises[0]:
            less = f", {100 * (1 - rises[1] / rises[0]):.0f} % less"
        said.append(f"Aligned, {_barrier(record.barrier(aligned))}{less}.")
        if len(record.parents) == 2:
            other, loss = record.ends[1 - record.anchor].loss, aligned.points[-1].loss
            if loss > 1.05 * other + FLAT:
                name = short([parent.name for parent in record.parents])[1 - record.anchor]
                said.append(
                    f"On the axes of the fused model {name} alone has a loss of {loss:.3g} nats, not {other:.3g} as it is: "
                    "it does not fit on them as a whole."
                )
    return " ".join(said)


def readings(record: Fusion, names: Sequence[str]) -> tuple[list[tuple[str, Readings]], list[str]]:
    """All models with their readings, and the metrics that any of them has."""
    table: list[tuple[str, Readings]] = [(name, row.readings) for name, row in zip(names, record.parents, strict=True)]
    table += [("ensemble of the parents", record.ensemble)] if record.ensemble else []
    table += [(f"fused, {name}", found) for name, found in record.variants()]
    return table, [metric for metric in titles(record) if any(metric in found for _, found in table)]


def pictures(parent: ParentRow) -> Pictures:
    """Every plan of a parent as a picture, grouped by kind of axis, in the order of the axes."""
    found: dict[str, list[tuple[str, str, bool]]] = {}
    dims = kinds_of_axes([parent.architecture])
    planned = {kind_of_axis(plan.axis) for plan in parent.plans}
    for plan in parent.plans:
        group = _group(kind_of_axis(plan.axis), dims, planned)
        found.setdefault(group, []).append((plan.axis, picture(plan), plan.signed))
    return found


def _group(kind: str, dims: Mapping[str, Dim], planned: Collection[str]) -> str:
    """The heading for the pictures of a kind of axis; `ot` has no plans for heads or within them."""
    dim = dims.get(kind)
    if dim is None or (dim.within is not None and dim.within not in planned):
        return PAPER.get(kind, kind)
    return dim.title if dim.within is None else f"{dim.title} within {dim.within}, one band for each"


def _noted(found: Readings, metric: str) -> bool:
    return metric in found and bool(found[metric].note)


def _barrier(nats: float) -> str:
    return f"there is a barrier of {nats:.2g} nats between them" if nats > FLAT else "there is no barrier between them"


def _numbers(record: Fusion) -> list[tuple[str, str]]:
    """The large numbers at the top of the page: value and title."""
    if record.config.data is None:
        return []
    test = f"test {record.metric.title}"
    best = min((parent.readings["test"] for parent in record.parents), key=record.metric.cost)
    found = [(record.final["test"].plain(), f"fused, {test}"), (best.plain(), f"best parent, {test}")]
    if record.ensemble:
        found.append((record.ensemble["test"].plain(), f"ensemble, {test}"))
    rises = [record.barrier(line) for line in record.lines]
    shown = [f"{rise:.2g}" if rise > FLAT else "none" for rise in rises]
    if shown:
        how = " → ".join("as they are" if line.name == "vanilla" else "aligned" for line in record.lines)
        found.append((" → ".join(shown), f"barrier in nats, {how}"))
    return found


def _blocks(record: Fusion, names: Sequence[str]) -> Table:
    """The table of matched blocks; empty if they all match in order."""
    if record.architecture is None:
        return [], []
    return matches(names, [parent.match for parent in record.parents], record.architecture)


def _sizes(record: Fusion, names: Sequence[str]) -> Table:
    """The sizes of all models' axes; empty if they are the same."""
    models = dict(zip(names, (parent.architecture for parent in record.parents), strict=True))
    if record.architecture is None:
        return [], []
    columns, rows = sizes({**models, "fused": record.architecture})
    return (columns, rows) if any(len(set(row[2:])) > 1 for row in rows) else ([], [])


def _sections(record: Fusion) -> dict[str, Mapping[str, object]]:
    config = record.config.model_dump(mode="json", exclude={"settings", "to", "training"})
    to = "the anchor's" if record.config.to is None else record.config.to.key
    return {
        "parents": {
            f"{i}": f"{parent.name} ({parent.key}), architecture {parent.architecture.key}, weight {parent.share:.3g}"
            + (", the anchor" if i - 1 == record.anchor else "")
            for i, parent in enumerate(record.parents, start=1)
        },
        "configuration": {**config, "architecture": to, "images looked at": record.images},
        "method": record.config.settings.model_dump(mode="json"),
        "data": record.data,
    }

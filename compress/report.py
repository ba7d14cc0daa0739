"""The report of a pruning: one page that shows where the parameters went, what that cost, and how it was found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go

from wb.compress import figures
from wb.compress.record import Record
from wb.core.architecture import Architecture, axis_sizes
from wb.core.errors import BadArtefact
from wb.core.files import write_text
from wb.core.metrics import METRICS
from wb.core.readings import scaled
from wb.page.look import figure_html
from wb.page.page import Column, link, render

COLUMNS = {"acc": "accuracy", "latency": "latency", "macs": "MACs", "params": "parameters", "size": "size"}
AXES = (("mixer", "heads"), ("mixer", "qk"), ("mixer", "v"), ("mixer", "hidden"), ("ffn", "mlp"))


def write_report(record: Record, record_path: Path, path: Path, *, force: bool = False) -> Path:
    """Writes the page of a finished pruning to `path`; its links to models are relative to there.

    Raises:
        BadArtefact: the pruning is not finished.
        BadOption: `path` exists and `force` is false.
        StorageFailed: it could not be written.
    """
    if not record.results or record.dense_test is None:
        raise BadArtefact(f"{record_path} is of a pruning that is not finished; continue it with the same command")
    write_text(path, page(record, record_path.parent, path.parent), force=force)
    return path


def page(record: Record, folder: Path, beside: Path) -> str:
    """The page, for models in `folder` and a page in `beside`."""
    names, columns = _table(record)
    return render(
        Path(__file__).parent / "prune.html.jinja",
        record=record,
        result=result(record),
        figures={name: figure_html(name, figure) for name, figure in _figures(record).items()},
        names=names,
        columns=columns,
        links={r.name: link(folder / r.model, beside) for r in record.results},
        blocks=[(r.name, list(_blocks(record.architecture, r.architecture))) for r in record.results],
        ratios={r.name: _ratios(record, r.after) for r in record.results},
        settings=_settings(record),
    )


def result(record: Record) -> str:
    """The pruning in one sentence for each model."""
    dense = scaled(record.dense_test.value, "fraction") if record.dense_test else "not read"
    sentences = []
    for r in record.results:
        costs = ", ".join(
            f"{r.after[name].value / record.dense[name].value:.3f} of the {METRICS[name].title}"
            for name in ("latency", "macs", "params")
        )
        tests = f"{scaled(r.test.value, 'fraction')} test accuracy (dense: {dense})"
        budget = f"budget {', '.join(r.limits)} {'met' if r.met else 'MISSED'}"
        sentences.append(f"{r.name}: {costs}; {tests}; {budget}.")
    return " ".join(sentences)


def _figures(record: Record) -> dict[str, go.Figure]:
    limited = [name for name in ("latency", "macs", "params", "size") if any(name in r.aims for r in record.rounds)]
    found = {
        "redistribution": figures.redistribution_figure(record),
        "shares": figures.shares_figure(record),
        "progress": figures.progress_figure(record, METRICS[(limited or ["latency"])[0]]),
    }
    if record.spectrum:
        found["spectrum"] = figures.spectrum_figure(record.spectrum)
    return found


def _table(record: Record) -> tuple[list[str], list[Column]]:
    """Rows dense, pruned, fine-tuned; a column for each metric."""
    rows = [("dense", record.dense)]
    for r in record.results:
        rows += [(f"{r.name}, cut", r.before), (f"{r.name}, final", r.after)]
    columns = [Column(title, [readings[name] for _, readings in rows]) for name, title in COLUMNS.items()]
    return [name for name, _ in rows], columns


def _blocks(before: Architecture, after: Architecture) -> Iterator[dict[str, str]]:
    """One row a block: `16 → 9`, or what is gone."""
    left = {name: block for name, _, block in after.blocks()}
    for name, stage, block in before.blocks():
        row = {"block": name, "mixer": block.mixer.kind if block.mixer else "–"}
        embed = after.stages[int(name[1 : name.index(".")])].embed
        row["embed"] = f"{stage.embed} → {embed}" if embed != stage.embed else str(embed)
        for part, axis in AXES:
            if not any(name.endswith(f".{axis}") for name in axis_sizes(before)):
                continue
            was, now = (getattr(getattr(b, part), axis, None) for b in (block, left[name]))
            row[axis] = "–" if was is None else f"{was} → {now}" if now is not None else f"{was} → gone"
        yield row


def _ratios(record: Record, readings) -> str:  # type: ignore[no-untyped-def]
    return ", ".join(
        f"{readings[name].value / record.dense[name].value:.3f}x {name}" for name in COLUMNS if name != "acc"
    )


def _settings(record: Record) -> dict[str, dict[str, object]]:
    config = record.config.model_dump(mode="json", exclude={"settings"})
    return {
        "configuration": {"model": f"{record.model} ({record.model_key})", **config},
        "method": record.config.settings.model_dump(mode="json"),
        "data": dict(record.data),
        "machine": {**record.machine, "reference graph": record.pace.text()},
        "versions": dict(record.versions),
        "wall time": {name: f"{seconds:.1f} s" for name, seconds in record.seconds.items()},
    }

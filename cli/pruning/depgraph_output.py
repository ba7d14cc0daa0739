"""The output of `wb prune depgraph`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wb.cli.frame import output

if TYPE_CHECKING:
    from rich.console import Group

    from wb.compress.depgraph.job import Stages
    from wb.compress.depgraph.pruning import Pruned
    from wb.core.measures.readings import Reading
    from wb.core.statistics.verdict import Judgement, Remark


def print_json(stages: Stages, judgement: Judgement | None, pruned: Pruned, out: Path, beside: Path) -> None:
    content: dict[str, Any] = {
        stage: {name: reading.model_dump(mode="json") for name, reading in readings.items()}
        for stage, readings in stages.items()
    }
    if judgement is not None:
        content["budget"] = judgement.model_dump(mode="json") | {"verdict": judgement.verdict}
    output.print_json(content | {"kept": dict(pruned.kept), "onnx": str(out), "safetensors": str(beside)})


def tell(stages: Stages, judgement: Judgement | None, pruned: Pruned, factory: str, out: Path, beside: Path) -> None:
    output.data.print(_table(stages, factory))
    output.remarks(_remarks(stages, judgement))
    for root, why in pruned.kept.items():
        output.messages.print(f"left as it is: {root}, {why}", markup=False, highlight=False, soft_wrap=True)
    output.written(beside)
    output.written(out)
    output.messages.print(
        f"{out.name} is the deliverable; {beside.name} has the pruned shapes and does not load into what {factory} gives",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _remarks(stages: Stages, judgement: Judgement | None) -> list[Remark]:
    """Remarks on the budget and on fine-tuning."""
    from wb.core.statistics.verdict import Remark, loss

    found = []
    if judgement is not None:
        unsure = "; whether it is over cannot be told" if judgement.verdict == "within noise" else ""
        found.append(Remark(f"{judgement.text('the dense module')}: {judgement.verdict}{unsure}."))
    if "fine-tuned" in stages:
        worse = loss("fine-tuning", *(stages[stage]["accuracy (validation)"] for stage in ("pruned", "fine-tuned")))
        found += [] if worse is None else [worse]
    return found


def _table(stages: Mapping[str, Mapping[str, Reading]], title: str) -> Group:
    """A table of readings: a row for each metric and a column for each stage."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from wb.jobs.calls.shown import noted

    table = Table(title=title, title_justify="left")
    for column in ("metric", *stages, "how"):
        table.add_column(column, overflow="fold")
    for name in ("accuracy (validation)", "accuracy (test)", "macs", "params", "size", "latency", "latency / dense"):
        found = {stage: readings[name] for stage, readings in stages.items() if name in readings}
        cells = [found[stage].text() if stage in found else "" for stage in stages]
        table.add_row(name, *cells, next(iter(found.values())).how)
    readings = [(f"{stage}, {name}", r) for stage, rs in stages.items() for name, r in rs.items()]
    devices = sorted({reading.device for _, reading in readings if reading.device})
    lines = (*(f"on {device}" for device in devices), *noted(readings))
    return Group(table, *(Text(line) for line in lines))

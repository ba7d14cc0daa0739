"""The work of `wb quantize`: options to configuration, run or plan, and output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wb.cli.frame import output, planning, running
from wb.compress.quantize.begin import OUTPUT, Given, begin, files_of
from wb.compress.quantize.config import QuantizeConfig
from wb.compress.quantize.given import configured, foreign, is_graph
from wb.compress.quantize.job import QuantizeJob
from wb.compress.quantize.record import Quantization
from wb.core.commands.progress import Progress
from wb.jobs.inputs import Choice

if TYPE_CHECKING:
    from rich.table import Table

    from wb.data import Dataset


def quantize(given: Mapping[str, Any], run_limit: float | None, asked: running.Asked) -> None:
    """Quantizes, writes graph, model, record and report, and prints the result; or, for a dry run, prints the plan.

    `run_limit` is the time limit in seconds for the trial run of an ONNX file.

    Raises:
        BudgetMissed: no policy keeps the budget; nothing was written.
        WbError: the model, the data or the options have a fault.
    """
    config = configured(asked.file, given)
    out = OUTPUT.place(asked.out, asked.files, lambda out: files_of(config, asked.file, out), force=asked.force)

    def job(given: Given, data: Dataset | None, progress: Progress) -> QuantizeJob:
        return begin(config, given, data, out, progress, force=asked.force)

    if asked.dry_run:
        _plan(config, asked, out, run_limit, job)
        return

    def begun(progress: Progress) -> QuantizeJob:
        torch.set_num_threads(config.threads)
        if is_graph(asked.file):
            return job(*foreign(config, asked.file, run_limit), progress)
        model, data = running.inputs(config, config.seed, asked, progress)
        return job(Given(asked.name, model), data, progress)

    running.run(begun, _tell, "reading", as_json=asked.as_json)


def _plan(
    config: QuantizeConfig,
    asked: running.Asked,
    out: Path,
    run_limit: float | None,
    job: Callable[[Given, Dataset | None, Progress], QuantizeJob],
) -> None:
    from wb.compress.quantize.estimate import estimate
    from wb.training.estimate import data_stage

    torch.set_num_threads(config.threads)
    with output.progress() as work:
        progress = running.telling(work, "reading")
        start = time.perf_counter()
        data: Dataset | None
        if is_graph(asked.file):
            given, data = foreign(config, asked.file, run_limit)
            stages = [] if data is None else [data_stage(data, time.perf_counter() - start)]
        else:
            model, data, stages = planning.read(asked.file, Choice.of(config), config.seed, by_index=config.by_index)
            given = Given(asked.name, model)
        stages += estimate(job(given, data, progress))
    planning.tell(stages, files_of(config, asked.file, out), as_json=asked.as_json)


def _tell(record: Quantization) -> None:
    from wb.compress.quantize.report import by_precision, error_text, in_float, reasons
    from wb.compress.quantize.verdict import calibrated, verdict

    output.data.print(_readings(record))
    lines = [
        f"groups (linear maps that share a precision): {by_precision(record)}",
        in_float(record),
        f"output error: {error_text(record)}",
    ]
    if record.error is not None:
        lines.append("  SQNR: power of the outputs over that of their error; 20 dB more are a tenth of the error")
    fitted = calibrated(record)
    lines += [f"calibrated on {fitted}"] if fitted else []
    for why, names in reasons(record).items():
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        lines.append(f"in fp32: {shown} ({why})")
    notes = {f"{name}: {r.note}" for name, r in record.quantized.items() if r.note is not None}
    for line in (*lines, *sorted(notes), *record.notes):
        output.data.print(line, markup=False, highlight=False, soft_wrap=True)
    output.data.print(verdict(record), style="bold", markup=False, highlight=False, soft_wrap=True)


def _readings(record: Quantization) -> Table:
    """A table of readings: one row per metric; float, quantized, and the change."""
    from rich.box import SIMPLE
    from rich.table import Table

    from wb.compress.quantize.report import changes, titles

    table = Table(title=f"{record.config.policy} of {record.source}", title_justify="left", box=SIMPLE)
    for column in ("", "float", "quantized", "change"):
        table.add_column(column, justify="left" if not column else "right")
    shown = titles(record)
    for name, change in changes(record).items():
        before, after = record.floating[name], record.quantized[name]
        table.add_row(f"{shown[name]}\n{after.how}", before.text(), after.text(), change.replace(" (", "\n("))
    return table

"""The report of a quantization: float and quantized graph side by side, the precision of every group, and how it was chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import plotly.graph_objects as go

from wb.compress.quantize import figures
from wb.compress.quantize.record import Group, Quantization
from wb.compress.quantize.verdict import calibrated, compared, decibels, verdict, warned
from wb.core.measures.metrics import LATENCIES, METRICS
from wb.core.measures.readings import scaled
from wb.core.precision import BITS
from wb.core.statistics.verdict import Remark
from wb.jobs.calls.shown import Table, columns_table
from wb.jobs.frame.page import links, settings
from wb.page.look import figure_html
from wb.page.page import Column, render

COSTS = {"size": "file size", **{name: METRICS[name].title for name in LATENCIES}, "energy": "energy"}
POLICIES = {
    "int8": "static 8 bits: ranges of activations found beforehand, on calibration inputs (NNCF)",
    "int8-dynamic": "8 bits, activations quantized as they come (ONNX Runtime)",
    "int4-weights": "4-bit weights in blocks, products in floating point (ONNX Runtime)",
    "mixed": "a precision for every group, by measured sensitivity under the budget",
}


def page(record: Quantization, folder: Path, beside: Path) -> str:
    """The page, for files in `folder` and a page in `beside`."""
    names = ["float", "quantized"]
    return render(
        Path(__file__).parent / "quantize.html.jinja",
        record=record,
        policy=POLICIES[record.config.policy],
        remarks=[Remark(verdict(record), warned(record)), *map(Remark, record.notes)],
        names=names,
        columns=columns(record),
        changes=changes(record),
        error=error_text(record),
        calibrated=calibrated(record),
        in_float=in_float(record),
        groups=[(group, bits(group)) for group in record.groups],
        figures={name: figure_html(name, figure) for name, figure in _figures(record).items()},
        links=links({"ONNX graph": record.graph, "model": record.model}, folder, beside),
        settings=settings(record, _sections(record)),
    )


def table(record: Quantization) -> Table:
    """The readings of both graphs as a table, with the verdict."""
    return columns_table("quantization", ["float", "quantized"], columns(record), [verdict(record), *record.notes])


def titles(record: Quantization) -> dict[str, str]:
    """What was read of both graphs, by the name of the reading."""
    title = record.metric.title
    whole = {record.quality: f"validation {title}", "test": f"test {title}", **COSTS}
    return {name: title for name, title in whole.items() if name in record.quantized}


def columns(record: Quantization) -> list[Column]:
    """The readings of both graphs, one column per metric."""
    return [Column(title, [record.floating[name], record.quantized[name]]) for name, title in titles(record).items()]


def changes(record: Quantization) -> dict[str, str]:
    """Metric -> change of the quantized graph: points of quality, ratios of the rest; for latency the measured ratio."""
    found = {}
    for name in titles(record):
        before, after = record.floating[name].value, record.quantized[name].value
        if record.quantized[name].unit == "fraction":
            found[name] = f"{100 * (after - before):+.2f} points"
        elif name in LATENCIES and record.ratio is not None:
            ratio = record.ratios.get(name, record.ratio)
            low, high = ratio.interval or (ratio.value,) * 2
            found[name] = f"{ratio.value:.3f}x ({low:.3f} to {high:.3f})"
        else:
            found[name] = f"{after / before:.3f}x"
    return found


def error_text(record: Quantization) -> str:
    """The output error in words: `33.1 dB SQNR, top-1 agreement 99.22 %, on 256 validation images`."""
    error = record.error
    if error is None:
        return "not measured"
    agreement = "" if error.agreement is None else f", top-1 agreement {scaled(error.agreement, 'fraction')}"
    return f"{decibels(error.sqnr)}{agreement}, {error.kind} {error.divergence:.3g}, on {compared(record)}"


def bits(group: Group) -> str:
    """Bits per weight in the file."""
    return f"{BITS[group.precision]:g}"


def by_precision(record: Quantization) -> str:
    """Number of groups by precision: `24 int8, 2 fp32`."""
    counts = Counter(group.precision for group in record.groups)
    return ", ".join(f"{counts[p]} {p}" for p in BITS if counts[p])


def in_float(record: Quantization) -> str:
    """The share of weights that stay in floating point, in products and elsewhere: `8.1 % of the weights stay in …`."""
    floating = sum(group.weights for group in record.groups if group.precision == "fp32")
    whole = sum(group.weights for group in record.groups) + (record.loose or 0)
    if record.loose is None:  # a record of an older version
        return f"{_percent(floating, whole)} of the products' weights stay in floating point"
    shares = f"{_percent(floating, whole)} in products, {_percent(record.loose, whole)} in biases, norms, tables and the like"
    return f"{_percent(floating + record.loose, whole)} of the weights stay in floating point ({shares})"


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / max(whole, 1):.1f} %"


def reasons(record: Quantization) -> dict[str, list[str]]:
    """Reason for staying in floating point -> names of groups."""
    found: dict[str, list[str]] = {}
    for group in record.groups:
        if group.reason is not None:
            found.setdefault(group.reason, []).append(group.name)
    return found


def _figures(record: Quantization) -> dict[str, go.Figure]:
    found = {}
    if record.sensitivities:
        found["sensitivity"] = figures.sensitivity_figure(record)
    if record.quality in record.quantized and any(record.quality in one.readings for one in record.candidates):
        found["candidates"] = figures.candidates_figure(record)
    return found


def _sections(record: Quantization) -> dict[str, Mapping[str, object]]:
    return {
        "configuration": {"model": f"{record.source} ({record.model_key})", **record.config.model_dump(mode="json")},
        **({"data": record.data} if record.data else {}),
        **({"calibration": record.calibration} if record.calibration else {}),
    }

"""`report.html`: one self-contained page that shows a run, finished or not."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

import plotly.graph_objects as go

from wb.core.architecture import Architecture
from wb.core.measures.metrics import APART, CONTINUING, COSTS, METRICS, Metric, find_metric, the_metric
from wb.core.measures.readings import Reading, scaled
from wb.core.precision import precisions
from wb.core.records import MIXERS, Operator, Part, dims, groups, kind_of
from wb.core.system.files import write_text
from wb.page import look, page
from wb.search.fidelity.yardstick import TYPICAL
from wb.search.judgement.shown import preferred, sentences
from wb.search.page import figures
from wb.search.page.advice import advice
from wb.search.page.closer import PLACES, closer, shown
from wb.search.page.contents import Contents, dominated, read
from wb.search.page.traces import Candidate
from wb.search.results.devices import agreements, device_fronts
from wb.search.results.mixers import COLUMNS
from wb.search.run import Run
from wb.search.study.storage import public
from wb.spaces.operators import width_of

TEMPLATE = Path(__file__).parent / "report.html.jinja"
BITS = {"w1": "1", "w2": "2", "int4": "4", "int8": "8", "fp32": "32"}


def write_report(run: Run, output: Path | None = None) -> Path:
    """Writes the report of `run` to `output`, by default into the run folder; returns its path.

    Raises:
        BadArtefact: `run.json`, `front.json` or the study is damaged.
        BadOption: the driver of the study's database is not installed.
        StorageFailed: the study cannot be reached, or the page cannot be written.
    """
    path = output or run.report_path
    write_text(path, render(read(run), path.parent))
    return path


def render(contents: Contents, beside: Path) -> str:
    """The page as HTML; its links to models are relative to the folder `beside`."""
    curve, reference = dominated(contents.metrics, contents.candidates)
    return page.render(
        TEMPLATE,
        run=contents,
        record=contents.record,
        config=contents.record.config,
        metrics=contents.metrics,
        result=result(contents),
        judged=_judged(contents),
        resume=f"wb search --resume {shlex.quote(str(contents.run.folder))}",
        figures={name: look.figure_html(name, figure) for name, figure in _figures(contents, curve).items()},
        advice=advice(contents.points or (), contents.metrics, contents.record.config.bounds),
        best=contents.best,
        shown=shown(contents),
        places=PLACES,
        mixer_columns=COLUMNS,
        hypervolume=curve[-1] if curve else None,
        reference=list(zip(contents.metrics, reference, strict=bool(reference))),
        columns=_columns(contents),
        names=[f"network {point.id}" for point in contents.points or ()],
        links={point.id: _links(contents.run, point.model, point.onnx, beside) for point in contents.points or ()},
        colours=_colours(),
        sizes=_sizes,
        widths=_widths,
        width=width_of,
        slots=_slots(contents),
        widest=_widest(contents.architectures.values()),
        low=any(set(precisions(a).values()) != {"fp32"} for a in contents.architectures.values()),
        kinds=_precisions,
        bits=BITS,
        predictors=_predictors(contents),
        settings=_settings(contents),
        judgement=contents.record.judgement,
        sentences=sentences,
        devices=device_fronts(contents.points or (), contents.record.devices, contents.record.config.limits),
        agreements=agreements((one.readings for one in contents.candidates), contents.record.devices),
        preferred=preferred,
    )


def result(contents: Contents) -> str:
    """The run in one sentence."""
    front, metrics = contents.front, contents.metrics
    if not front:
        return "No network within the budget yet." if contents.candidates else "Nothing has been evaluated yet."
    metric = next((m for m in reversed(metrics) if not m.quality), METRICS["latency"])
    known = sorted((c.readings[metric.name] for c in front if metric.name in c.readings), key=lambda r: r.value)
    across = ""
    if known:
        ends = known[0].text() if len(known) == 1 else f"{_plain(known[0])} to {_plain(known[-1])}"
        across = f" {'of' if len(known) == 1 else 'from'} {ends} {metric.title} ({known[0].how})"
    networks = "one best network" if len(front) == 1 else f"a front of {len(front)} networks"
    tests = [c.test for c in front if c.test is not None]
    if not tests:
        return f"So far {networks}{across}."
    quality = contents.record.metric
    best = min(tests, key=quality.cost)
    sentence = f"{networks}{across}; best test {quality.title} {_plain(best)} ({best.how} on {best.n} examples)."
    return sentence[0].upper() + sentence[1:]


def _judged(contents: Contents) -> str:
    """How many images judge, and what they can tell at the best quality of the front."""
    name = contents.record.quality
    best = max((c.readings[name].value for c in contents.front if name in c.readings), default=TYPICAL)
    return contents.record.judged(min(max(best, 0.5), 0.995))


def _plain(reading: Reading) -> str:
    return ("~" if reading.how == "predicted" else "") + scaled(reading.value, reading.unit)


def _figures(contents: Contents, curve: Sequence[float]) -> dict[str, go.Figure]:
    """Name -> figure, for all figures with something to show."""
    metrics, front, candidates = contents.metrics, contents.front, contents.candidates
    limits = contents.record.config.limits
    numbers = {candidate.number for candidate in front}
    others = [candidate for candidate in candidates if candidate.number not in numbers]
    found: dict[str, go.Figure] = {}
    if front or others:
        found["front"] = (
            figures.progress_figure(metrics[0], front, others, limits)
            if len(metrics) == 1
            else figures.front_figure(metrics, front, others, limits, _beside(contents))
        )
    if len(metrics) > 1 and len(candidates) > 1 and curve[-1] > 0:
        first = next((i for i, c in enumerate(candidates) if c.predicted is not None), 0)
        found["hypervolume"] = figures.hypervolume_figure(curve, first)
    if any(candidate.predicted is not None for candidate in candidates):
        for i, metric in enumerate(metrics):
            found[f"predicted-{metric.name}"] = figures.predictions_figure(metric, i, candidates)
    found |= closer(contents)
    rows = _table_rows(contents)
    if rows:
        found["table"] = figures.table_figure(*zip(*rows, strict=True))
    if contents.record.seconds:
        found["stages"] = figures.seconds_figure(contents.record.seconds, "seconds")
    if contents.seconds:
        found["phases"] = figures.seconds_figure(contents.seconds, "seconds per evaluation, mean")
    return found


def _beside(contents: Contents) -> figures.Beside:
    """The recommended network and the known ones, as the figure of the front takes them."""
    best = None if contents.best is None else next(c for c in contents.front if c.number == contents.best.id)
    return figures.Beside(best, [Candidate(-1, one.values, test=one.test, name=one.name) for one in contents.baselines])


def _columns(contents: Contents) -> list[page.Column]:
    """The columns of the table of networks: quality first, then costs."""
    points, title = contents.points, contents.record.metric.title
    if points is None:
        return []
    return [
        page.Column(f"{title}, validation", [point.validation for point in points]),
        page.Column(f"{title}, test", [point.test for point in points]),
        *(
            page.Column(the_metric(name).title, [point.values[name] for point in points])
            for name in (*COSTS, *CONTINUING, *APART, *(f"latency@{name}" for name in contents.record.devices))
            if all(name in point.values for point in points)
        ),
    ]


def _links(run: Run, model: str, onnx: str, beside: Path) -> dict[str, str]:
    """The links to the files of one network: `model` and `onnx`."""
    return {name: page.link(run.folder / path, beside) for name, path in (("model", model), ("onnx", onnx))}


def _colours() -> dict[str, str]:
    """Mixer kind -> colour, in the order of the records."""
    return {kind_of(mixer): look.MANY[i % len(look.MANY)] for i, mixer in enumerate(MIXERS)}


def _widths(part: Part) -> list[int]:
    """The widths of a part."""
    return [getattr(part, name) for name in dims(type(part))]


def _precisions(operator: Operator | None) -> list[tuple[str, str]]:
    """What an operator's weights are kept in, `[("in int8, out fp32", "8 · 32")]`; empty where it has none with a precision."""
    named = {} if operator is None else groups(type(operator))
    kept = {ending.lstrip("."): str(getattr(operator, name)) for ending, (name, _) in named.items()}
    title = ", ".join(f"{ending} {precision}".strip() for ending, precision in kept.items())
    return [(title, " · ".join(BITS[precision] for precision in kept.values()))] if kept else []


def _sizes(operator: Operator) -> list[str]:
    """The widths of a mixer, line by line: `4 × 16/8` where each of four heads has channels of its own; else with their names.

    A mixer without widths has its settings instead.
    """
    known = dims(type(operator))
    sizes = {name: getattr(operator, name) for name in known}
    within = {outer: [n for n, dim in known.items() if dim.within == outer] for outer in known}
    lines = []
    for name, dim in known.items():
        if within[name]:
            lines.append(f"{sizes[name]} × {'/'.join(str(sizes[inner]) for inner in within[name])}")
        elif dim.within is None:
            lines.append(f"{name} {sizes[name]}")
    own = {"kind", *(name for name, _ in groups(type(operator)).values())}
    return lines or [f"{name} {value}" for name, value in operator if name not in own]


def _slots(contents: Contents) -> list[int]:
    """Stage by stage, how many blocks the drawing has room for."""
    counts = [[len(stage.blocks) for stage in a.stages] for a in contents.architectures.values()]
    stages = [max(column) for column in zip_longest(*counts, fillvalue=0)]
    return [max(stages[0], contents.slots)] if len(stages) == 1 else stages


def _widest(architectures: Iterable[Architecture]) -> dict[str, float]:
    """The largest embedding and the largest feed-forward ratio, which the bars of the drawing are relative to."""
    stages = [stage for architecture in architectures for stage in architecture.stages]
    ratios = [width_of(block.ffn) / stage.embed for stage in stages for block in stage.blocks if block.ffn is not None]
    return {"embed": max((stage.embed for stage in stages), default=1), "ratio": max(ratios, default=1.0)}


def _table_rows(contents: Contents) -> list[tuple[int, float, float]]:
    """(id, measured, estimated) of the networks on which the latency table was checked."""
    networks = (contents.record.table or {}).get("networks")
    rows = [row for row in networks if isinstance(row, dict)] if isinstance(networks, list) else []
    triples = [(row.get("id"), _number(row.get("measured_ms")), _number(row.get("estimated_ms"))) for row in rows]
    return [(i, m, e) for i, m, e in triples if isinstance(i, int) and m is not None and e is not None]


def _predictors(contents: Contents) -> list[dict[str, str]]:
    """One row per objective, with a dash for whatever the run did not record."""
    rows = []
    for name, quality in contents.record.predictors.items():
        if not isinstance(quality, Mapping):
            continue
        macs = quality.get("macs_only")
        macs = macs if isinstance(macs, Mapping) else {}
        metric = find_metric(name)
        rows.append(
            {
                "objective": metric.title if metric else name,
                "model": str(quality.get("model", "–")),
                "samples": _text(quality.get("samples"), "{:.0f}"),
                "kendall": _text(quality.get("kendall"), "{:.2f}"),
                "rmse": _amount(quality.get("rmse"), metric),
                "relative": _text(quality.get("relative_error"), "{:.1f} %", 100),
                "macs_kendall": _text(macs.get("kendall"), "{:.2f}"),
                "macs_relative": _text(macs.get("relative_error"), "{:.1f} %", 100),
            }
        )
    return rows


def _settings(contents: Contents) -> dict[str, Mapping[str, object]]:
    """Title -> name -> value, as the page shows them at its end."""
    record = contents.record
    config = record.config.model_dump(mode="json", exclude={"training"})
    config["seeds"] = list(record.config.seed_texts)
    if record.config.start is not None:
        config["start"] = f"a model of architecture {record.config.start.key}"
    if record.config.storage:
        config["storage"] = public(record.config.storage)
    data = record.data.model_dump(mode="json")
    machine = {**record.machine, "reference graph": record.pace.text()}
    machine |= {f"reference graph on {name}": pace.text() for name, pace in record.paces.items()}
    machine |= {f"device {name}": text for name, text in record.devices.items()}
    recipe = {"recipe": record.recipes} if record.recipes else {}
    return {"configuration": config, **recipe, "data": data, "machine": machine, "versions": record.versions}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _text(value: object, form: str, factor: float = 1) -> str:
    number = _number(value)
    return "–" if number is None else form.format(factor * number)


def _amount(value: object, metric: Metric | None) -> str:
    number = _number(value)
    if number is None:
        return "–"
    return scaled(number, metric.unit) if metric else f"{number:.3g}"

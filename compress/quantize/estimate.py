"""The plan of `wb quantize` (--dry-run): the stages of a job and about how long each takes here."""

from __future__ import annotations

import time

import onnx

from wb.compress.ptq.calibration import Inputs, batch_of, first, made_up, number_of, of_images
from wb.compress.ptq.convolutions import static_products
from wb.compress.ptq.holdout import READ
from wb.compress.ptq.mixed import ENOUGH
from wb.compress.ptq.outputs import outputs
from wb.compress.ptq.sensitivity import TIMED_S
from wb.compress.ptq.static import static_int8
from wb.compress.quantize.budgeted import QUICK_S
from wb.compress.quantize.job import QuantizeJob
from wb.core.commands.plan import Planned
from wb.core.measures.readings import scaled
from wb.core.records import Precision
from wb.core.system.files import scratch
from wb.export.assess import FINAL_S
from wb.training.estimate import network_stage

PROBED = 16  # inputs that the estimate runs through a graph


def estimate(job: QuantizeJob) -> list[Planned]:
    """The stages; nothing is written. The graph is quantized once, with few inputs, to see how long that takes.

    Raises:
        Unsupported: a quantizer cannot take the graph.
    """
    source, config = job.source, job.config
    inputs = _inputs(job)
    plain = _run_seconds(job, source.subject.graph, inputs)
    start = time.perf_counter()
    graph = _quantized(job, inputs)
    once = time.perf_counter() - start
    low = _run_seconds(job, graph, inputs)
    data = source.data
    images = 0 if data is None else len(data.validation) + len(data.test)
    steps = [_network(job)]
    match config.policy:
        case "mixed":
            steps += _mixed(job, once, low, images=0 if data is None else len(data.validation))
        case "int8":
            # NNCF runs a graph that outputs all activations as well, once for ranges and once for corrections.
            used = _calibrated(job)
            seconds = once + 4 * plain * max(0, used - number_of(inputs))
            steps.append(Planned("quantizing", f"int8, ranges found on {used} calibration inputs", seconds))
        case _:
            steps.append(Planned("quantizing", config.policy, once))
    seconds = (images + READ) * (plain + low) + 2 * FINAL_S
    scored = "scored on validation and test, " if images else ""
    return [*steps, Planned("readings", f"float and quantized graph, {scored}compared and timed together", seconds)]


def _network(job: QuantizeJob) -> Planned:
    """The first line of the plan: the network to quantize."""
    source = job.source
    size = scaled(job.record.first["size"].value, "B")
    groups = f"{len(source.subject.groups)} groups, {len(source.kept)} of them kept in floating point"
    if source.architecture is None:
        return Planned("network", f"{job.record.source}: an ONNX graph of {size}; {groups}", 0.0)
    one = network_stage(source.architecture, job.record.source)
    return one._replace(what=f"{one.what}; a graph of {size}; {groups}")


def _mixed(job: QuantizeJob, lowering: float, run: float, *, images: int) -> list[Planned]:
    """The stages of `mixed`: sensitivities of every group in every precision, then whole policies."""
    source, limits = job.source, job.record.limits
    options = source.subject.options
    keys = sum(len(options[group]) - 1 for group in source.subject.groups if group not in source.kept)
    timed = any(limit.metric.name == "latency" for limit in limits.values())
    calibrated = _calibrated(job)
    each = lowering + calibrated * run + (TIMED_S if timed else 0.0)
    trial = lowering + images * run + (2 * QUICK_S if timed else 0.0)
    left = max(0, keys - len(job.record.sensitivities))
    return [
        Planned("sensitivity", f"{left} of {keys} groups and precisions, each on {calibrated} inputs", left * each),
        Planned("policies", f"at most {ENOUGH} written and read, for {', '.join(limits)}", ENOUGH * trial),
    ]


def _calibrated(job: QuantizeJob) -> int:
    """How many inputs the policy is fitted to."""
    return number_of(_inputs(job, job.config.calib))


def _inputs(job: QuantizeJob, count: int = PROBED) -> Inputs:
    """A few inputs of the kind that the job uses."""
    source = job.source
    if source.inputs is not None:
        return first(source.inputs, max(count, batch_of(source.subject.graph)))
    if source.data is not None:
        return of_images(source.subject.graph, source.data.validation, count, job.config.seed)
    return made_up(source.subject.graph, count, job.config.seed)


def _quantized(job: QuantizeJob, inputs: Inputs) -> onnx.ModelProto:
    subject, kept = job.source.subject, job.source.kept
    if job.config.policy == "int8":
        return (static_products if subject.maps or subject.every else static_int8)(subject, inputs, kept).graph
    precision: Precision = "int4" if job.config.policy == "int4-weights" else "int8"
    choice, _ = job.uniform(precision)
    return subject.lowered(choice)


def _run_seconds(job: QuantizeJob, graph: onnx.ModelProto, inputs: Inputs) -> float:
    """Seconds for one input, run one at a time like graphs that find activation ranges at run time."""
    with scratch() as folder:
        path = folder / "graph.onnx"
        onnx.save(graph, path)
        start = time.perf_counter()
        outputs(path, inputs, job.device)
        return (time.perf_counter() - start) / number_of(inputs)

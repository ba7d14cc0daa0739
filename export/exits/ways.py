"""The ways out of a graph with early exits: what each takes, who goes which, and what is said where exits are in the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from wb.core.errors import BadArtefact, Unsupported
from wb.core.measures.readings import Reading
from wb.core.statistics.scores import wilson
from wb.data import Split
from wb.export.exits.graph import EXIT, THRESHOLD, export_exiting
from wb.export.exits.stream import EXAMPLES, spread, stream_latency
from wb.export.foreign.opening import open_graph, read_metadata
from wb.export.graph import LOGITS, export
from wb.export.timing.measure import Latency, measure_latency
from wb.foreign.reading import load
from wb.hardware.device import Device, session
from wb.models.exits.files import exits_of, load_exiting
from wb.models.exits.record import Exits, read_exits

CAP_S = 8.0  # seconds of timing for each graph


def graph_exits(path: Path) -> Exits | None:
    """The record of the exits in a graph's metadata; None for a graph without. Raises `BadArtefact` if it is damaged."""
    return read_exits(read_metadata(path), str(path))


def refuse_exits(path: Path, what: str) -> None:
    """Raises `Unsupported` for a graph with early exits, which `what` cannot be done to."""
    if path.suffix == ".onnx" and graph_exits(path) is not None:
        raise Unsupported(
            f"{path} has early exits, and {what} works on graphs that have one way; take the graph of the model that the exits "
            "were added to"
        )


def export_any(model: Path, graph: Path) -> None:
    """Exports a model file with exits or without. Raises as `export_exiting` and `wb.export.graph.export`."""
    if exits_of(model) is None:
        export(load(model), graph)
    else:
        export_exiting(load_exiting(model), graph)


def forced(path: Path, number: int) -> bytes:
    """The graph at `path`, always left by the exit of that number; by none if there is no such.

    Raises:
        BadArtefact: it is no graph that `export_exiting` wrote.
    """
    model = open_graph(path)
    found = _force(model.graph, number)
    record = read_exits({entry.key: entry.value for entry in model.metadata_props}, str(path))
    if record is None or found != len(record.after):
        raise BadArtefact(f"{path} is no graph with early exits that `wb` wrote, or was changed since; export it again")
    return bytes(model.SerializeToString())


def _force(graph: onnx.GraphProto, number: int) -> int:
    """Sets the thresholds in a graph and in those within it; returns how many there are."""
    count = 0
    for tensor in graph.initializer:
        name, _, exit_ = tensor.name.partition(":")
        if name == THRESHOLD and exit_.isdigit():
            limit = np.float32(-np.inf if int(exit_) == number else np.inf)
            tensor.CopyFrom(numpy_helper.from_array(np.full(1, limit, np.float32), tensor.name))
            count += 1
    for node in graph.node:
        for attribute in node.attribute:
            count += sum(_force(inner, number) for inner in (attribute.g, *attribute.graphs))
    return count


def time_ways(
    path: Path,
    record: Exits,
    device: Device,
    beside: dict[str, Path] | None = None,
    *,
    seed: int = 0,
    cap_s: float = CAP_S,
) -> dict[str, Latency]:
    """The latency of leaving by each exit always, gates included, by its name; and of the graphs `beside`. All in one run.

    Raises as `forced` and `wb.export.timing.measure.measure_latency`.
    """
    graphs: dict[str, Path | bytes] = {name: forced(path, k) for k, name in enumerate(record.names)}
    graphs |= beside or {}
    return measure_latency(graphs, device, cap_s=cap_s * len(graphs), seed=seed)


def answered(path: Path, split: Split, device: Device) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The logits (n, classes) that such a graph gives for all of `split`, and the numbers of the exits (n)."""
    loaded = session(path, device)
    found = [loaded.run([LOGITS, EXIT], dict(split.feed(np.arange(i, i + 1)))) for i in range(len(split))]
    return np.concatenate([logits for logits, _ in found]), np.concatenate([number for _, number in found])


def expected(costs: Sequence[Reading], exits: NDArray[np.int64]) -> Reading:
    """The mean latency that follows from the exits (n) that examples leave by, and from what each way takes."""
    values = np.array([cost.value for cost in costs])
    note = f"from the latency of each way out and the exits of {len(exits)} examples"
    return Reading(value=float(values[exits].mean()), unit="ms", how="predicted", n=len(exits), note=note)


def measured(
    path: Path, record: Exits, device: Device, split: Split | None, *, seed: int, cap_s: float
) -> dict[str, Reading]:
    """What `wb measure` says of such a graph: every way out, and of examples who leaves where and what that takes."""
    ways = time_ways(path, record, device, seed=seed, cap_s=cap_s)
    found = {f"latency, {title(name)}": latency.reading for name, latency in ways.items()}
    if split is None:
        return found
    _, exits = answered(path, split, device.here)
    for k, name in enumerate(record.names):
        count, n = int((exits == k).sum()), len(exits)
        share = {"value": count / n, "unit": "fraction", "how": "measured", "n": n, "device": device.here.text}
        found[f"share, {title(name)}"] = Reading.model_validate({**share, "interval": wilson(count, n)})
    some = exits[spread(len(exits), EXAMPLES)]
    found["latency, expected"] = expected([latency.reading for latency in ways.values()], some)
    if device.address is None:
        found["latency"] = stream_latency({"graph": path}, split, device, seed=seed, cap_s=cap_s)["graph"].reading
    return found


def title(name: str) -> str:
    """A way out in words."""
    return "to the end" if name == "end" else f"left after {name}"

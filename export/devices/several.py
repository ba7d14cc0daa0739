"""One graph on several devices: timed in turn where they share a machine, and set against the first of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.measures.readings import Reading, ratio
from wb.export.devices.predict import predicted
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.remote.address import OPTIONS, greeting
from wb.hardware.runtimes.known import OURS, PLUGGED, address_of, runtime
from wb.hardware.tables import TABLE


class Place(NamedTuple):
    """A device, and its name as the user gave it."""

    name: str
    device: Device


def device_names(text: str) -> list[str]:
    """`cpu,openvino,ssh:pi@host,cores=big` -> the devices that it names, of which the last has an option.

    A command (`run:…`) is the last one, as it may have commas itself.

    Raises:
        BadOption: none, or one twice.
    """
    names: list[str] = []
    for part in text.split(","):
        if names and (names[-1].startswith("run:") or part.partition("=")[0] in OPTIONS):
            names[-1] += f",{part}"
        else:
            names.append(part.strip())
    if not all(names) or len(set(names)) < len(names):
        raise BadOption(f"--device {text!r} names no device, or one twice; write for example cpu,openvino")
    return names


def places(text: str, threads: int) -> list[Place]:
    """The devices that `--device` names, for a finished network. Raises as `device_names` and `parse_device`."""
    return [Place(name, parse_device(name, threads, finished=True)) for name in device_names(text)]


def on_each(
    graph: Path,
    found: Sequence[Place],
    architecture: Architecture | None,
    *,
    batch: int = 1,
    cap_s: float = 10.0,
    seed: int = 0,
    tokens: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Reading]:
    """Name of the device -> the latency there, and `name / first` -> its ratio to the first device's.

    Devices of this machine are timed together, in turn and beside one reference, so that their ratios are exact. One in an
    environment of its own here has that reference too, of the same version, so that its ratio is one of ratios to it;
    ratios to other machines are of milliseconds. Ratios that have a predicted side are predicted.

    Raises:
        Unsupported: a table is to predict a graph that is not wb's, or more than one example a run.
        WbError: as `measure_latency` and `predicted`.
    """
    timed: dict[str, Latency] = {}
    readings: dict[str, Reading] = {}
    here = {place.name: place.device for place in found if place.device.address is None}

    def timing(graphs: Mapping[str, Path | bytes], device: Device, on: Mapping[str, Device]) -> dict[str, Latency]:
        seconds = cap_s * len(graphs)
        return measure_latency(graphs, device, batch=batch, cap_s=seconds, seed=seed, tokens=tokens, on=on)

    for name, device in found:  # first, as it may be refused
        if device.runtime == TABLE:
            readings[name] = _predicted(architecture, device, batch, tokens)
    if here:
        progress(f"timing on {', '.join(here)}")
        first = next(iter(here.values()))
        timed |= timing(dict.fromkeys(here, graph), first, here)
    for name, device in found:
        if name not in here and device.runtime != TABLE:
            progress(f"timing on {name}")
            timed |= timing({name: graph}, device, {})
    readings |= {name: one.reading for name, one in timed.items()}
    ordered = {name: readings[name] for name, _ in found}
    alike = {*here, *(name for name, device in found if device.runtime != TABLE and _beside_ours(device))}
    return ordered | {
        f"{name} / {found[0].name}": _ratio(name, found[0].name, ordered, timed, alike) for name, _ in found[1:]
    }


def with_nodes(
    readings: Mapping[str, Reading],
    graph: Path,
    device: Device,
    batch: int = 1,
    tokens: int | None = None,
    *,
    behind: bool = False,
) -> dict[str, Reading]:
    """The readings with a note of how many nodes each processor of this machine runs, where the runtime tells.

    They are those of the graph as it is timed, on inputs as `example_inputs` makes them; where a provider leaves some to the
    processor, that is said.
    """
    if device.address is not None:
        return dict(readings)
    timed: Path | bytes = graph
    if device.runtime == PLUGGED:
        inputs = example_inputs(session(graph, device.here), batch, tokens=tokens, behind=behind)
        timed = runtime(PLUGGED).prepare(graph, inputs)
    counts = runtime(device.runtime).nodes(timed, device.name, device.threads)
    told = ", ".join(f"{count} nodes on {name}" for name, count in counts.items())
    left = counts.get("CPUExecutionProvider", 0)
    if left and not device.on_cpu:
        told += f": {left} of {sum(counts.values())} fell back to the processor"
    if not told:
        return dict(readings)
    return {
        name: one.model_copy(update={"note": "; ".join(filter(None, (one.note, told)))})
        for name, one in readings.items()
    }


def _beside_ours(device: Device) -> bool:
    """Whether it is on this machine, with the version of ONNX Runtime that is here."""
    if device.address is None or address_of(device.runtime) != device.address:
        return False
    return greeting(device.address).onnxruntime == runtime(OURS).version()


def _predicted(architecture: Architecture | None, device: Device, batch: int, tokens: int | None) -> Reading:
    if architecture is None:
        raise Unsupported(f"{device.address} has blocks of wb's networks, and this graph is none; leave it out")
    if batch != 1 or tokens is not None:
        raise Unsupported(
            f"{device.address} has timings of one example of the usual size; leave --batch and --tokens out"
        )
    return predicted(architecture, device)


def _ratio(
    name: str, first: str, readings: Mapping[str, Reading], timed: Mapping[str, Latency], alike: Collection[str]
) -> Reading:
    """How much longer it takes there; those that are `alike` were timed beside the same reference."""
    if name in alike and first in alike:
        return ratio(timed[name].ratio, timed[first].ratio)
    found = ratio(readings[name], readings[first])
    predictions = "predicted" in (readings[name].how, readings[first].how)
    return found.model_copy(update={"how": "predicted"}) if predictions else found

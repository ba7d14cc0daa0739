"""`wb measure`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli import _output
from wb.cli._kinds import GRAPH, need
from wb.cli._options import DataOption, DeviceOption, JsonOption, SeedOption, ThreadsOption

if TYPE_CHECKING:
    from wb.core.readings import Reading
    from wb.data import Dataset
    from wb.hardware.device import Device


def measure(
    file: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file.")],
    data: DataOption = None,
    split: Annotated[str, typer.Option(help="Images for the accuracy: validation or test.")] = "test",
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per run when timing.")] = 1,
    cap: Annotated[float, typer.Option(min=0.1, help="Seconds after which timing stops, narrow enough or not.")] = 10.0,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency with its spread, accuracy where data fit, and count size, MACs and parameters."""
    from wb.core.errors import BadOption
    from wb.core.files import scratch
    from wb.export.graph import export
    from wb.export.measure import measure_latency
    from wb.hardware.device import parse_device
    from wb.models.model import load

    if split not in ("validation", "test"):
        raise BadOption(f"no split {split!r}; there are validation and test")
    kind = need(file, "model", "torch", "onnx", expected=GRAPH)
    where = parse_device(device or "cpu", threads=1 if threads is None else threads)
    with _output.progress() as progress, scratch() as folder:
        task = progress.add_task("reading", total=None)
        graph = file
        if kind != "onnx":
            progress.update(task, description="exporting")
            graph = folder / "model.onnx"
            export(load(file), graph)
        readings = _counted(graph)
        progress.update(task, description="timing")
        timed = measure_latency({file.name: graph}, where, batch=batch, cap_s=cap, seed=seed or 0)[file.name]
        readings |= {"latency": timed.reading, "latency / reference": timed.ratio}
        progress.update(task, description="scoring")
        dataset = _data(graph, data, image_size)
        if dataset is not None:
            readings[f"accuracy ({dataset.name}, {split})"] = _accuracy(graph, dataset, split, where)
    if as_json:
        _output.print_json({name: reading.model_dump(mode="json") for name, reading in readings.items()})
        return
    _output.data.print(_output.readings_table(readings, str(file)))
    _output.data.print(
        "latency / reference: in units of a small fixed graph timed beside it, which other machines share"
    )
    if dataset is None:
        _output.messages.print("no accuracy: say which --data to score it on")


def _counted(graph: Path) -> dict[str, Reading]:
    """Size, parameters and MACs; of our own graphs as their architecture has them."""
    from wb.core.readings import Reading
    from wb.export.count import count_graph, count_model
    from wb.export.graph import read_architecture

    architecture = read_architecture(graph)
    if architecture is None:
        size = Reading(value=graph.stat().st_size, unit="B", how="counted")
        return {"size": size, **count_graph(graph)}
    return count_model(architecture, graph)


def _data(graph: Path, spec: str | None, image_size: int | None) -> Dataset | None:
    """What was asked for; else digits, if the graph is one of ours that takes them."""
    from wb.data import load
    from wb.export.graph import read_architecture

    if spec is not None:
        return load(spec, image_size=image_size)
    architecture = read_architecture(graph)
    if architecture is None:
        return None
    image = architecture.input
    if (image.channels, image.height, image.width, architecture.classes) != (1, 8, 8, 10):
        return None
    return load("digits")


def _accuracy(graph: Path, dataset: Dataset, split: str, device: Device) -> Reading:
    from wb.export.score import accuracy

    images = dataset.validation if split == "validation" else dataset.test
    return accuracy(graph, images.pixels(), images.labels, device)

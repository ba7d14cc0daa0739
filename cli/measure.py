"""`wb measure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli import _output
from wb.cli._data import Choice, choose, read_data
from wb.cli._images import OPTIONS, of_graph, read_preparation, refuse_for_ours
from wb.cli._kinds import GRAPH, need
from wb.cli._options import (
    BackgroundOption,
    ByIndexOption,
    DeviceOption,
    JsonOption,
    MeanOption,
    ModelDataOption,
    PreprocessorOption,
    RunLimitOption,
    ScaleOption,
    SeedOption,
    StdOption,
    ThreadsOption,
)
from wb.cli._read import given_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from wb.core.architecture import Architecture
    from wb.core.readings import Reading
    from wb.data import Dataset
    from wb.data.preparation import Preparation
    from wb.hardware.device import Device


def measure(
    file: Annotated[Path, typer.Argument(help="A model file of wb's, or any ONNX file.")],
    data: ModelDataOption = None,
    split: Annotated[str, typer.Option(help="Images for the accuracy: validation or test.")] = "test",
    image_size: Annotated[int | None, typer.Option(help="Resize the images of a folder to this side.")] = None,
    by_index: ByIndexOption = False,
    mean: MeanOption = None,
    std: StdOption = None,
    scale: ScaleOption = None,
    preprocessor: PreprocessorOption = None,
    background: BackgroundOption = None,
    batch: Annotated[int, typer.Option(min=1, help="Images per run when timing.")] = 1,
    run_limit: RunLimitOption = None,
    cap: Annotated[float, typer.Option(min=0.1, help="Seconds after which timing stops, narrow enough or not.")] = 10.0,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency with its spread, accuracy where there are data, and count size, MACs and parameters.

    Images are shown in 0 to 1. What the loader of another network makes of them say --mean, --std and --scale, or
    --preprocessor; a graph that wb quantized says it itself. Latency, MACs and energy are of one run; where it takes more
    than one image, a note says how many. What cannot be counted has no number and says why.
    """
    from wb.core.errors import BadOption
    from wb.core.files import scratch
    from wb.export.graph import export
    from wb.export.timing.measure import measure_latency
    from wb.hardware.device import parse_device
    from wb.models.model import load

    data = given_data(data, background)
    if split not in ("validation", "test"):
        raise BadOption(f"no split {split!r}; there are validation and test")
    kind = need(file, "model", "torch", "onnx", expected=GRAPH)
    said = read_preparation(mean, std, scale, preprocessor)
    choice = _chosen(file, data, image_size, said, by_index)
    where = parse_device(device or "cpu", threads=1 if threads is None else threads)
    with _output.progress() as progress, scratch() as folder:
        task = progress.add_task("reading", total=None)
        graph = file
        if kind != "onnx":
            progress.update(task, description="exporting")
            graph = folder / "model.onnx"
            export(load(file), graph)
        architecture, remarks = _own(graph)
        if choice.spec is not None:
            dataset, notes = read_data(file, choice, of_graph(graph, said), by_index=by_index)
        if graph is file:
            progress.update(task, description="trying it out")
        readings, missing = _counted(graph, architecture, where, batch, seed or 0, run_limit, foreign=graph is file)
        progress.update(task, description="timing")
        timed = measure_latency({file.name: graph}, where, batch=batch, cap_s=cap, seed=seed or 0)[file.name]
        readings |= {"latency": timed.reading, "latency / reference": timed.ratio}
        progress.update(task, description="scoring")
        if choice.spec is not None:
            readings[f"accuracy ({dataset.name}, {split})"] = _accuracy(graph, dataset, split, where, notes)
    if as_json:
        _output.print_json(
            {name: {"value": None, "how": "counted", "note": why} for name, why in missing.items()}
            | {name: reading.model_dump(mode="json") for name, reading in readings.items()}
        )
        return
    _output.data.print(_output.readings_table(readings, str(file)))
    _output.data.print(
        "latency / reference: in units of a small fixed graph timed beside it, which other machines share"
    )
    for note in (*remarks, *(f"no {name}: {why}" for name, why in missing.items())):
        _output.data.print(note, markup=False, highlight=False, soft_wrap=True)
    if choice.spec is None:
        _output.messages.print("no accuracy: say which --data to score it on")


def _chosen(file: Path, data: str | None, image_size: int | None, said: Preparation | None, by_index: bool) -> Choice:
    """The data to score on, if any. Raises `BadOption` for what is said of images that are not shown or of a model of ours."""
    from wb.core.errors import BadOption

    if file.suffix != ".onnx":
        refuse_for_ours(str(file), said)
    choice = choose([file], data, image_size, needed=False, graphs=True)
    if choice.spec is None and (said is not None or image_size is not None or by_index):
        given = "--by-index is" if by_index else "--image-size is" if said is None else f"{OPTIONS} are"
        raise BadOption(f"{given} of no use without data; name some with --data")
    return choice


def _own(graph: Path) -> tuple[Architecture | None, list[str]]:
    """The architecture that one of our own graphs carries, and what to say where that is damaged."""
    from wb.core.errors import BadArtefact
    from wb.export.foreign.opening import open_graph
    from wb.export.graph import read_architecture

    open_graph(graph)  # what is wrong with the file itself is an error
    try:
        return read_architecture(graph), []
    except BadArtefact as error:
        return None, [f"{error}; it is measured like any other graph"]


def _counted(
    graph: Path,
    architecture: Architecture | None,
    device: Device,
    batch: int,
    seed: int,
    limit_s: float | None,
    *,
    foreign: bool,
) -> tuple[dict[str, Reading], Mapping[str, str]]:
    """Size, parameters and MACs, of our own graphs as their architecture has them; of what there is no number, why.

    A graph that comes from a file is tried out first.
    """
    from wb.export.counting.count import count_model
    from wb.export.foreign.opening import file_size
    from wb.export.foreign.trial import LIMIT_S, try_out

    trial = try_out(graph, device, batch, seed, LIMIT_S if limit_s is None else limit_s) if foreign else None
    size = {"size": file_size(graph)}
    if architecture is not None:
        return _of_run(count_model(architecture, graph), batch) | size, {}
    return (size, {}) if trial is None else (size | trial.readings, trial.missing)


def _of_run(readings: Mapping[str, Reading], batch: int) -> dict[str, Reading]:
    """Those of one image as those of a run, like the latency beside them."""
    from wb.hardware.device import of_run

    note = of_run((batch, 0, 0, 0))
    found = dict(readings)
    for name in ("macs", "energy") if note else ():
        reading = readings[name]
        notes = "; ".join(text for text in (reading.note, note) if text)
        found[name] = reading.model_copy(update={"value": batch * reading.value, "note": notes})
    return found


def _accuracy(graph: Path, dataset: Dataset, split: str, device: Device, notes: Sequence[str]) -> Reading:
    """On one split; its note says what the images were shown as, how classes were matched, and whether it is near chance."""
    from wb.export.score import examined
    from wb.tasks.classes import CLASSES

    images = dataset.validation if split == "validation" else dataset.test
    reading, doubt = examined(graph, images, CLASSES, device)
    told = "; ".join((*notes, *([doubt] if doubt else [])))
    return reading.model_copy(update={"note": told or None})

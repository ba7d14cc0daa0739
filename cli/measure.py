"""`wb measure`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wb.cli import _output
from wb.cli._data import choose, read_data
from wb.cli._images import OPTIONS, of_graph, read_preparation, refuse_for_ours
from wb.cli._options import (
    ByIndexOption,
    DeviceOption,
    JsonOption,
    MeanOption,
    ModelDataOption,
    PreprocessorOption,
    ScaleOption,
    SeedOption,
    StdOption,
    ThreadsOption,
)

if TYPE_CHECKING:
    from wb.core.readings import Reading
    from wb.data import Dataset
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
    batch: Annotated[int, typer.Option(min=1, help="Images per run when timing.")] = 1,
    cap: Annotated[float, typer.Option(min=0.1, help="Seconds after which timing stops, narrow enough or not.")] = 10.0,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure latency with its spread, accuracy where there are data, and count size, MACs and parameters.

    Images are shown in 0 to 1. What the loader of another network makes of them say --mean, --std and --scale, or
    --preprocessor; a graph that wb quantized says it itself.
    """
    import tempfile

    from wb.core.errors import BadArtefact, BadOption
    from wb.export.graph import export
    from wb.export.measure import measure_latency
    from wb.hardware.device import parse_device
    from wb.models.model import load

    if split not in ("validation", "test"):
        raise BadOption(f"no split {split!r}; there are validation and test")
    if not file.is_file():
        raise BadArtefact(f"there is no file {file}; expected a model file or an ONNX graph")
    said = read_preparation(mean, std, scale, preprocessor)
    if file.suffix != ".onnx":
        refuse_for_ours(str(file), said)
    choice = choose([file], data, image_size, needed=False)
    if choice.spec is None and (said is not None or image_size is not None or by_index):
        given = "--by-index is" if by_index else "--image-size is" if said is None else f"{OPTIONS} are"
        raise BadOption(f"{given} of no use without data; name some with --data")
    where = parse_device(device or "cpu", threads=1 if threads is None else threads)
    with _output.progress() as progress, tempfile.TemporaryDirectory(prefix="wb-") as folder:
        task = progress.add_task("reading", total=None)
        graph = file
        if file.suffix != ".onnx":
            progress.update(task, description="exporting")
            graph = Path(folder) / "model.onnx"
            export(load(file), graph)
        images = of_graph(graph, said)
        readings = _counted(graph)
        if choice.spec is not None:
            dataset, notes = read_data(file, choice, images, by_index=by_index)
        progress.update(task, description="timing")
        timed = measure_latency({file.name: graph}, where, batch=batch, cap_s=cap, seed=seed or 0)[file.name]
        readings |= {"latency": timed.reading, "latency / reference": timed.ratio}
        progress.update(task, description="scoring")
        if choice.spec is not None:
            readings[f"accuracy ({dataset.name}, {split})"] = _accuracy(graph, dataset, split, where, notes)
    if as_json:
        _output.print_json({name: reading.model_dump(mode="json") for name, reading in readings.items()})
        return
    _output.data.print(_output.readings_table(readings, str(file)))
    if choice.spec is None:
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


def _accuracy(graph: Path, dataset: Dataset, split: str, device: Device, notes: Sequence[str]) -> Reading:
    """On one split; its note says what the images were shown as, how classes were matched, and whether it is near chance."""
    from wb.export.score import examined

    images = dataset.validation if split == "validation" else dataset.test
    reading, doubt = examined(graph, images.pixels(), images.labels, device)
    told = "; ".join((*notes, *([doubt] if doubt else [])))
    return reading.model_copy(update={"note": told or None})

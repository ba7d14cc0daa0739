"""Files of a bundle for other runtimes than ONNX Runtime: LiteRT's `.tflite`, OpenVINO's `.xml` with its `.bin`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, MissingExtra, Unsupported
from wb.core.measures.metrics import METRICS
from wb.core.measures.readings import Reading
from wb.core.system.files import scratch
from wb.data import Dataset
from wb.export.graph import read_architecture
from wb.export.score import examined
from wb.hardware.device import Device, example_inputs, parse_device, session
from wb.hardware.runtimes.environment import run_there, versions
from wb.hardware.runtimes.litert import Kind, converted_to_tflite, drop
from wb.jobs.bundle.apart import SECONDS, BundleDiffers, try_apart
from wb.jobs.bundle.config import RuntimeName
from wb.jobs.bundle.stored import LOWERED
from wb.tasks.known import task_of


class Added(NamedTuple):
    """A graph for another runtime: its file, the package that runs it, and how far its scores may be from those that are stored.

    `tolerance` is of the largest score, None for that of the other graphs.
    """

    file: str
    package: str
    tolerance: float | None = None


FILES: Mapping[RuntimeName, Added] = {
    "litert": Added("model_b1.tflite", "ai-edge-litert"),
    "litert-int8": Added("model_b1_int8.tflite", "ai-edge-litert", LOWERED),
    "openvino": Added("model_b1.xml", "openvino"),
}


def check_runtimes(names: Sequence[RuntimeName], architecture: Architecture) -> None:
    """Before work begins.

    Raises:
        MissingExtra: one of them is not there.
        Unsupported: a network of texts, whose inputs have any number of tokens.
    """
    if names and architecture.input.usual_tokens is not None:
        raise Unsupported("--runtimes is for networks of images: a text has any number of tokens; leave it out")
    if any(name.startswith("litert") for name in names):
        versions()
    if "openvino" in names and find_spec("openvino") is None:
        raise MissingExtra(
            "--runtimes openvino needs openvino, which is not installed; run: pip install 'wb[openvino]'"
        )


def add(names: Sequence[RuntimeName], graph: Path, made: Path, progress: Progress) -> list[Added]:
    """Writes the files for those runtimes beside the others of the bundle in `made`; `graph` is its graph for any batch.

    Raises:
        BadArtefact: a graph cannot be converted.
    """
    inputs = example_inputs(session(graph, Device()))
    for name in names:
        progress(f"converting for {name}", 0, 0)
        if name == "openvino":
            _write_openvino(made / "model_b1.onnx", made / FILES[name].file)
            continue
        kind: Kind = "int8" if name == "litert-int8" else "fp32"
        (made / FILES[name].file).write_bytes(converted_to_tflite(graph, inputs, kind))
    return [FILES[name] for name in names]


def measured_there(names: Sequence[RuntimeName], graph: Path, data: Dataset, split: str) -> dict[str, Reading]:
    """What the task's metric is on examples for graphs that round, by name: nobody knows it from that of the others."""
    task, found = task_of(read_architecture(graph)), dict[str, Reading]()
    for name in names:
        if FILES[name].tolerance is not None:
            device = parse_device(name, finished=True).scoring("device")
            part = data.validation if split == "validation" else data.test
            reading, _ = examined(graph, part, task, device, own=True)
            found[f"{METRICS[task.metric].title} ({data.name}, {split})@{name}"] = reading
    return found


def check_added(names: Sequence[RuntimeName], made: Path, script: str, folder: Path) -> None:
    """Runs the bundle's check of each file by its own runtime, where `wb` is out of reach. Raises `BundleDiffers`."""
    for name in names:
        check = ("--check", FILES[name].file)
        if name == "openvino":
            site = folder / f"site-{name}"
            site.mkdir()
            try_apart((script, *check), made, ("numpy", "openvino"), site)
            continue
        with scratch() as inside:
            what = f"the bundle's check of {FILES[name].file}"
            try:
                run_there([str(made / script), *check], inside, SECONDS, what)
            except BadArtefact as error:
                drop((made / FILES[name].file).read_bytes())
                raise BundleDiffers(str(error)) from error


def _write_openvino(graph: Path, out: Path) -> None:
    openvino = import_module("openvino")
    try:
        openvino.save_model(openvino.Core().read_model(str(graph)), str(out), compress_to_fp16=False)
    except RuntimeError as error:
        raise BadArtefact(f"openvino cannot read the graph for one example ({error})") from error

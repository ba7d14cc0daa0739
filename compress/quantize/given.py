"""The arguments of a quantization: a model of the workbench or any ONNX file, with options that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from wb.compress.quantize.begin import Given, of_maps
from wb.compress.quantize.config import FITTED, LIMITED, QuantizeConfig
from wb.core.commands.option import option_of
from wb.core.errors import BadOption, Unsupported
from wb.core.measures.metrics import parse_budget
from wb.core.system.files import absolute
from wb.data import Dataset
from wb.data.preparation import Preparation, described
from wb.data.spec import WHITE, colour
from wb.export.exits.ways import refuse_exits
from wb.export.foreign.trial import LIMIT_S
from wb.export.graph import read_architecture
from wb.hardware.remote.elsewhere import runtime_of
from wb.hardware.runtimes.known import way_of
from wb.jobs.frame.output import config_of
from wb.jobs.inputs import Choice
from wb.jobs.kinds import need
from wb.jobs.reading import read_data
from wb.jobs.verbs.preparation import OPTIONS, of_graph, refuse_for_ours


def configured(file: Path | None, given: Mapping[str, Any]) -> QuantizeConfig:
    """The options of the command, by the names of fields, as a configuration; None is as not given.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    given = {name: value for name, value in given.items() if value is not None or name == "data"}
    static = of_maps(file) or way_of(runtime_of(given.get("device", "cpu")), "int8") == "static"
    given.setdefault("policy", "mixed" if given.get("budget") else "int8" if static else "int8-dynamic")
    for name in ("image_size", "by_index"):
        if given["data"] is None and given.get(name):
            raise BadOption(f"{option_of(QuantizeConfig, name)} is of no use without data; name some with --data")
    calibration = given.get("calibration")
    shown = given["data"] is not None or (calibration is not None and calibration.is_dir())
    given["images"] = _images(file, given.get("images"), shown=shown)
    if calibration is not None:
        place = absolute(calibration)
        need(place, "pictures", "folder", "arrays", expected="a folder of images, .npy or .npz")
        given["calibration"] = str(place)
    given["background"] = colour(given.get("background", WHITE))
    calibrated = given["policy"] in FITTED
    sampled = not calibrated and (given["data"] or calibration) and not is_graph(file)
    if "calib" in given and sampled:
        raise BadOption(f"--samples is of no use: --policy {given['policy']} needs no calibration; leave it out")
    config = config_of(QuantizeConfig, "quantize", given)
    parse_budget(config.budget, LIMITED)  # raises
    return config


def background_of_data(given: Mapping[str, Any], background: str | None) -> str | None:
    """The background of the data: `background`, unless it is that of calibration images only."""
    return background if given.get("calibration") is None or given.get("data") is not None else None


def is_graph(file: Path | None) -> TypeGuard[Path]:
    """Whether the given file is an ONNX file."""
    return file is not None and file.suffix == ".onnx"


def _images(file: Path | None, said: Preparation | None, *, shown: bool) -> Preparation | None:
    """How images are prepared for a foreign graph: as the options say, or else as the graph's file says.

    Raises:
        BadOption: options of preparation for a model of the workbench, or without images.
    """
    if not is_graph(file):
        refuse_for_ours(str(file or "the stock model"), said)
        return None
    if said is not None and not shown:
        raise BadOption(
            f"{OPTIONS} are of no use where no images are shown (an array is taken as it is); give --data, or --calibration "
            "with a folder of images"
        )
    return of_graph(file, said)


def foreign(config: QuantizeConfig, file: Path, run_limit: float | None) -> tuple[Given, Dataset | None]:
    """An ONNX file with notes on the preparation of its images, and the data to score it on."""
    architecture = read_architecture(file)
    if architecture is not None and architecture.causal:
        raise Unsupported(
            f"{file} continues texts, and such graphs are quantized from their model, which tells the table of the head: "
            "give the model file (.safetensors or .pt) that it was exported from"
        )
    refuse_exits(file, "quantization")
    data, notes = None, list[str]()
    if config.data is not None:
        data, notes = read_data(file, Choice.of(config), config.images, by_index=config.by_index)
    elif config.calibration is not None and Path(config.calibration).is_dir() and read_architecture(file) is None:
        notes = [described(config.images)]
    return Given(str(file), path=file, notes=tuple(notes), limit_s=LIMIT_S if run_limit is None else run_limit), data

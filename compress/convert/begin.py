"""The beginning of a conversion: all checks and the original's readings, before any time is spent on training."""

from __future__ import annotations

from pathlib import Path

from wb.compress.convert.config import ConvertConfig
from wb.compress.convert.job import ConvertJob, check_work
from wb.compress.convert.record import Conversion
from wb.compress.staged.job import checked, record_of
from wb.core.commands.progress import Progress
from wb.data import Dataset
from wb.jobs.frame.output import MODELS, Output
from wb.models.model import Model

OUTPUT = Output("convert", "converted.safetensors", MODELS, "{path} is the model that is converted")


def files_of(out: Path) -> list[Path]:
    """The files that a conversion writes."""
    return [out.with_suffix(ending) for ending in (".html", ".json", ".onnx", out.suffix)]


def begin(
    config: ConvertConfig, model: Model, name: str, data: Dataset, out: Path, progress: Progress, *, force: bool
) -> ConvertJob:
    """The job, new with the original's readings or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or another conversion's files lie beside `out`.
        BadData: the data do not fit the model.
        BadOption: a mixer that cannot be where it is wanted, or a wiring or norms that cannot be replaced.
        Unsupported: the network does not take images.
    """
    model = checked(model, name, data)
    check_work(config, data, model.architecture)
    record = record_of(Conversion, config, model, name, data, out, progress)
    return ConvertJob(record, out, progress, model, data, force=force)

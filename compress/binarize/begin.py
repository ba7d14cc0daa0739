"""The beginning of a binarization: all checks and the original's readings, before any time is spent on training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.plan import check_work
from wb.compress.binarize.record import Binarization
from wb.compress.staged.job import checked, record_of
from wb.core.commands.option import structured
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.data import Dataset
from wb.jobs.frame.output import MODELS, Output, config_of
from wb.models.model import Model

OUTPUT = Output("binarize", "binarized.safetensors", MODELS, "{path} is the model that is binarized")


def files_of(out: Path) -> list[Path]:
    """The files that a binarization writes."""
    return [out.with_suffix(ending) for ending in (".html", ".json", ".onnx", out.suffix)]


def configured(given: Mapping[str, Any]) -> BinarizeConfig:
    """The options by the names of fields, as a configuration.

    Raises:
        BadOption: a value that does not fit, or an option that would do nothing.
    """
    config = config_of(BinarizeConfig, "binarize", structured(BinarizeConfig, given))
    hashing = [name for name in ("form", "bits", "anchors") if name in given]
    if hashing and config.attention != "hash":
        raise BadOption(f"--{hashing[0]} is of hash attention; add --attention hash")
    if config.weights == "keep" and (config.keep or config.head):
        raise BadOption("--keep and --all choose which weights are rounded, but with --weights keep none are")
    return config


def begin(
    config: BinarizeConfig, model: Model, name: str, data: Dataset, out: Path, progress: Progress, *, force: bool
) -> BinarizeJob:
    """The job, new with the original's readings or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or another binarization's files lie beside `out`.
        BadData: the data do not fit the model.
        BadOption: nothing to do, no softmax mixer to convert, no group to round, or a group that the model does not have.
    """
    model = checked(model, name, data)
    check_work(config, model.architecture)
    record = record_of(Binarization, config, model, name, data, out, progress)
    return BinarizeJob(record, out, progress, model, data, force=force)

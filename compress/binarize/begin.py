"""The beginning of a binarization: all checks and the original's readings, before any time is spent on training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.job import BinarizeJob
from wb.compress.binarize.plan import check_work
from wb.compress.binarize.record import Binarization
from wb.core.commands.option import structured
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.precision import TRAINED, precisions, with_precisions
from wb.data import Dataset
from wb.export.counting.count import energy_by_part
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import measured
from wb.jobs.frame.output import MODELS, Output, config_of
from wb.jobs.frame.tune import recipes
from wb.models.model import Model, check_weights
from wb.training.train import check_fits

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

    The original is in floating point. A model kept in int8 or int4 has its weights in full precision, so it is read as fp32.

    Raises:
        BadArtefact: weights that are not finite; or another binarization's files lie beside `out`.
        BadData: the data do not fit the model.
        BadOption: nothing to do, no softmax mixer to convert, no group to round, or a group that the model does not have.
    """
    check_fits(model.architecture, data)
    check_weights(model.weights, name)
    check_work(config, model.architecture)
    quantized = {group for group, precision in precisions(model.architecture).items() if precision not in TRAINED}
    model = replace(model, architecture=with_precisions(model.architecture, dict.fromkeys(quantized, "fp32")))
    record = taken_up(Binarization, config, {"model": model.fingerprint(), "data": data.fingerprint}, out)
    if record is None:
        progress("measuring the original", 0, 0)
        fields, readings = measured(config, config.seed, model, data, timed=False)
        record = Binarization(
            **fields,
            recipes=recipes(config, model.architecture, data),
            source=name,
            energy=energy_by_part(model.architecture),
            first=readings,
        )
    return BinarizeJob(record, out, progress, model, data, force=force)

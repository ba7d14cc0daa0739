"""The beginning of early exits: all checks, before any time is spent."""

from __future__ import annotations

from pathlib import Path

from wb.compress.exits.config import ExitsConfig
from wb.compress.exits.job import ExitsJob
from wb.compress.exits.record import EarlyExits
from wb.core.commands.progress import Progress
from wb.core.errors import Unsupported
from wb.core.precision import TRAINED, precisions
from wb.data import Dataset
from wb.export.refusal import check_exportable
from wb.hardware.device import parse_device
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import described
from wb.jobs.frame.output import Output
from wb.jobs.frame.record import origin
from wb.jobs.frame.tune import recipes
from wb.models.exits.module import Exiting, check_trunk
from wb.models.exits.record import chosen
from wb.models.model import Model, check_weights
from wb.tasks.suited import check_fits

OUTPUT = Output("exits", "exiting.safetensors", (".safetensors",), "{path} is the model that exits are added to")


def files_of(out: Path) -> list[Path]:
    """The files that are written."""
    return [out.with_suffix(ending) for ending in (".html", ".json", ".onnx", out.suffix)]


def begin(
    config: ExitsConfig, model: Model | Exiting, name: str, data: Dataset, out: Path, progress: Progress, *, force: bool
) -> ExitsJob:
    """The job, new or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or another job's files lie beside `out`.
        BadData: the data do not fit the model.
        BadOption: no block of that name, or a network of one block.
        Unsupported: the network takes texts, or keeps weights in int8 or int4.
    """
    trunk = model.trunk if isinstance(model, Exiting) else model
    architecture = trunk.architecture
    check_trunk(architecture)
    check_exportable(architecture)
    check_fits(architecture, data)
    check_weights(trunk.weights, name)
    if any(precision not in TRAINED and precision != "fp32" for precision in precisions(architecture).values()):
        raise Unsupported(
            f"{name} keeps weights in int8 or int4, and graphs with early exits are in floating point; give it in fp32"
        )
    after = model.record.after if isinstance(model, Exiting) else chosen(architecture, config.blocks)
    key = trunk.fingerprint()
    record = taken_up(EarlyExits, config, {"model": key, "data": data.fingerprint}, out)
    if record is None:
        device = parse_device(config.device, threads=config.threads)
        record = EarlyExits(
            **origin(device.text),
            config=config,
            recipes=recipes(config, architecture, data),
            source=name,
            model_key=key,
            data=described(data),
            architecture=architecture,
            after=after,
            given=isinstance(model, Exiting),
        )
    return ExitsJob(record, out, progress, model, data, force=force)

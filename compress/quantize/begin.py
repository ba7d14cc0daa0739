"""The beginning of a quantization: all checks and the float graph's first readings, before any time is spent."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from pydantic import JsonValue

from wb.compress.ptq.calibration import Inputs, batch_of, number_of, of_images, read_inputs
from wb.compress.ptq.holdout import drawn, parted
from wb.compress.ptq.subject import Subject, of_graph, of_model
from wb.compress.quantize.config import FITTED, QuantizeConfig
from wb.compress.quantize.job import QuantizeJob
from wb.compress.quantize.record import Quantization, worked_on
from wb.compress.quantize.source import Source
from wb.core.commands.progress import Progress
from wb.core.errors import BadArtefact, BadData, BadOption, Unsupported
from wb.core.measures.metrics import Limit
from wb.data import Dataset
from wb.data.spec import ARRAYS, FEATURES
from wb.export.assess import Assessor
from wb.export.foreign.trial import LIMIT_S, try_out
from wb.foreign.reading import read_header
from wb.hardware.device import parse_device
from wb.hardware.remote.elsewhere import runtime_of
from wb.hardware.runtimes.known import way_of
from wb.jobs.frame.begin import left, refusal
from wb.jobs.frame.output import GRAPHS, Output
from wb.jobs.frame.record import origin
from wb.models.model import Model, check_weights
from wb.tasks.known import task_of
from wb.tasks.suited import check_fits

SHOWN = 30  # names of groups in an error

OUTPUT = Output("quantize", "quantized.onnx", GRAPHS, "{path} is the model that is quantized, and would be written")


@dataclass(frozen=True)
class Given:
    """The model to quantize: a model of the workbench, or the path of any ONNX file.

    `name` is how the user called it; `notes` tell what its data needed; `limit_s` is the time limit in seconds for trying out a
    file (`wb.export.foreign.trial`).
    """

    name: str
    model: Model | None = None
    path: Path | None = None
    notes: tuple[str, ...] = ()
    limit_s: float = LIMIT_S

    def key(self) -> str:
        """16 hexadecimal digits of the model's fingerprint or of the file's hash."""
        if self.model is not None:
            return self.model.fingerprint()
        return hashlib.sha256(self.path.read_bytes() if self.path else b"").hexdigest()[:16]


def of_maps(file: Path | None) -> bool:
    """Whether it is a model of the workbench with stages of convolutions, which only static ranges make faster."""
    if file is None or file.suffix == ".onnx" or not file.exists():
        return False
    try:
        return read_header(file)[0].has_maps
    except (BadArtefact, BadOption, Unsupported):  # told where the model is read
        return False


def files_of(config: QuantizeConfig, file: Path | None, out: Path) -> list[Path]:
    """The files that a quantization writes; a foreign graph and static quantization have no model file."""
    foreign = file is not None and file.suffix == ".onnx"
    ranged = of_maps(file) or way_of(runtime_of(config.device), "int8") == "static"
    fixed = config.policy == "int8" or (config.policy == "mixed" and ranged)  # ranges, which no model file has
    model = () if foreign or fixed else (".safetensors",)
    return [out.with_suffix(ending) for ending in (".html", ".json", *model, ".onnx")]


def begin(
    config: QuantizeConfig, given: Given, data: Dataset | None, out: Path, progress: Progress, *, force: bool
) -> QuantizeJob:
    """The job, new with the float graph's first readings or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: no such file, weights that are not finite; or another quantization's files lie beside `out`.
        BadData: data or calibration inputs that do not fit.
        BadOption: a group to keep that does not exist, a policy without the inputs it needs, an option that does nothing.
        Unsupported: a graph that the runtime or a quantizer cannot take.
    """
    if given.model is not None:
        check_weights(given.model.weights, given.name)
        if data is not None:
            check_fits(given.model.architecture, data)
    quality = task_of(None if given.model is None else given.model.architecture).metric
    limits = config.limits(quality)
    _check_needs(config, limits, given, data)
    progress("reading the float graph", 0, 0)
    subject = of_model(given.model) if given.model is not None else _foreign(given, config)
    if subject.continues:
        _check_continuing(config, limits)
    kept = kept_groups(subject, config.keep)
    if len(kept) == len(subject.groups):
        raise BadOption("--keep names every group; there is nothing left to quantize")
    inputs, fresh = _inputs(config, subject, data)
    if way_of(runtime_of(config.device), "int8") == "static":
        subject = replace(subject, every=True)
    if config.policy == "mixed" and (subject.maps or subject.every):
        subject = replace(subject, ranges=inputs)
    source = Source(subject, given.path, data, inputs, kept, config.images, fresh)
    record = _left(
        config, worked_on(given.key(), None if data is None else data.fingerprint, _described(config, source)), out
    )
    if record is None:
        progress("measuring the float graph", 0, 0)
        timed = any(limit.metric.name == "latency" for limit in limits.values())
        record = _measured(config, quality, given, source, timed=timed and config.policy == "mixed")
    return QuantizeJob(record, out, progress, source, force=force)


def _foreign(given: Given, config: QuantizeConfig) -> Subject:
    """The graph in the file as a subject, after a trial run. Raises as `of_graph` and `wb.export.foreign.trial.try_out` do."""
    path = given.path or Path()
    try_out(path, parse_device(config.device, threads=config.threads), limit_s=given.limit_s)
    return of_graph(path)


def kept_groups(subject: Subject, keep: Collection[str]) -> frozenset[str]:
    """The groups that `keep` names, by whole names or by their beginnings up to a dot (`s0.b3`, `s0.b3.mixer`).

    Raises:
        BadOption: a name that fits no group.
    """
    found: set[str] = set()
    for name in keep:
        fits = {group for group in subject.groups if group == name or group.startswith(f"{name}.")}
        if not fits:
            names = list(subject.groups)
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            raise BadOption(f"no group named {name} to keep; there are {', '.join(names[:SHOWN])}{more}")
        found |= fits
    return frozenset(found)


def _left(config: QuantizeConfig, worked_on: Mapping[str, JsonValue], out: Path) -> Quantization | None:
    """The record of the interrupted quantization beside `out`; None if there is none or it has nothing worth continuing.

    Raises:
        BadArtefact: the record is of other settings, another model or other data, or the folder is something else.
    """
    record = left(Quantization, out)
    if record is None or (record.config, record.worked_on) == (config, worked_on):
        return record
    if record.begun or record.done:
        raise refusal(Quantization, out)
    return None


def _check_needs(config: QuantizeConfig, limits: Mapping[str, Limit], given: Given, data: Dataset | None) -> None:
    """Raises `BadOption` if a policy lacks inputs that it needs, or an option would do nothing."""
    calibrated = config.policy in FITTED
    if calibrated and data is None and config.calibration is None:
        raise BadOption(
            f"--policy {config.policy} has to see inputs: give --calibration (a folder of images, .npy or .npz), or --data "
            "that fits the graph"
        )
    if config.calibration is not None and not calibrated and data is not None:
        raise BadOption(
            f"--calibration is of no use here: --policy {config.policy} needs none, and outputs are compared on validation "
            "images; leave it out"
        )
    for text, limit in limits.items():
        if limit.metric.quality and data is None:
            aim = f"budget {text!r}" if config.budget else "--policy mixed without a --budget"
            raise BadOption(
                f"{aim} is about {limit.metric.title}; give --data that fits {given.name}, or say --budget size=0.3x"
            )


def _check_continuing(config: QuantizeConfig, limits: Mapping[str, Limit]) -> None:
    """Raises `Unsupported` for what is not done to graphs that continue texts."""
    if config.policy == "int8":
        raise Unsupported(
            "--policy int8 fixes ranges of activations on whole texts, and this network is given its own past, whose ranges "
            "nothing fixes; take int8-dynamic, which is for long prompts, or int4-weights, for one token after the other"
        )
    timed = [text for text, limit in limits.items() if limit.metric.name == "latency"]
    if timed and config.policy == "mixed":
        raise Unsupported(
            f"budget {', '.join(timed)}: a network that continues texts has two latencies, of a prompt and of a token, and no "
            "policy is looked for under either; give one on size or ppl, or compare int8-dynamic and int4-weights"
        )


def _inputs(config: QuantizeConfig, subject: Subject, data: Dataset | None) -> tuple[Inputs | None, Inputs | None]:
    """The calibration inputs and the inputs kept out of them; None for each that is not needed.

    Calibration inputs are the user's, or else training images for a policy that is fitted. Part of the user's inputs is kept out
    of a fitted policy to read the output error on, unless there are validation images for that.
    """
    fitted = config.policy in FITTED
    if config.calibration is not None:
        every = read_inputs(Path(config.calibration), subject.graph, config.images, config.background)
        _check_range(every, subject, config.calibration)
        batch = batch_of(subject.graph)
        if config.calib < batch:
            raise BadOption(f"--samples {config.calib} is fewer than the graph takes at once; give {batch} or more")
        if fitted and data is None:
            return parted(every, config.calib, batch, config.seed)
        return drawn(every, config.calib - config.calib % batch, config.seed), None
    if fitted and data is not None:
        return of_images(subject.graph, data.train, config.calib, config.seed), None
    return None, None


def _check_range(inputs: Inputs, subject: Subject, what: str) -> None:
    """Raises `BadData` for images beyond [0, 1] if the graph is the workbench's, which normalises images itself."""
    ours = subject.model is not None or any(entry.key == "wb.architecture" for entry in subject.graph.metadata_props)
    for name, values in inputs.items():
        if values.dtype.kind != "f":  # ids of tokens, or their mask
            continue
        low, high = float(values.min()), float(values.max())
        if ours and (low < 0 or high > 1):
            raise BadData(
                f"{what}: {name} has values from {low:.4g} to {high:.4g}, but this network takes images in [0, 1]; divide "
                f"by 255, or give features with their labels as --data {ARRAYS},values={FEATURES}:FILE"
            )


def _described(config: QuantizeConfig, source: Source) -> dict[str, JsonValue] | None:
    if source.inputs is None:
        return None
    digest = hashlib.sha256()
    for part in (source.inputs, source.fresh or {}):
        for name, array in sorted(part.items()):
            digest.update(f"{name}{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    kept_out = {} if source.fresh is None else {"kept_out": number_of(source.fresh)}
    return {
        "from": config.calibration
        or f"training {'images' if source.data is None else source.data.train.noun} of {config.data}",
        "inputs": number_of(source.inputs),
        **kept_out,
        "fingerprint": digest.hexdigest()[:16],
    }


def _measured(config: QuantizeConfig, quality: str, given: Given, source: Source, *, timed: bool) -> Quantization:
    """A new record, with the float graph's readings, which budgets refer to."""
    device = parse_device(config.device, threads=config.threads)
    assess = Assessor(device, seed=config.seed)
    data = source.data
    doubt: str | None = None
    described: dict[str, JsonValue] | None = None
    if data is not None:
        described = {"spec": data.spec, "fingerprint": data.fingerprint, "validation": len(data.validation)}
        described |= {name: value for name, value in data.origin.items() if name in ("image_size", "limit")}
        described["test"] = len(data.test)
        described |= {"noun": data.train.noun} if data.train.noun != "images" else {}
    with source.float_file() as path:
        readings = assess.file(path, source.architecture, {})
        if data is not None:
            readings[quality], doubt = assess.doubted(path, data.validation, source.architecture)
        if timed:
            readings["latency"] = assess.timed({"float": path})["float"].reading
    return Quantization(
        **origin(device.text),
        config=config,
        quality=quality,
        source=given.name,
        model_key=given.key(),
        data=described,
        calibration=_described(config, source),
        first=readings,
        notes=(*given.notes, *([f"{given.name}: {doubt}"] if doubt else [])),
        near_chance=doubt is not None,
    )

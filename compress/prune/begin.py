"""The beginning of a pruning: all checks and the dense model's readings, before any time is spent on pruning."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from wb.compress.nvit.cost import parameters_by_part
from wb.compress.nvit.nvit import check_keep
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.job import PruneJob
from wb.compress.prune.record import Pruning
from wb.compress.prune.stages import name_of, stages_of
from wb.core.commands.progress import Progress
from wb.core.measures.metrics import of_runs
from wb.data import Dataset
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import measured
from wb.jobs.frame.output import MODELS, Output
from wb.jobs.frame.tune import recipes
from wb.models.model import Model, check_weights
from wb.tasks.suited import check_fits

OUTPUT = Output("prune", "pruned.safetensors", MODELS, "{path} is the model that is pruned")


def files_of(config: PruneConfig, out: Path) -> list[Path]:
    """What is written: models on the way, and the last one."""
    shares = config.snapshots if config.budget else config.snapshots[:-1]
    models = [*(out.with_stem(f"{out.stem}-{name_of(share)}") for share in shares), out]
    ends = [out.with_suffix(".html"), out.with_suffix(".json")]
    return [*ends, *(path for model in models for path in (model.with_suffix(".onnx"), model))]


def begin(
    config: PruneConfig, model: Model, name: str, data: Dataset, out: Path, progress: Progress, *, force: bool
) -> PruneJob:
    """The job, with the dense model's readings, or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or what lies beside `out` is of another pruning.
        BadData: the data do not fit the model.
        BadOption: an axis that the model does not have, a budget that is met already, a snapshot below the budget.
    """
    limits = of_runs(config.limits, continues=model.architecture.causal)
    check_fits(model.architecture, data)
    check_keep(config.settings.keep, model.architecture)
    check_weights(model.weights, name)
    record = taken_up(Pruning, config, {"model": model.fingerprint(), "data": data.fingerprint}, out)
    if record is None:
        told = partial(progress, "measuring the dense model")
        fields, readings = measured(config, config.settings.seed, model, data, told)
        record = Pruning(
            **fields,
            recipes=recipes(config, model.architecture, data),
            model=name,
            parts=parameters_by_part(model.architecture),
            dense=readings,
        )
    stages_of(limits, config.snapshots, config.settings.rounds, record.dense)  # raises
    return PruneJob(record, out, progress, model, data, force=force)

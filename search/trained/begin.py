"""The beginning of a search from a trained model: all checks and the model's readings, before any time is spent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.core.measures.metrics import LATENCIES
from wb.core.system.files import absolute
from wb.data import Dataset
from wb.jobs.frame.begin import begin as taken_up
from wb.jobs.frame.begin import measured
from wb.jobs.frame.tune import recipes
from wb.jobs.frame.work import RECORD, work_of
from wb.models.model import Model, check_weights
from wb.models.network import skeleton
from wb.search.alternatives.mixers import lacking, others
from wb.search.trained.config import TrainedConfig
from wb.search.trained.job import TrainedJob
from wb.search.trained.record import TrainedSearch
from wb.spaces.columnar.presets import AUTO
from wb.tasks.suited import check_fits

PAGE = "report.html"


def place(folder: Path | None, models: Sequence[Path]) -> Path:
    """The page in the run folder, beside which everything else is written, checked before any work.

    Raises:
        BadOption: the folder has something else in it.
    """
    if folder is None:
        return Path("runs") / f"{datetime.now():%Y%m%d-%H%M%S}" / PAGE
    out = folder / PAGE
    if (work_of(out) / RECORD).exists():
        return out
    if folder.exists() and (not folder.is_dir() or any(path.name != work_of(out).name for path in folder.iterdir())):
        inside = any(absolute(folder) in absolute(model).parents for model in models)
        where = "; the model lies in it" if inside else ""
        raise BadOption(f"{folder} exists and is not empty{where}; choose another --out")
    return out


def begin(config: TrainedConfig, model: Model, name: str, data: Dataset, out: Path, progress: Progress) -> TrainedJob:
    """The job, with the model's readings, or as an interruption left it; nothing is written.

    Raises:
        BadArtefact: weights that are not finite; or what lies in the folder is of another search.
        BadData: the data do not fit the model, or are too few.
        BadOption: a budget that is met already.
        BudgetMissed: a counted one that nothing reaches.
    """
    check_fits(model.architecture, data)
    check_weights(model.weights, name)
    if not model.architecture.compact().stages or all(block.off for _, _, block in model.architecture.blocks()):
        raise BadOption(f"{name} has no sub-layers that there could be alternatives for")
    for name in config.mixers if AUTO not in config.mixers else ():
        _check_mixer(model, name)
    record = taken_up(TrainedSearch, config, {"model": model.fingerprint(), "data": data.fingerprint}, out)
    if record is None:
        told = partial(progress, "measuring the model")
        fields, readings = measured(config, config.seed, model, data, told)
        record = TrainedSearch(**fields, recipes=recipes(config, model.architecture, data), model=name, dense=readings)
    job = TrainedJob(record, out, progress, model, data)
    for point in job.asked if config.front is None else ():
        stage = job.stage(point)  # raises
        counted = [limit.metric.name for limit in stage.limits if limit.metric.name not in LATENCIES]
        job.check_reach(stage, {metric: job.least_of(metric) for metric in counted})
    return job


def _check_mixer(model: Model, kind: str) -> None:
    """Raises `BadOption` if no sub-layer of the model could have that mixer."""
    mixers = [at for at in skeleton(model.architecture).walk() if at.kind == "mixer"]
    if mixers and not any(others(model.architecture, at, [kind]) for at in mixers):
        raise BadOption(
            f"--mixers {kind} cannot be in the place of any mixer of this model: in the first it {lacking(mixers[0], kind)}; "
            f"leave it out, or say --mixers {AUTO}"
        )

"""The plan of `wb prune nvit` and `wb prune depth` (--dry-run): the stages of a job and about how long each takes."""

from __future__ import annotations

from wb.compress.depth.drop import sublayers
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.costs import costs_of, untimed
from wb.compress.nvit.nvit import REFITS, check_reachable
from wb.compress.nvit.settings import REFITTED_ON
from wb.compress.prune.job import PruneJob
from wb.core.commands.plan import Planned
from wb.core.measures.metrics import LATENCIES
from wb.export.assess import FINAL_S, QUICK_S
from wb.export.timing.blocks import PART_CAP_S
from wb.export.timing.estimate import ReadingTimes, reading_times
from wb.export.timing.table import LatencyTable
from wb.jobs.frame.tune import tuning
from wb.training.estimate import image_seconds, network_stage, step_seconds, training_stage
from wb.training.fit import Recipe

LANDINGS = 3  # attempts at a latency, about; a counted metric needs one
PART_S = PART_CAP_S / 4  # of timing a part on a quiet machine


def estimate(job: PruneJob) -> list[Planned]:
    """The stages; nothing is pruned, and nothing written.

    Raises:
        BudgetMissed: a budget on what is counted that cannot be reached.
    """
    architecture, config = job.model.architecture, job.config
    times = reading_times(job.model, job.data, job.device)
    timed = [name for name in LATENCIES if name in {limit.metric.name for one in job.stages for limit in one.limits}]
    latency = bool(timed)
    keep = frozenset(config.settings.keep)
    found = [network_stage(architecture, job.record.model)]
    counted = [limit for limit in job.stages[-1].limits if limit.metric.name in ("macs", "params", "energy")]
    if counted:
        costs: dict[str, Cost] = costs_of([limit.metric.name for limit in counted], architecture, None, keep=keep)
        check_reachable(counted, costs, job.model, config.settings)
    if latency:
        align = config.settings.rules(architecture).align
        parts = sum(untimed(architecture, LatencyTable(job.device), run, keep=keep, align=align) for run in timed)
        what = f"{parts} parts of the network that are not timed yet, for what pruning would save"
        found.append(Planned("timing parts", what, parts * PART_S))
    found.append(_pruning(job, times, latency=latency))
    if config.settings.compensate:
        found.append(_compensation(job))
    if config.finetune:
        recipe = tuning(config, architecture, job.data)
        one = training_stage("fine-tuning", architecture, job.data, recipe, teacher=config.distill)
        models = len(job.stages)
        what = one.what + (f", for each of {models} models" if models > 1 else "")
        found.append(Planned(one.name, f"{what}; at the dense network's pace", models * one.seconds))
    graphs = 1 + len(job.stages)
    images = len(job.data.validation) + len(job.data.test)
    what = f"{graphs} models exported, scored on validation and test, and timed together"
    return [*found, Planned("final readings", what, times(graphs, images, FINAL_S))]


def _compensation(job: PruneJob) -> Planned:
    """Both networks are run on the images, the pruned one twice; the sums of a regression take about as long."""
    images = min(REFITTED_ON, len(job.data.train))
    what = (
        f"what writes to the stream, and the head, refitted on {images} training {job.data.train.noun} without labels"
    )
    depth = job.config.method == "depth"
    cuts = sum(1 if depth else min(stage.rounds, 1 + REFITS) for stage in job.stages)
    what += f", after each of {cuts} cuts" if cuts > 1 else ""
    return Planned("compensation", what, 4 * cuts * images * image_seconds(job.model.architecture, job.data))


def _pruning(job: PruneJob, times: ReadingTimes, *, latency: bool) -> Planned:
    """Rounds, and the landing of each stage on its limits."""
    config, data = job.config, job.data
    aims = "; ".join(
        " and ".join(limit.text() for limit in stage.asked) + (" on the way" if stage.name else "")
        for stage in job.stages
    )
    cap = QUICK_S if latency else None
    landing = len(job.stages) * (LANDINGS * times(4, 0, cap) if latency else times(2, 0, None))
    images = min(config.settings.calibration, len(data.train))
    if config.method == "depth":
        layers = len(sublayers(job.model.architecture))
        depth = min(limit.value / job.record.dense[limit.metric.name].value for limit in job.stages[-1].limits)
        drops = max(1, round(layers * (1 - depth)))
        # Each round tries every sub-layer that is left and runs the sub-layers after it: half a network on the average.
        tried = sum((layers - i) / 2 for i in range(drops))
        seconds = tried * images * image_seconds(job.model.architecture, data) * (LANDINGS if latency else 1)
        what = (
            f"about {drops} of {layers} sub-layers dropped, each by its effect on {images} training {data.train.noun}"
        )
        return Planned("pruning", f"{what}, until {aims}", seconds + landing)
    settings = config.settings
    rounds = sum(stage.rounds for stage in job.stages) - len(job.record.rounds)
    architecture = job.model.architecture
    scoring = images / settings.batch * step_seconds(architecture, data, Recipe(batch=settings.batch))
    recovery = settings.recovery * step_seconds(architecture, data, Recipe(), teacher=config.distill)
    seconds = rounds * (scoring + recovery + times(2, len(data.validation), cap))
    what = f"{rounds} rounds of scoring on {images} training {data.train.noun}, cutting and {settings.recovery} training steps"
    if settings.rotate and not job.record.rounds:
        what = f"heads turned into the bases that these {data.train.noun} give them; {what}"
        seconds += images * image_seconds(architecture, data)
    return Planned("pruning", f"{what}, until {aims}", seconds + landing)

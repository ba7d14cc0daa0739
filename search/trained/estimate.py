"""The plan of `wb search --from` (--dry-run): its stages and about how long each takes."""

from __future__ import annotations

from statistics import fmean

from wb.core.commands.plan import Planned
from wb.core.measures.metrics import LATENCIES
from wb.export.assess import FINAL_S, QUICK_S
from wb.export.timing.estimate import reading_times
from wb.jobs.frame.tune import tuning
from wb.models.network import skeleton
from wb.search.alternatives.choose import RANDOM, SOLUTIONS
from wb.search.alternatives.lines import Lines
from wb.search.alternatives.mixers import STEPS, others
from wb.search.alternatives.option import sizes
from wb.search.alternatives.scores import Scored
from wb.search.trained.budgets import parse_points
from wb.search.trained.images import folder_of
from wb.search.trained.job import TrainedJob
from wb.training.arithmetic import quick_products
from wb.training.estimate import image_seconds, network_stage, training_stage
from wb.training.refit.distil import IMAGES

LANDINGS = 4  # readings of a network on its way to a latency, about; a counted metric needs two
PART_S = 0.5  # of timing an alternative on a quiet machine
TRAINED = 3.0  # times a run, forwards and backwards
FITTED = 6.0  # runs of a sub-layer that its alternatives take to be fitted, about, with so many numbers of channels of queries
QUERIES = 4


def estimate(job: TrainedJob) -> list[Planned]:
    """The stages; nothing is written."""
    config, data, architecture = job.config, job.data, job.model.architecture
    walk = list(skeleton(architecture).walk())
    mixed = [others(architecture, at, config.mixers) for at in walk]
    heads = [sum(at.operator.sizes["heads"].bit_length() for _ in found) for at, found in zip(walk, mixed, strict=True)]
    own = [list(sizes(at, config.align)) for at in walk]
    counts = [2 + len(found) + more for found, more in zip(own, heads, strict=True)]
    runs = FITTED * fmean(max(1.0, len({size.qk for size in found}) / QUERIES) for found in own)
    with quick_products():
        image = image_seconds(architecture, data)
    fit, score = len(job.images.fit), len(job.images.score)
    folder = folder_of(job.model, data, config)
    scored = len(Lines(folder / "scores.jsonl", Scored).read())
    wanted = [min(count, config.alternatives or count) for count in counts]
    found = [network_stage(architecture, job.record.model)]
    if scored < sum(wanted):
        what = f"{sum(counts)} alternatives for {len(walk)} sub-layers, fitted to {fit} training {job.data.train.noun}"
        distil = f", and trained for {config.distil} steps each" if config.distil else ""
        taught = config.distil * sum(counts) + max(STEPS, config.distil) * sum(map(len, mixed))
        steps = TRAINED * taught * IMAGES * image / len(walk)
        found.append(Planned("library", what + distil, runs * fit * image + steps))
        # from a sub-layer to the end: half of the network on the average
        left = sum(wanted) - scored
        what = f"{left} alternatives, each in the whole network, on {score} other training {job.data.train.noun}"
        found.append(Planned("scores", what, left * score * image / 2))
    else:
        found.append(Planned("library", f"{sum(counts)} alternatives, which are in {folder}", 0.0))
    points = config.front or len(parse_points(config.texts))
    latency = any(limit.metric.name in LATENCIES for point in parse_points(config.texts) for limit in point)
    if latency:
        found.append(Planned("costs", f"at most {sum(wanted)} alternatives timed", sum(wanted) * PART_S))
    times = reading_times(job.model, data, job.device)
    landing = 0.0 if config.front else points * LANDINGS * times(2, 0, QUICK_S if latency else None)
    choices = (points * SOLUTIONS + RANDOM) * score * image
    found.append(Planned("choices", f"{points} networks, each the best of {SOLUTIONS}", choices + landing))
    found.append(Planned("correction", f"of {points} networks", points * 8 * fit * image))
    if config.finetune:
        recipe = tuning(config, architecture, data)
        one = training_stage("fine-tuning", architecture, data, recipe, teacher=True)
        what = f"{one.what}, for each of {points} networks; at the model's pace"
        found.append(Planned(one.name, what, points * one.seconds))
    images = len(data.validation) + len(data.test)
    what = f"{points + 1} networks exported, scored on validation and test, and timed together"
    return [*found, Planned("final readings", what, times(points + 1, images, FINAL_S))]

"""The plan of `wb exits` (--dry-run): the stages and about how long each takes here."""

from __future__ import annotations

import time

import torch

from wb.compress.exits.gates import FOLDS, LADDER, Candidates, Judged
from wb.compress.exits.heads import STEPS
from wb.compress.exits.job import ExitsJob
from wb.compress.exits.kept import BETAS, Joint
from wb.core.commands.plan import Planned
from wb.export.exits.ways import CAP_S
from wb.export.timing.estimate import reading_times
from wb.training.estimate import image_seconds, network_stage, training_stage
from wb.training.head import IMAGES


def estimate(job: ExitsJob) -> list[Planned]:
    """The stages; nothing is written. Gates are trained on made-up answers to see how long that takes."""
    a, data, after = job.trunk.architecture, job.data, job.record.after
    each, ways = image_seconds(a, data), len(after) + 1
    found = [network_stage(a, job.record.source)]
    looked = min(len(data.train), IMAGES) + len(data.validation)
    if not job.record.given:
        what = f"after {', '.join(after)}, fitted to what the network makes of {looked:,} images, then {STEPS} steps at most"
        found.append(Planned("heads", what, 2 * looked * each))
        if job.config.epochs:
            found.append(training_stage("tuning", a, data, job.recipe, teacher=True))
    times = reading_times(job.trunk, data, job.device)
    found.append(Planned("timing", f"{ways} ways out and the network without exits", times(ways + 1, 0, CAP_S)))
    found.append(
        Planned(
            "gates",
            f"for {len(job.config.betas)} betas, and those that keep accuracy, on {len(data.validation):,} images",
            _gates(job, ways),
        )
    )
    graphs = len(job.config.betas) + 2
    said = f"{graphs} graphs at most, scored on test, and timed over examples of it"
    return [*found, Planned("final readings", said, times(graphs, len(data.test), CAP_S))]


def _gates(job: ExitsJob, ways: int) -> float:
    """Seconds in which all gates are trained, each ladder once for all images and once for each part."""

    count, classes = len(job.data.validation), job.trunk.architecture.head.classes
    generator = torch.Generator().manual_seed(0)
    answers = tuple(torch.randn(count, classes, generator=generator) * k for k in range(1, ways + 1))
    labels = answers[-1].argmax(1)
    judged, shares = Judged(answers, labels), [k / ways for k in range(1, ways + 1)]
    start = time.perf_counter()
    Candidates(judged, shares, LADDER)
    Candidates(judged, shares, BETAS)
    Joint(judged, shares)
    return (time.perf_counter() - start) * (1 + FOLDS)

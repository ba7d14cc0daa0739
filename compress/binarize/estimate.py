"""The plan of `wb binarize` (--dry-run): the stages of a job and about how long each takes here."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial

from wb.compress.binarize.hash import HashAttention
from wb.compress.binarize.job import BinarizeJob
from wb.compress.staged.estimate import estimate as planned
from wb.compress.staged.record import Name
from wb.core.architecture import Architecture
from wb.core.commands.plan import Planned
from wb.core.records import Hash
from wb.models.model import Model
from wb.models.passes.base import apply

WHAT = {
    "hash": f"{Hash.title}: its functions learned from attention maps, block by block",
    "w1": "binary weights",
    "w2": "ternary weights",
}


def estimate(job: BinarizeJob) -> list[Planned]:
    """The stages; nothing is written. One block is converted to hash attention to see how long that takes.

    Raises:
        BadOption: sizes of hash functions that do not fit.
    """
    return planned(job, partial(_converted, job), WHAT)


def _converted(job: BinarizeJob, name: Name, before: Architecture) -> tuple[Architecture, float]:
    """The network of a stage that starts from `before`, and about how many seconds its conversion takes."""
    step = job.step(name)
    if not isinstance(step, HashAttention):
        return step(Model(before, {})).architecture, 0.0  # rounding needs no weights here, and no time
    after = step.converted(before)
    pairs = zip(before.blocks(), after.blocks(), strict=True)
    blocks = [name for (name, _, old), (_, _, new) in pairs if old.mixer != new.mixer]
    start = time.perf_counter()
    apply(replace(step, blocks=tuple(blocks[:1])), job.model)
    return after, len(blocks) * (time.perf_counter() - start)

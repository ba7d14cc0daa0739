"""`wb search --dry-run`: what would be done, and about how long it would take here, found by doing a little of it."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from rich.progress import Progress

from wb.data import load as load_data
from wb.data.batches import batches
from wb.hardware.device import parse_device
from wb.search.budget import check_budget
from wb.search.choice import MAX_FINALISTS
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluator
from wb.search.seeds import seed_choices
from wb.search.supernet import WARM_UP, Supernet, sandwich
from wb.spaces.presets import vit_space
from wb.training.fit import Batch, pick_device

PROBE_STEPS = 6


class Stage(NamedTuple):
    """One stage: its name, what it does, and the seconds it will take, extrapolated from a probe."""

    name: str
    what: str
    seconds: float


def plan(config: SearchConfig, progress: Progress) -> list[Stage]:
    """The stages of a search with that configuration; writes nothing.

    Raises:
        WbError: whatever `wb search` would refuse before it starts.
    """
    torch.set_num_threads(config.threads)
    task = progress.add_task("probing", total=None)
    device = parse_device(config.device, threads=config.threads)
    start = time.perf_counter()
    data = load_data(config.data, image_size=config.image_size, limit=config.limit)
    reading = time.perf_counter() - start
    space = vit_space(data, config.preset, config.changes)
    seed_choices(space, config.seeds)
    progress.update(task, description="checking the budget")
    check_budget(config, space, data, device)
    supernet = Supernet.fresh(space, config.seed, pick_device())
    steps = config.recipe.steps(len(data.train))
    progress.update(task, description="probing: training steps")
    alone, full = (_step_seconds(supernet, config, data.train, steps, at) for at in (0, steps - 1))
    training = steps * (WARM_UP * alone + (1 - WARM_UP) * full)
    progress.update(task, description="probing: evaluations")
    evaluation = _evaluation_seconds(Evaluator(Supernet.fresh(space, config.seed), data, device, latency=True))
    sizes = f"{len(data.train)} + {len(data.validation)} + {len(data.test)}"
    genes = len(space.genes)
    finetune = f", each fine-tuned for {config.finetune} epochs" if config.finetune else ""
    first = f"; first {', '.join(config.seed_texts)}" if config.seeds else ""
    tuning = config.finetune * alone * steps / config.epochs * MAX_FINALISTS / 2
    return [
        Stage("data", f"{data.spec}: {sizes} images for training, validation, test", reading),
        Stage("supernet", f"{config.epochs} epochs of {steps // config.epochs} steps on {supernet.device}", training),
        Stage(
            "search",
            f"{config.trials} evaluations by {config.sampler!r} over {genes} choices; objectives {config.objectives}{first}",
            config.trials * evaluation,
        ),
        Stage(
            "finalists",
            f"at most {MAX_FINALISTS}, timed together{finetune}, test split read once",
            10 * evaluation + tuning,
        ),
    ]


def _evaluation_seconds(evaluate: Evaluator) -> float:
    """The mean of the largest and the smallest network, after one that only loads the libraries."""
    space = evaluate.supernet.space
    evaluate(space.smallest())
    start = time.perf_counter()
    for architecture in (space.smallest(), space.largest()):
        evaluate(architecture)
    return (time.perf_counter() - start) / 2


def _step_seconds(supernet: Supernet, config: SearchConfig, split, steps: int, at: int) -> float:  # type: ignore[no-untyped-def]
    """Seconds of one training step, as they are `at` that step of the schedule."""
    backward = sandwich(supernet, config.recipe, config.seed)
    images, labels = next(batches(split, config.recipe.batch, shuffle=False))
    batch = Batch(images.to(supernet.device), labels.to(supernet.device), at, steps)
    backward(batch)
    start = time.perf_counter()
    for _ in range(PROBE_STEPS):
        backward(batch)
    return (time.perf_counter() - start) / PROBE_STEPS

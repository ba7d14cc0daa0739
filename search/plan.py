"""The plan of `wb search --dry-run`: the stages and about how long each takes here, estimated from short probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from rich.progress import Progress

from wb.core.architecture import Architecture
from wb.data import Dataset
from wb.data import load as load_data
from wb.data.batches import batches
from wb.export.timing.table import LatencyTable
from wb.hardware.device import parse_device
from wb.search.budget import check_budget
from wb.search.choice import MAX_FINALISTS, expected
from wb.search.config import SearchConfig
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.run import Run
from wb.search.study.memory import check_memory
from wb.search.study.reach import reach
from wb.search.study.seeds import seed_choices
from wb.search.study.there import There, there
from wb.search.supernet import WARM_UP, Supernet, sandwich
from wb.spaces.presets import vit_space
from wb.tasks.known import task_of
from wb.training.fit import Batch, Recipe, pick_device

PROBE_STEPS = 6


class Stage(NamedTuple):
    """One stage: its name, what it does, and the seconds it will take, extrapolated from a probe."""

    name: str
    what: str
    seconds: float


def plan(config: SearchConfig, progress: Progress, workers: int = 1, run: Run | None = None) -> list[Stage]:
    """The stages of a search with that configuration, without those that `run` has done; nothing is written.

    Raises:
        WbError: as `wb search` does before it starts.
    """
    torch.set_num_threads(config.threads)
    task = progress.add_task("probing", total=None)
    device = parse_device(config.device, threads=config.threads)
    start = time.perf_counter()
    data = load_data(config.data, image_size=config.image_size, limit=config.limit)
    reading = time.perf_counter() - start
    space = vit_space(data, config.preset, config.changes)
    if run is not None:
        run.read().check_data(config.data, data.fingerprint)
    done = There() if run is None else there(run, config)
    check_memory(space)
    seed_choices(space, config.seeds)
    if config.tabulated:
        LatencyTable(device).check()
    if run is None:
        progress.update(task, description="checking the budget")
        check_budget(config, space, data, device)
    supernet = Supernet.fresh(space, config.seed, pick_device())
    progress.update(task, description="probing: training steps")
    training = _training_seconds(supernet, config, data, done.epochs)
    tuning = _tuning_seconds(supernet, config, data)
    progress.update(task, description="probing: evaluations")
    latency = "latency" in config.read
    ends = _ends(Evaluator(Supernet.fresh(space, config.seed), data, device, latency=True))
    readings = {architecture: evaluation.readings for architecture, evaluation in ends.items()}
    whole = _mean(ends, lambda phases: sum(s for name, s in phases.items() if latency or name != "time"))
    alone = _mean(ends, lambda phases: phases["time"] if latency else 0.0)
    left = config.trials - done.evaluations
    return [
        Stage("data", _data(data), reading),
        Stage("supernet", _supernet(config, data, str(supernet.device), done.epochs), training),
        Stage(
            "search",
            _search(config, done, len(space.genes), workers, reach(space, config.limits, readings, config.seed)),
            left * max(alone, whole / max(1, min(workers, left))),
        ),
        _finalists(config, done, tuning, _mean(ends, lambda phases: sum(phases.values()))),
    ]


def _data(data: Dataset) -> str:
    sizes = f"{len(data.train)} + {len(data.validation)} + {len(data.test)}"
    shape = ", ".join(spec.text for spec in data.specs())
    return f"{data.spec}: {sizes} images of {shape} in {len(data.classes)} classes for training, validation, test"


def _supernet(config: SearchConfig, data: Dataset, device: str, done: int) -> str:
    if done >= config.epochs:
        return "is trained"
    there = f", of which {done} are done" if done else ""
    return f"{config.epochs} epochs{there} of {config.recipe.steps(len(data.train)) // config.epochs} steps on {device}"


def _search(config: SearchConfig, done: There, genes: int, workers: int, within: str) -> str:
    left = config.trials - done.evaluations
    if not left:
        return f"all {config.trials} evaluations are there"
    together = f" in {min(workers, left)} processes" if min(workers, left) > 1 else ""
    parts = [
        f"{left} evaluation{'' if left == 1 else 's'}{together} by {config.sampler!r} over {genes} choices",
        f"{done.evaluations} of {config.trials} are there" if done.evaluations else "",
        f"objectives {config.objectives}",
        f"required {', '.join(one.text() for one in config.requirements)}" if config.requirements else "",
        within,
        f"first {', '.join(config.seed_texts)}" if config.seeds and not done.evaluations else "",
    ]
    return "; ".join(part for part in parts if part)


def _finalists(config: SearchConfig, done: There, tuning: float, evaluation: float) -> Stage:
    """The stage of finalists: each is fine-tuned and exported once (`tuning` seconds) and read twice (`evaluation` seconds)."""
    if done.front:
        return Stage("finalists", "the front is there", 0.0)
    count = expected(config.trials, len(config.metrics))
    made = min(done.finalists, count)
    tuned = f", each fine-tuned for {config.finetune} epochs" if config.finetune else ""
    there = f", {made} made already" if made else ""
    what = (
        f"about {count}{tuned}{there}, timed together, test split read once ({count} by a rule of thumb from the numbers of "
        f"trials and objectives; at most {MAX_FINALISTS})"
    )
    return Stage("finalists", what, (count - made) * tuning + count * 2 * evaluation)


def _ends(evaluate: Evaluator) -> dict[Architecture, Evaluation]:
    """Evaluations of the smallest and the largest network, after one that only loads the libraries."""
    space = evaluate.supernet.space
    evaluate(space.smallest())
    return {architecture: evaluate(architecture) for architecture in (space.smallest(), space.largest())}


def _mean(ends: Mapping[Architecture, Evaluation], seconds: Callable[[Mapping[str, float]], float]) -> float:
    return sum(seconds(evaluation.seconds) for evaluation in ends.values()) / len(ends)


def _training_seconds(supernet: Supernet, config: SearchConfig, data: Dataset, done: int) -> float:
    """Seconds of supernet training: the largest network alone at first, then whole steps; `done` epochs are left out."""
    if done >= config.epochs:
        return 0.0
    steps = config.recipe.steps(len(data.train))
    backward = sandwich(supernet, config.recipe, config.seed)
    images, labels = _batch(supernet, data)
    alone, full = (
        _seconds(lambda at=at: backward(Batch(images, labels, at, steps)))  # type: ignore[misc]
        for at in (0, steps - 1)
    )
    share = done / config.epochs
    return steps * (max(0.0, WARM_UP - share) * alone + (1 - max(WARM_UP, share)) * full)


def _tuning_seconds(supernet: Supernet, config: SearchConfig, data: Dataset) -> float:
    """Seconds of fine-tuning one finalist with the largest network as teacher: the mean of smallest and largest finalist."""
    if not config.finetune:
        return 0.0
    space = supernet.space
    images, _ = _batch(supernet, data)

    def step(architecture: Architecture) -> None:
        with torch.no_grad():
            wanted = supernet.run(space.largest(), images)
        task_of(architecture).distillation(supernet.run(architecture, images), wanted).backward()

    found = [_seconds(lambda a=a: step(a)) for a in (space.smallest(), space.largest())]  # type: ignore[misc]
    return Recipe(epochs=config.finetune).steps(len(data.train)) * sum(found) / len(found)


def _batch(supernet: Supernet, data: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = next(batches(data.train, Recipe().batch, shuffle=False))
    return images.to(supernet.device), labels.to(supernet.device)


def _seconds(step: Callable[[], object]) -> float:
    """Seconds of one step, after one step for warming up."""
    step()
    start = time.perf_counter()
    for _ in range(PROBE_STEPS):
        step()
    return (time.perf_counter() - start) / PROBE_STEPS

"""The plan of `wb search --dry-run`: the stages and about how long each takes here, estimated from short probes."""

from __future__ import annotations

import time
from typing import NamedTuple

import torch
from rich.progress import Progress

from wb.core.system.durations import parse_duration
from wb.data import Dataset
from wb.data import load as load_data
from wb.export.timing.measure import reference_pace
from wb.export.timing.table import LatencyTable
from wb.hardware.device import parse_device, usable_cores
from wb.scale.processes import ONE, Processes
from wb.search.beginning.budget import check_budget
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.metrics import check_metrics
from wb.search.beginning.recipes import alone, supernet_recipe
from wb.search.crew.hands import hands_of, unsaid
from wb.search.ending.known.baselines import MOST, check_baselines
from wb.search.fidelity.choice import MAX_FINALISTS, expected
from wb.search.fidelity.rungs import Rung
from wb.search.fidelity.yardstick import held_back, ranking, told
from wb.search.places import places_of
from wb.search.planning.costs import probe, size_of
from wb.search.planning.seconds import Costs, Size
from wb.search.planning.settle import check_retrain, retrained, settled
from wb.search.planning.shares import (
    READ,
    TimePlan,
    again_seconds,
    allot,
    epochs_text,
    finalists_seconds,
    rungs_seconds,
    search_seconds,
    supernet_seconds,
)
from wb.search.run import Run
from wb.search.study.memory import check_memory
from wb.search.study.reach import reach
from wb.search.study.seeds import seed_choices
from wb.search.study.there import There, there
from wb.search.trained.start import space_of
from wb.training.fit import Recipe, pick_device


class Stage(NamedTuple):
    """One stage: its name, what it does, and the seconds it will take, extrapolated from a probe."""

    name: str
    what: str
    seconds: float


def plan(
    config: SearchConfig,
    progress: Progress,
    workers: int | None = None,
    run: Run | None = None,
    processes: Processes = ONE,
    ray: str | None = None,
) -> list[Stage]:
    """The stages of a search with that configuration, without those that `run` has done; nothing is written.

    `processes` train the supernet; `workers` and `ray` are as of the search.

    Raises:
        WbError: as `wb search` does before it starts.
    """
    torch.set_num_threads(config.threads)
    task = progress.add_task("probing", total=None)
    device = parse_device(config.device, threads=config.threads).scoring(config.score_on)
    start = time.perf_counter()
    data = load_data(config.data, image_size=config.image_size, limit=config.limit)
    reading = time.perf_counter() - start
    space = space_of(config, data)
    if run is not None:
        run.read().check_data(config.data, data.fingerprint)
    done = There() if run is None else there(run, config)
    check_metrics(config, space)
    check_retrain(config, data)
    hands, workers = hands_of(workers or unsaid(config, data), config.threads, ray), workers or 1
    if run is None:
        config = retrained(settled(config), data, hands)
    places = places_of(config)
    places.check(space)
    if places.devices:
        places = places.paced(device, reference_pace(device))
    check_memory(space)
    seed_choices(space, config.seeds)
    if config.baselines:
        check_baselines(space)
    if config.tabulated:
        LatencyTable(device).check()
    if run is None:
        progress.update(task, description="checking the budget")
        check_budget(config, space, data, device, places)
    record = None if run is None else run.read()
    held = held_back(data) if record is None else record.held_back
    ranks = ranking(data, held, 1.0 if record is None else record.part)
    costs, ends = probe(config, space, ranks, device, lambda what: progress.update(task, description=what), places)
    faster = processes.faster(len(usable_cores()) // config.threads)
    size, notes = size_of(config, space, ranks, data, workers, faster, hands), []
    if run is None and config.time is not None:
        planned = allot(config, parse_duration(config.time), time.perf_counter() - start, costs, size, alone(config))
        config, costs = planned.applied(config), planned.expected
        ranks, size = ranking(data, held, planned.part), size.of(planned.part)
        notes = [Stage("time", planned.text(), 0.0)]
    left = config.trials - done.evaluations
    within = reach(space, config.limits, ends, config.seed)
    return [
        Stage("data", _data(data, held), reading),
        *notes,
        Stage(
            "supernet",
            _supernet(config, ranks, supernet_recipe(config, space, ranks), str(pick_device()), done.epochs),
            supernet_seconds(costs, size, config.epochs, alone(config), done.epochs),
        ),
        Stage("search", _search(config, done, len(space.genes), workers, within), search_seconds(costs, size, left)),
        *_rungs(config, done, costs, size, _at_once(hands)),
        _finalists(config, done, costs, size, None if record is None else record.plan, _at_once(hands)),
    ]


def _at_once(hands: int) -> str:
    return f", {hands} at once" if hands > 1 else ""


def _data(data: Dataset, held: int) -> str:
    sizes = f"{len(data.train)} + {len(data.validation)} + {len(data.test)}"
    shape = ", ".join(spec.text for spec in data.specs())
    back = f"; {held} training {data.train.noun} are held back to rank candidates" if held else ""
    judge = told(len(data.validation) + held, noun=data.train.noun)
    what = f"{sizes} {data.train.noun} of {shape}" + (f" in {len(data.classes)} classes" if data.classes else "")
    return f"{data.spec}: {what} for training, validation, test{back}; {judge}"


def _supernet(config: SearchConfig, data: Dataset, recipe: Recipe, device: str, done: int) -> str:
    if done >= config.epochs:
        return "is trained"
    there = f", of which {done} are done" if done else ""
    steps = recipe.steps(len(data.train)) // config.epochs
    return f"{epochs_text(config.epochs)}{there} of {steps} steps on {device}; recipe {recipe.text}"


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


def _rungs(config: SearchConfig, done: There, costs: Costs, size: Size, at_once: str = "") -> list[Stage]:
    """The stage of trainings alone; none without rungs."""
    left = [
        Rung(min(rung.candidates, config.trials) - climbed, rung.epochs)
        for rung in config.halving
        for climbed in [min(done.climbed.get(rung.epochs, 0), rung.candidates, config.trials)]
    ]
    if not left:
        return []
    if done.front or not any(rung.candidates for rung in left):
        return [Stage("rungs", "all candidates are trained", 0.0)]
    parts = [f"{rung.candidates} candidates alone for {epochs_text(rung.epochs)}" for rung in left if rung.candidates]
    return [Stage("rungs", ", then ".join(parts) + at_once, rungs_seconds(costs, size, left))]


def _finalists(
    config: SearchConfig, done: There, costs: Costs, size: Size, kept: TimePlan | None = None, at_once: str = ""
) -> Stage:
    """The stage of finalists: each is fine-tuned and exported once and read twice."""
    if done.front:
        return Stage("finalists", "the front is there", 0.0)
    given = config.finalists is not None
    count = config.finalists or expected(config.trials, len(config.metrics))
    made = min(done.finalists, count)
    tuned = f", each fine-tuned for {epochs_text(config.finetune)}" if config.finetune else ""
    tuned += at_once if tuned and count > made + 2 else ""
    if kept is not None and kept.longest and kept.finetune == config.finetune:
        tuned += f", the largest for {kept.longest}"
    there = f", {made} made already" if made else ""
    again = "; those of the front once more, on validation examples too" if config.retrains else ""
    beside = f"; beside them up to {MOST} known networks, trained alike" if config.baselines else ""
    rule = f" ({count} by a rule of thumb from the numbers of trials and objectives; at most {MAX_FINALISTS})"
    what = f"{'' if given else 'about '}{count}{tuned}{there}, timed together, test split read once"
    what += ("" if given else rule) + again + beside
    seconds = finalists_seconds(costs, size._replace(again=0.0), count - made, config.finetune)
    seconds += again_seconds(costs, size, count, config.finetune)
    return Stage("finalists", what, seconds + READ * made * costs.evaluation)

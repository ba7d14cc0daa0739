"""The seconds that the parts of a search take on this machine, from a few timed steps and evaluations; nothing is written."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from statistics import median
from typing import NamedTuple

import torch

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.core.space import random_choices
from wb.core.system.durations import parse_duration
from wb.data import Dataset
from wb.data.batches import typical
from wb.hardware.device import Device
from wb.models.counting import count_macs
from wb.search.beginning.config import SearchConfig
from wb.search.beginning.recipes import alone as alone_share
from wb.search.beginning.recipes import supernet_recipe, tuning_recipe
from wb.search.ending.known.baselines import MOST
from wb.search.evaluate import Evaluation, Evaluator
from wb.search.fidelity.teacher import largest
from wb.search.fidelity.yardstick import held_back, ranking
from wb.search.places import Places
from wb.search.planning.seconds import Costs, Size
from wb.search.planning.shares import LIGHTEST, TUNED, TimePlan, allot
from wb.search.supernet import Supernet, sandwich
from wb.spaces.base import NetworkSpace
from wb.tasks.known import task_of
from wb.training.arithmetic import quick_products
from wb.training.augment.policy import augmented
from wb.training.fit import Batch, Recipe, pick_device
from wb.training.recipes.losses import distilled
from wb.training.train import score

PROBES = 2  # timed steps of each kind, at least
PROBED = 0.6  # seconds of them, at least
DRAWS = 6  # steps of the supernet that are timed, each with random networks of its own
DRAWN = 3  # random networks, beside the smallest and the largest
REGULAR = 2  # regular networks whose steps are timed too, as such ones cost least for their work
IMAGES = 512  # scored in torch to learn what scoring costs


class Probe(NamedTuple):
    """The costs, and the readings of the smallest and the largest network."""

    costs: Costs
    ends: Mapping[Architecture, Mapping[str, Reading]]


def probe(
    config: SearchConfig,
    space: NetworkSpace,
    data: Dataset,
    device: Device,
    tell: Callable[[str], None],
    places: Places | None = None,
) -> Probe:
    """Times steps and evaluations of a supernet that is not trained; `data` are those that rank candidates.

    Costs of a network are medians, as the largest is of no importance where it costs so much that it is left out.
    """
    ends, rng = (space.smallest(), space.largest()), random.Random(config.seed)
    networks = [*ends, *(space.decode(random_choices(space, rng)) for _ in range(DRAWN))]
    supernet = Supernet.fresh(space, config.seed, pick_device())
    tell("probing: training steps")
    recipe, alone_recipe = (
        supernet_recipe(config, space, data),
        tuning_recipe(config, space, data, _tuned(config)),
    )
    steps = recipe.steps(len(data.train))
    both = sandwich(supernet, recipe, config.seed)
    last = range(max(math.ceil(alone_share(config) * steps), steps - DRAWS), steps)
    alone, whole = (_step(supernet, data, recipe, both, at, steps) for at in ([0], last))
    tuned = [_tuning(supernet, a, data, alone_recipe) for a in networks]
    regular = {a: _tuning(supernet, a, data, alone_recipe) for a in [*space.regular.values()][:REGULAR]}
    images, _ = typical(data.train, alone_recipe.batch)
    teach = _mean(lambda: largest(supernet)(images.to(supernet.device)))
    tell("probing: evaluations")
    found = _evaluated(
        Evaluator(Supernet.fresh(space, config.seed), data, device, apart=config.apart, places=places or Places()),
        networks,
    )
    timed = config.timed
    costs = Costs(
        alone=alone,
        sandwich=whole,
        tune=median(tuned),
        light=tuned[0],
        heavy=tuned[1],
        macs=count_macs(ends[1]).value,
        slope=_slope(tuned[0], {**dict(zip(networks[1:], tuned[1:], strict=True)), **regular}),
        teach=teach,
        evaluation=median(
            sum(s for phase, s in one.seconds.items() if timed or phase != "time") for one in found.values()
        ),
        timing=median(
            (one.seconds["time"] if timed else 0.0) + one.seconds.get("time elsewhere", 0.0) for one in found.values()
        ),
        score=_scoring(supernet, space.largest(), data),
    )
    return Probe(costs, {architecture: found[architecture].readings for architecture in ends})


def _slope(light: float, steps: Mapping[Architecture, float]) -> float:
    """The least seconds for a multiply-accumulate of any of the networks, beyond the `light` seconds of the smallest's step.

    Steps of less than `LIGHTEST` times that tell of little else than the pace of the moment; 0 if there are no others.
    """
    told = ((step - light) / count_macs(a).value for a, step in steps.items() if step >= LIGHTEST * light)
    return min(told, default=0.0)


def planned(
    config: SearchConfig,
    space: NetworkSpace,
    data: Dataset,
    device: Device,
    workers: int,
    spent: Callable[[], float],
    tell: Callable[[str], None],
    places: Places | None = None,
    faster: float = 1.0,
    hands: int = 1,
) -> TimePlan:
    """The plan of a search on `data` that was given a time; `spent` gives the seconds since it began.

    So many `hands` train networks alone. The supernet's training is taken to be that much `faster` than the steps that are timed,
    in this process.

    Raises:
        BadOption: the time is too short for anything.
    """
    if config.time is None:
        raise ValueError("a search without a time has no plan")
    ranks = ranking(data, held_back(data))
    costs = probe(config, space, ranks, device, tell, places).costs
    return allot(
        config,
        parse_duration(config.time),
        spent(),
        costs,
        size_of(config, space, ranks, data, workers, faster, hands),
        alone_share(config),
    )


def epoch_seconds(supernet: Supernet, data: Dataset, finalist: Architecture, recipe: Recipe) -> float:
    """Seconds of an epoch of training a finalist, the teacher's answers known, from its own timed steps."""
    return len(data.train) / recipe.batch * _tuning(supernet, finalist, data, recipe)


def again(config: SearchConfig, data: Dataset) -> float:
    """How many times as long as before networks of the front are trained once more: there are more examples. 0: they are not."""
    return 1 + len(data.validation) / len(data.train) if config.retrains else 0.0


def size_of(
    config: SearchConfig,
    space: NetworkSpace,
    ranks: Dataset,
    data: Dataset,
    workers: int = 1,
    faster: float = 1.0,
    hands: int = 1,
) -> Size:
    """The training steps of an epoch: of the supernet and of a network alone on the data that rank, of one on all; processes."""
    one = tuning_recipe(config, space, data, _tuned(config)).model_copy(update={"epochs": 1})
    together = supernet_recipe(config, space, ranks)
    return Size(
        together.steps(len(ranks.train)) // config.epochs,
        one.steps(len(ranks.train)),
        one.steps(len(data.train)),
        workers,
        beside=min(MOST, len(space.known)) if config.baselines else 0,
        faster=faster,
        hands=hands,
        again=again(config, data),
    )


def _tuned(config: SearchConfig) -> int:
    """Epochs that finalists may have: long trainings have larger batches."""
    return max(1, config.finetune) if "finetune" in config.model_fields_set else TUNED


def _evaluated(evaluate: Evaluator, networks: Sequence[Architecture]) -> dict[Architecture, Evaluation]:
    """Evaluations of the networks, after one that only loads the libraries."""
    evaluate(networks[0])
    return {architecture: evaluate(architecture) for architecture in networks}


def _tuning(supernet: Supernet, architecture: Architecture, data: Dataset, recipe: Recipe) -> float:
    """Seconds of one step of training the network, the teacher's answers known."""
    teacher = largest(supernet)
    backward = distilled(lambda images: supernet.run(architecture, images), teacher, recipe, task_of(architecture))
    return _step(supernet, data, recipe, backward, [0], PROBES)


@quick_products()  # as `fit` does
def _step(
    supernet: Supernet, data: Dataset, recipe: Recipe, backward: Callable[[Batch], float], at: Sequence[int], steps: int
) -> float:
    """Seconds of one step as `wb.training.fit.fit` does it, the mean after one for warming up; as steps `at` of so many, in turn.

    The supernet's weights change a little less than in training: the rate is next to nothing.
    """
    weights = list(supernet.weights.values())
    optimizer = torch.optim.AdamW(weights, lr=1e-9)
    images, labels = typical(data.train, recipe.batch)
    generator = torch.Generator().manual_seed(0)

    turns = cycle(at)

    def step() -> None:
        batch = Batch(images.to(supernet.device), labels.to(supernet.device), next(turns), steps)
        optimizer.zero_grad(set_to_none=True)
        augmented(images, labels, recipe, generator)  # not given to `backward`: the teacher knows each batch already
        backward(batch)
        torch.nn.utils.clip_grad_norm_(weights, recipe.clip)
        optimizer.step()

    return _mean(step, max(PROBES, len(at)))


def _mean(step: Callable[[], object], least: int = PROBES) -> float:
    """Seconds of one step, after one for warming up: the mean, since a busy machine delays some steps by much.

    At least so many steps, and `PROBED` seconds.
    """
    step()
    start, steps = time.perf_counter(), 0
    while steps < least or time.perf_counter() - start < PROBED:
        step()
        steps += 1
    return (time.perf_counter() - start) / steps


def _scoring(supernet: Supernet, architecture: Architecture, data: Dataset) -> float:
    """Seconds of scoring the network on the validation split in torch, from some of its images."""
    some = data.validation.take(slice(0, IMAGES))
    network = supernet.extract(architecture, data.train).network()
    start = time.perf_counter()
    score(network, some, task_of(architecture), torch.device("cpu"))
    return (time.perf_counter() - start) * len(data.validation) / len(some)

"""Seed architectures: candidates that a study evaluates before those of its sampler."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import optuna
from optuna.trial import TrialState

from wb.core.architecture import Architecture
from wb.core.errors import BadOption, NotInSpace
from wb.core.measures.metrics import Limit
from wb.core.records import Part
from wb.core.space import Choices, Option
from wb.jobs.inputs import read_architecture
from wb.models.counting import count_macs
from wb.search.beginning.config import SEED_NAMES, SeedName
from wb.search.study.trials import choices_of, evaluated, network_key
from wb.spaces.base import NetworkSpace

P = TypeVar("P", bound=Part)
REGULAR = 0.25  # of the trials, at most, are of regular networks


def seed_choices(space: NetworkSpace, seeds: Sequence[SeedName | Architecture]) -> list[dict[str, Option]]:
    """The choices in the space that give each seed.

    Only the structure of a given architecture counts: labels, input normalisation and softmax scales are replaced by those
    of the space, and switched-off blocks may be added or removed.

    Raises:
        BadOption: the space, or its preset, has no seed of that name.
        NotInSpace: a seed is not in the space; the message names the first gene that does not fit and how to widen the space.
    """
    return [_encode(space, _named(space, seed) if isinstance(seed, str) else seed) for seed in seeds]


def regular_choices(space: NetworkSpace, trials: int, limits: Sequence[Limit]) -> dict[str, dict[str, Option]]:
    """The regular networks of the space with which a search of so many trials begins, by name: at most a share of the trials.

    Samplers begin with random networks, which seldom have stages that are alike; on photographs such networks are better than
    others of their size (docs/results.md, `photographs`). Those with more multiply-accumulates than the limits allow are left
    out.
    """
    most = min((limit.value for limit in limits if limit.metric.name == "macs"), default=math.inf)
    found = {name: a for name, a in space.regular.items() if count_macs(a).value <= most}
    return {name: space.encode(found[name]) for name in list(found)[: int(REGULAR * trials)]}


def enqueue(study: optuna.Study, space: NetworkSpace, seeds: Mapping[str, Choices]) -> None:
    """Queues, in their order, the seeds that are neither evaluated, running nor queued yet."""
    if not seeds:
        return
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING, TrialState.RUNNING))
    queued = [cast(Choices, trial.system_attrs.get("fixed_params", {})) for trial in waiting]
    there = {network_key(space, choices_of(space, trial)) for trial in evaluated(study)}
    there |= {network_key(space, choices) for choices in queued if choices.keys() == space.genes.keys()}
    for name, choices in seeds.items():
        key = network_key(space, choices)
        if key not in there:
            study.enqueue_trial(dict(choices), user_attrs={"seed_architecture": name})
        there.add(key)


def _named(space: NetworkSpace, name: str) -> Architecture:
    """The seed architecture of that name."""
    if name not in space.seeds:
        raise BadOption(
            f"space {space.name!r} has no seed architecture {name!r}; it has {', '.join(space.seeds)}, and takes files"
        )
    return space.seeds[name]()


def _encode(space: NetworkSpace, architecture: Architecture) -> dict[str, Option]:
    _check_task(space, architecture)
    adapted = _adapted(space, architecture)
    for form in space.forms(adapted):
        with suppress(NotInSpace):
            return space.encode(form)
    try:
        return space.encode(adapted)
    except NotInSpace as error:
        step = space.widening(adapted)
        raise NotInSpace(
            f"the seed architecture {architecture.key} does not fit: {error}; "
            + (f"widen the space with {step}" if step else "choose another")
        ) from error


def _check_task(space: NetworkSpace, architecture: Architecture) -> None:
    """Raises `NotInSpace` unless the architecture takes the space's images and has its number of classes."""
    given, wanted = (
        f"{given.kind}s of {', '.join(spec.text for spec in given.specs())} and {classes} classes"
        for given, classes in ((architecture.input, architecture.head.classes), (space.input, space.classes))
    )
    if given != wanted:
        raise NotInSpace(
            f"the seed architecture {architecture.key} is for {given}, but the data have {wanted}; give one for such data, "
            "or other --data"
        )


def _adapted(space: NetworkSpace, architecture: Architecture) -> Architecture:
    """`architecture` with the space's input and labels, and with default softmax scales.

    Pruning stores explicit scales to preserve the function of trained weights; a seed has no weights.
    """
    return architecture.with_parts(_structure).with_labels(space.labels).model_copy(update={"input": space.input})


def _structure(_: str, part: P) -> P:
    return part.structure()


def read_seeds(texts: Sequence[str]) -> tuple[Architecture | str, ...]:
    """What `--seed-architecture` was given: names stay names, files become their architectures.

    Raises:
        BadArtefact: a file is neither an architecture nor a model.
        BadOption: neither a name nor a file that exists.
    """
    for text in texts:
        if text not in SEED_NAMES and not Path(text).exists():
            raise BadOption(
                f"--seed-architecture {text!r} is no file; give {', '.join(SEED_NAMES)}, an architecture as JSON, or a "
                "model file (.safetensors or .pt)"
            )
    return tuple(text if text in SEED_NAMES else read_architecture(Path(text)) for text in texts)

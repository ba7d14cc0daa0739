"""Seed architectures: candidates that a study evaluates before those of its sampler."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar, cast

import optuna
from optuna.trial import TrialState

from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption, NotInSpace, WbError
from wb.core.records import Part
from wb.core.space import Choices, Option
from wb.jobs.inputs import read_architecture
from wb.search.config import SEED_NAMES, SeedName
from wb.search.study.trials import choices_of, evaluated, network_key
from wb.spaces.options import options_with
from wb.spaces.precision import is_precision
from wb.spaces.presets import seed_architecture
from wb.spaces.vit import Vit, pool_of

P = TypeVar("P", bound=Part)


def seed_choices(space: Vit, seeds: Sequence[SeedName | Architecture]) -> list[dict[str, Option]]:
    """The choices in the space that give each seed.

    Only the structure of a given architecture counts: labels, input normalisation and softmax scales are replaced by those
    of the space, and switched-off blocks may be added or removed.

    Raises:
        BadOption: a seed is `revit`, and the space's preset has no such seed.
        NotInSpace: a seed is not in the space; the message names the first gene that does not fit and how to widen the space.
    """
    named: dict[SeedName, Callable[[Vit], Architecture]] = {
        "revit": seed_architecture,
        "largest": Vit.largest,
        "smallest": Vit.smallest,
    }
    return [_encode(space, named[seed](space) if isinstance(seed, str) else seed) for seed in seeds]


def enqueue(study: optuna.Study, space: Vit, seeds: Mapping[str, Choices]) -> None:
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


def _encode(space: Vit, architecture: Architecture) -> dict[str, Option]:
    _check_task(space, architecture)
    adapted = _adapted(space, architecture)
    for form in _forms(space, adapted):
        with suppress(NotInSpace):
            return space.encode(form)
    try:
        return space.encode(adapted)
    except NotInSpace as error:
        step = _widening(space, adapted)
        raise NotInSpace(
            f"the seed architecture {architecture.key} does not fit: {error}; "
            + (f"widen the space with {step}" if step else "choose another")
        ) from error


def _check_task(space: Vit, architecture: Architecture) -> None:
    """Raises `NotInSpace` unless the architecture takes the space's images and has its number of classes."""
    given, wanted = (
        f"images of {', '.join(spec.text for spec in image.specs())} and {classes} classes"
        for image, classes in ((architecture.input, architecture.head.classes), (space.image, space.classes))
    )
    if given != wanted:
        raise NotInSpace(
            f"the seed architecture {architecture.key} is for {given}, but the data have {wanted}; give one for such data, "
            "or other --data"
        )


def _adapted(space: Vit, architecture: Architecture) -> Architecture:
    """`architecture` with the space's input and labels, and with default softmax scales.

    Pruning stores explicit scales to preserve the function of trained weights; a seed has no weights.
    """
    return architecture.with_parts(_structure).with_labels(space.labels).model_copy(update={"input": space.image})


def _structure(_: str, part: P) -> P:
    return part.structure()


def _forms(space: Vit, architecture: Architecture) -> Iterator[Architecture]:
    """The same network with other switched-off blocks: as given, without any, and filled up to each depth of the space."""
    yield architecture
    compact = architecture.compact()
    yield compact
    blocks = compact.stages[0].blocks
    for depth in space.options.depth:
        if depth > len(blocks):
            filled = compact.stages[0].model_copy(update={"blocks": blocks + (Block(),) * (depth - len(blocks))})
            yield compact.model_copy(update={"stages": (filled, *compact.stages[1:])})


def _widening(space: Vit, architecture: Architecture) -> str:
    """The `--set` options that widen the space such that it contains the architecture; empty if that is impossible."""
    changes = _missing(space, architecture)
    parsed = {name: value.split(",") if name not in ("patch", "pool") else value for name, value in changes.items()}
    try:
        options = options_with(space.options, parsed)
        Vit(options, space.image, space.classes, space.labels).encode(architecture)
    except WbError:
        return ""
    return " ".join(f"--set {name}={value}" for name, value in changes.items())


def _missing(space: Vit, architecture: Architecture) -> dict[str, str]:
    """Field of the options -> its values, including those of the architecture, for each field that has to be changed."""
    found: dict[str, set[Option]] = {}
    for gene, value in space.read(architecture).items():
        name = "precision" if is_precision(gene) else gene.partition(".")[2] or gene
        found.setdefault(name, set()).add(value)
    changes = {}
    for name, values in found.items():
        options: tuple[Option, ...] = getattr(space.options, name)
        together = [*options, *(values - set(options))]
        if len(together) > len(options):
            ordered = together if name in ("mixer", "stem", "precision") else sorted(map(float, together))
            changes[name] = ",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in ordered)
    if architecture.stem.patch != space.patch:
        changes["patch"] = str(architecture.stem.patch)
    if pool_of(architecture) != space.options.pool:
        changes["pool"] = pool_of(architecture)
    return changes


def read_seeds(texts: Sequence[str]) -> tuple[Architecture | str, ...]:
    """What `--seed-architecture` was given: names stay names, files become their architectures.

    Raises:
        BadArtefact: a file is neither an architecture nor a model.
        BadOption: neither a name nor a file that exists.
    """
    for text in texts:
        if text not in SEED_NAMES and not Path(text).is_file():
            raise BadOption(
                f"--seed-architecture {text!r} is no file; give {', '.join(SEED_NAMES)}, an architecture as JSON, or a "
                "model file (.safetensors or .pt)"
            )
    return tuple(text if text in SEED_NAMES else read_architecture(Path(text)) for text in texts)

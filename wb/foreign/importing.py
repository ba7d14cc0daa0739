"""A checkpoint of another library as a model: recognised, checked name by name, and read without copies beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue, ValidationError
from torch import Tensor

from wb import __version__
from wb.core.architecture import Architecture, explain
from wb.core.errors import BadArtefact, BadOption, Unsupported, printable, reason
from wb.data.preparation import Preparation, read_preprocessor
from wb.foreign.checkpoint import CONFIG, PREPROCESSORS, Checkpoint, open_checkpoint
from wb.foreign.families.known import family_of
from wb.foreign.family import Family, Seen
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.foreign.origin import FLOATING, MOST_KEPT, STEP, Kept, Origin
from wb.foreign.rule import Rule, applying, to_ours
from wb.models.files.header import ORIGIN
from wb.models.model import Model, Step, check_weights
from wb.models.network import skeleton

SHOWN = 4  # names in a message


@dataclass(frozen=True)
class Imported:
    """A model, what it was recognised as, and notes for the user."""

    model: Model
    family: Family
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Recognised:
    """A checkpoint whose architecture is known and whose tensors all have a place in it."""

    checkpoint: Checkpoint
    family: Family
    architecture: Architecture
    rules: Sequence[Rule]
    unused: Sequence[str]
    given: Given
    notes: tuple[str, ...]

    def step(self, kept: Mapping[str, Kept]) -> Step:
        """The step of the model's history."""
        origin = Origin(
            family=self.family.name,
            given=self.given,
            files=self.checkpoint.files,
            texts=self.checkpoint.texts,
            kept=kept,
        )
        arguments: dict[str, JsonValue] = {
            "source": self.checkpoint.path.name,
            "family": self.family.title,
            ORIGIN: origin.model_dump(mode="json", exclude_defaults=True),
        }
        return Step(name=STEP, arguments=arguments, version=__version__)


def recognised(path: Path, given: Given | None = None) -> Recognised:
    """What is at `path`, as far as names and shapes tell.

    Raises:
        BadArtefact: no checkpoint, or a damaged one; a configuration that contradicts the weights; tensors that are missing,
            left over, or of other shapes than the architecture's, which are named.
        BadOption: something has to be said that the shapes do not tell, or an option does not fit.
        Unsupported: a family that is not known, or a setting that no record has.
    """
    given = given or Given()
    checkpoint = open_checkpoint(path)
    notes = list(checkpoint.notes)
    try:
        seen = Seen(checkpoint.config, checkpoint.shapes, given, _preparation(checkpoint), notes)
        family = family_of(seen)
        _check_options(family, given)
        architecture = family.architecture(seen)
        shapes = {name: tuple(p.shape) for name, p in skeleton(architecture).named_parameters()}
        rules = applying(family.rules(architecture), shapes)
        unused = _checked(rules, shapes, checkpoint, family)
    except ValidationError as error:
        raise BadArtefact(f"{path} is no network that can be: {explain(error)}") from error
    except (BadArtefact, BadOption, Unsupported) as error:
        raise type(error)(f"{path}: {error}") from error
    except (ValueError, OverflowError) as error:  # shapes that no layout of the family has
        raise BadArtefact(
            f"{path} holds tensors that do not fit together ({reason(error)}); give the checkpoint as it was saved"
        ) from error
    return Recognised(checkpoint, family, architecture, rules, unused, given, tuple(notes))


def read_checkpoint(path: Path, given: Given | None = None) -> Imported:
    """The model of a checkpoint of another library. Raises as `recognised` does, and `BadArtefact` for numbers not finite."""
    found = recognised(path, given)
    checkpoint = found.checkpoint
    shapes = {name: tuple(p.shape) for name, p in skeleton(found.architecture).named_parameters()}
    weights = to_ours(found.rules, lambda name: _single(checkpoint.read(name)), shapes)
    check_weights(weights, str(path))
    kept, left = _kept(checkpoint, found.unused)
    notes = [*found.notes]
    if "F64" in (checkpoint.dtypes[name] for one in found.rules for name in one.theirs):
        notes.append("its float64 numbers are rounded to float32, also in what is handed back")
    if left:
        notes.append(f"left out, for a classifier does not use it: {', '.join(left)}")
    return Imported(Model(found.architecture, weights, (found.step(kept),)), found.family, tuple(notes))


def _check_options(family: Family, given: Given) -> None:
    """Raises `BadOption` if an option is given that this family has no use for."""
    needless = sorted(given.model_dump(exclude_none=True).keys() - {"images", *family.options})
    if needless:
        option = needless[0].replace("_", "-")
        raise BadOption(f"--{option} is not for a {family.title}, whose files say that themselves; leave it out")


def _single(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32)


def _kept(checkpoint: Checkpoint, names: Sequence[str]) -> tuple[dict[str, Kept], list[str]]:
    """Tensors that the network does not use: those that are handed back, and the names of those that are too large for that."""
    kept: dict[str, Kept] = {}
    left: list[str] = []
    size = 0
    for name in names:
        one = Kept.of(checkpoint.read(name))
        if size + len(one.data) > MOST_KEPT:
            left.append(name)
        else:
            kept[name] = one
            size += len(one.data)
    return kept, left


def _preparation(checkpoint: Checkpoint) -> Preparation | None:
    """What the settings of the image processor say, or those in timm's config.json; None if there are none."""
    name = next((name for name in PREPROCESSORS if name in checkpoint.texts), None)
    if name is None and "pretrained_cfg" in checkpoint.config:
        name = CONFIG
    return None if name is None else read_preprocessor(checkpoint.path / name)


def _checked(rules: Sequence[Rule], ours: Mapping[str, Shape], checkpoint: Checkpoint, family: Family) -> list[str]:
    """The tensors that the network does not use. Raises `BadArtefact` unless all others are those that it has."""
    expected: dict[str, Shape] = {}
    for one in rules:
        expected |= one.shapes(ours)
    given, dtypes = checkpoint.shapes, checkpoint.dtypes
    unused = [n for n in given if n not in expected and any(re.fullmatch(p, n) for p in family.ignored)]
    missing = [name for name in expected if name not in given]
    surplus = [name for name in given if name not in expected and name not in unused]
    wrong = [name for name in expected if name in given and expected[name] != given[name]]
    whole = [name for name in expected if name in given and dtypes[name] not in FLOATING]
    problems = [
        *_listed("missing", [f"{name} {list(expected[name])}" for name in missing]),
        *_listed("left over", [f"{name} {list(given[name])}" for name in surplus]),
        *_listed("of another shape", [f"{n} {list(given[n])}, expected {list(expected[n])}" for n in wrong]),
        *_listed("of integers", [f"{name} {dtypes[name]}" for name in whole]),
    ]
    if problems:
        says = (
            f"{CONFIG} and the weights contradict each other"
            if checkpoint.config
            else "its tensors do not fit together"
        )
        raise BadArtefact(
            f"it is a {family.title}, but {says}: {'; '.join(problems)}. Give the checkpoint as it was saved"
        )
    return unused


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"{len(names)} tensors are {what}: {printable(', '.join(names[:SHOWN]), 600)}{more}"]

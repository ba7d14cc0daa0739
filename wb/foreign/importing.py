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
from wb.core.records import TextInput
from wb.data.preparation import Preparation, read_preprocessor
from wb.foreign.checkpoint import CONFIG, PREPROCESSORS, SETTINGS, TOKENIZER_FILE, Checkpoint, open_checkpoint, parsed
from wb.foreign.families.known import family_of
from wb.foreign.family import Family, Seen
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.foreign.origin import FLOATING, MOST_KEPT, STEP, Kept, Origin
from wb.foreign.rule import Rule, applying, bare, front_of, to_ours
from wb.models.files.header import ORIGIN, TOKENIZER
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
        tokenizer = self.checkpoint.tokenizer if self.family.takes == "text" else None
        arguments: dict[str, JsonValue] = {
            "source": self.checkpoint.path.name,
            "family": self.family.title,
            **({} if tokenizer is None else {TOKENIZER: tokenizer}),
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
        _check_tokenizer(checkpoint.tokenizer, architecture, notes)
        _check_padding(checkpoint, family, notes)
        shapes = _stored(family, architecture, checkpoint)
        rules = bare(applying(family.rules(architecture), shapes), family.prefix, checkpoint.shapes)
        again = _again(family, architecture, checkpoint)
        unused = _checked(rules, shapes, again, checkpoint, family)
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
    shapes = _stored(found.family, found.architecture, checkpoint)
    stored = to_ours(found.rules, lambda name: _single(checkpoint.read(name)), shapes)
    weights = stored | found.family.made(found.architecture, checkpoint.config)
    weights = {name: weights[name].contiguous() for name, _ in skeleton(found.architecture).named_parameters()}
    check_weights(weights, str(path))
    _check_again(found, path)
    kept, left = _kept(checkpoint, found)
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


def _check_tokenizer(tokenizer: str | None, a: Architecture, notes: list[str]) -> None:
    """Raises `BadArtefact` for a tokenizer that writes ids which the embeddings do not have; notes where texts have none."""
    if not isinstance(a.input, TextInput):
        return
    if tokenizer is None:
        notes.append("no tokenizer.json came with it, so that it takes ids of tokens, and no texts")
        return
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    size = Vocabulary(tokenizer, 1, 1).size
    if size > a.input.vocabulary:
        raise BadArtefact(
            f"the tokenizer beside it has ids up to {size - 1:,}, and the embeddings {a.input.vocabulary:,} rows: it is that of "
            "another model, or tokens were added to it alone; give the one that it was trained with"
        )


def _check_padding(checkpoint: Checkpoint, family: Family, notes: list[str]) -> None:
    """Notes a tokenizer that pads in front of texts. Raises `Unsupported` where that moved the places of tokens."""
    where = _pads_in_front(checkpoint)
    if where is None or family.takes != "text":
        return
    if family.counts_padding:
        raise Unsupported(
            f"{where} says that padding stands in front of texts, and a {family.title} counts places from the first token, be it "
            "padding: in a batch it saw texts elsewhere than networks of wb have them, whose padding is behind. If it was "
            "trained with padding behind, or with none, say so there (padding_side right)"
        )
    notes.append(
        f"{where} says that padding stands in front of texts; here it is behind, which gives the numbers that a text has alone"
    )


def _pads_in_front(checkpoint: Checkpoint) -> str | None:
    """The file that says that padding stands in front of texts; the settings of transformers win over the tokenizer's own."""
    if SETTINGS in checkpoint.texts:
        side = parsed(checkpoint.texts[SETTINGS], checkpoint.path / SETTINGS).get("padding_side")
        if side is not None:
            return SETTINGS if side == "left" else None
    own = (
        parsed(checkpoint.tokenizer, checkpoint.path / TOKENIZER_FILE).get("padding") if checkpoint.tokenizer else None
    )
    return TOKENIZER_FILE if isinstance(own, dict) and own.get("direction") == "Left" else None


def _stored(family: Family, a: Architecture, checkpoint: Checkpoint) -> dict[str, Shape]:
    """The shapes of those of our parameters that their files have."""
    made = family.made(a, checkpoint.config)
    return {name: tuple(p.shape) for name, p in skeleton(a).named_parameters() if name not in made}


def _again(family: Family, a: Architecture, checkpoint: Checkpoint) -> dict[str, str]:
    """The tensors that are there besides, and the one that each has to be equal to."""
    there = checkpoint.shapes
    short = {name: of.removeprefix(family.prefix) for name, of in family.again(a).items()}
    return {name: of if of in there else short[name] for name, of in family.again(a).items() if name in there}


def _check_again(found: Recognised, path: Path) -> None:
    """Raises `BadArtefact` where a tensor that the configuration says to be another one differs from it."""
    for name, of in _again(found.family, found.architecture, found.checkpoint).items():
        one, other = (_single(found.checkpoint.read(each)) for each in (name, of))
        if not torch.equal(one, other):
            worst = float((one - other).abs().max())
            raise BadArtefact(
                f"{path}: {CONFIG} says that {name} is {of} (tie_word_embeddings), and they differ by up to {worst:.2g}; set "
                f"tie_word_embeddings to false there if the head is its own, or leave {name} out of the weights"
            )


def _kept(checkpoint: Checkpoint, found: Recognised) -> tuple[dict[str, Kept], list[str]]:
    """Numbers that the network does not use: those that are handed back, and the names of those that are too large for that.

    They are tensors, and rows in front of tensors (`front_of`).
    """
    kept = {front_of(one): Kept.of(checkpoint.read(one.theirs[0])[: one.front]) for one in found.rules if one.front}
    left: list[str] = []
    size = 0
    for name in found.unused:
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


def _checked(
    rules: Sequence[Rule],
    ours: Mapping[str, Shape],
    again: Mapping[str, str],
    checkpoint: Checkpoint,
    family: Family,
) -> list[str]:
    """The tensors that the network does not use. Raises `BadArtefact` unless all others are those that it has."""
    expected: dict[str, Shape] = {}
    for one in rules:
        expected |= one.shapes(ours)
    expected |= {name: expected[of] for name, of in again.items() if of in expected}
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

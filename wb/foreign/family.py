"""What a family of foreign networks is, and what its architectures are put together from."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.checks import MAX_STAGES
from wb.core.errors import BadArtefact, BadOption, Unsupported, printable
from wb.core.records import ImageInput
from wb.core.records.base import Activation
from wb.data.preparation import Preparation
from wb.data.spec import ARRAYS, FEATURES
from wb.foreign.form import Shape
from wb.foreign.given import Given
from wb.foreign.rule import Rule

Library = Literal["hf", "timm", "other"]
V = TypeVar("V")
LARGEST = 65536  # of numbers in a configuration, as of widths
NOTHING = Given()
# Activations by the names that transformers and timm give them.
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True)
class Seen:
    """What is known of a checkpoint before its numbers are read. `notes` gets what was inferred and what was assumed."""

    config: Mapping[str, Any]
    shapes: Mapping[str, Shape]
    given: Given = NOTHING
    preparation: Preparation | None = None
    notes: list[str] = field(default_factory=list)

    def shape(self, name: str, rank: int) -> Shape:
        """The shape of a tensor with `rank` dimensions. Raises `BadArtefact` if there is none."""
        found = self.shapes.get(name)
        if found is None or len(found) != rank:
            given = "missing" if found is None else f"{list(found)}"
            raise BadArtefact(f"{name} is {given}; expected a tensor of {rank} dimensions")
        return found

    def classes(self, head: str) -> int:
        """The number of classes, of the map that gives them. Raises `Unsupported` for a network without it."""
        if f"{head}.weight" not in self.shapes:
            kept = "save a ForImageClassification model" if "model_type" in self.config else "save it with its head"
            raise Unsupported(f"it has no {head}.weight, so that it is no classifier; {kept}")
        return self.shape(f"{head}.weight", 2)[0]

    def number(self, key: str, default: float) -> float:
        """A number of config.json, the default if it has none. Raises `BadArtefact` if it is none."""
        found = self.config.get(key, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not abs(found) < LARGEST:
            raise BadArtefact(f"config.json has {key}={_shown(found)}; expected a number")
        return found

    def whole(self, key: str, default: int | None = None, most: int = LARGEST) -> int:
        """A size in config.json, which may be null where there is a default. Raises `BadArtefact` if it is none, or missing."""
        found = self.config.get(key)
        return _size(default if found is None else found, key, most)

    def sizes(self, key: str) -> list[int]:
        """A list of sizes in config.json. Raises `BadArtefact` if it is none."""
        found = self.config.get(key)
        if not isinstance(found, list) or not 0 < len(found) <= MAX_STAGES:
            raise BadArtefact(
                f"config.json has {key}={_shown(found)}; expected a list of whole numbers, one for each stage"
            )
        return [_size(one, key) for one in found]

    @property
    def model_arguments(self) -> Mapping[str, Any]:
        """The arguments in timm's config.json; none if it has none."""
        given = self.config.get("model_args")
        return given if isinstance(given, dict) else {}

    def argument(self, name: str) -> int | None:
        """A size among the arguments in timm's config.json; of two that are equal, as of squares, that one.

        Raises `BadArtefact` for anything else.
        """
        found = squared(self.model_arguments.get(name))
        return None if found is None else _size(found, name)

    def needs(self, needed: Mapping[str, object]) -> None:
        """Raises `Unsupported` for an argument in timm's config.json that is there and not the one that is `needed`."""
        for key, value in needed.items():
            if (found := squared(self.model_arguments.get(key, value))) != value:
                raise Unsupported(f"config.json has {key}={_shown(found)}; networks of wb have {value!r}")

    def activation(self, key: str, default: str) -> Activation:
        """The activation that config.json names. Raises `Unsupported` for one that no record has."""
        name = str(self.config.get(key, default))
        if name not in ACTIVATIONS:
            raise Unsupported(
                f"config.json has {key}={_shown(name)}; of activations there are {', '.join(ACTIVATIONS)}"
            )
        return ACTIVATIONS[name]

    def labels(self, classes: int) -> tuple[str, ...]:
        """The names of the classes; none where config.json has only numbers."""
        named = self.config.get("id2label")
        listed = self.config.get("label_names")
        if isinstance(named, dict) and named.keys() == {str(i) for i in range(classes)}:
            found = [str(named[str(i)]) for i in range(classes)]
            return () if found == [f"LABEL_{i}" for i in range(classes)] else tuple(found)
        return tuple(map(str, listed)) if isinstance(listed, list) and len(listed) == classes else ()

    def assume(self, activation: str, where: str) -> None:
        """Notes that nothing says the activation, so that it is taken to be the usual one, unless it is given."""
        if self.given.activation is None:
            self.notes.append(
                f"no shape tells the activation, which is taken to be {activation}, as {where}; --activation says another "
                "(`wb import --data` scores them)"
            )

    def image(self, channels: int, height: int, width: int, *, features: bool = False) -> ImageInput:
        """Images of that size, or `features`, with the mean and deviation that are given or that the processor's settings say."""
        prepared = self.given.images or self.preparation or Preparation()
        if self.given.images is None and self.preparation is None:
            taken = (
                f"{height} rows of {width} features are taken as they are, as {ARRAYS},values={FEATURES}:FILE gives them; "
                "--mean and --std say otherwise"
                if features
                else "images in [0, 1] are taken as they are, for nothing says a mean and std: --mean and --std do"
            )
            self.notes.append(taken)
        prepared.check(channels)
        if prepared.order == "bgr":
            raise Unsupported("its images are blue, green, red; networks of wb take red, green, blue")
        mean, std = (tuple(value / prepared.scale for value in values) for values in (prepared.mean, prepared.std))
        mean, std = (values * channels if len(values) == 1 else values for values in (mean, std))
        return ImageInput(channels=channels, height=height, width=width, mean=mean, std=std)

    def count(self, pattern: str) -> int:
        """How many numbers the names of tensors have in the place of `(\\d+)`: 12 for blocks 0 to 11.

        Raises `BadArtefact` for more than there are tensors, so that no name makes work without end.
        """
        found = {int(match[1]) for name in self.shapes if (match := re.match(pattern, name))}
        largest = max(found, default=-1)
        if largest >= len(self.shapes):
            raise BadArtefact(f"names of its {len(self.shapes)} tensors count to {printable(str(largest), 60)}")
        return largest + 1

    def depths(self, pattern: str, most: int = MAX_STAGES) -> list[int]:
        """The number of blocks of each stage, of names with a stage and a block in the places of two `(\\d+)`.

        Raises `BadArtefact` for more than `most` stages, or more blocks than there are tensors.
        """
        found: dict[int, int] = {}
        for name in self.shapes:
            if match := re.match(pattern, name):
                stage, block = int(match[1]), int(match[2])
                found[stage] = max(found.get(stage, 0), block + 1)
        if max(found, default=0) >= most or max(found.values(), default=0) > len(self.shapes):
            stage = max(found, key=lambda i: (i >= most, found[i]))
            raise BadArtefact(
                f"names of its {len(self.shapes)} tensors tell of a stage {printable(str(stage), 60)} with "
                f"{printable(str(found[stage]), 60)} blocks; expected at most {most} stages, and a tensor for each block"
            )
        return [found.get(i, 0) for i in range(max(found, default=-1) + 1)]

    def heads(self, width: int, *, each: int | None, why: str = "") -> int:
        """The number of heads that is given, or that follows from the usual number of channels of `each`, which is noted.

        Raises:
            BadOption: it is not given and nothing tells it, or channels cannot be divided among so many.
        """
        heads = self.given.heads or self.argument("num_heads")
        if heads is None and each is not None and width % each == 0:
            heads = width // each
            self.notes.append(
                f"{heads} head{'' if heads == 1 else 's'} of {each} channels, as {why} has; --heads says another number"
            )
        if heads is None:
            raise BadOption(
                f"the shapes do not tell into how many heads {width} channels are divided; say --heads, "
                f"{max(1, width // 64)} for example"
            )
        if width % heads:
            raise BadOption(f"{width} channels cannot be divided among {heads} heads; say another number with --heads")
        return heads

    def side(self, tokens: int, patch: int) -> int:
        """The side in pixels of square images of so many patches. Raises `Unsupported` if they make no square."""
        side = math.isqrt(tokens)
        if side * side != tokens:
            raise Unsupported(f"{tokens} positions of patches are no square; give a checkpoint of square images")
        return side * patch


class Family(ABC):
    """A family of networks as a library writes them. Final subclasses live in one file each."""

    name: ClassVar[str]  # in the origin of a model
    title: ClassVar[str]
    library: ClassVar[Library]
    ignored: ClassVar[Sequence[str]] = ()  # patterns of names that a classifier does not use
    named: ClassVar[bool] = False  # the name of the architecture in config.json stands for all sizes but the classes
    options: ClassVar[Sequence[str]] = ()  # what its checkpoints do not say (`Given`), besides its images
    takes: ClassVar[Literal["image", "text"]] = "image"
    auto: ClassVar[str] = "AutoModelForImageClassification"  # the class of transformers that reads it
    counts_padding: ClassVar[bool] = False  # the places of tokens are moved by padding in front of a text
    prefix: ClassVar[str] = ""  # what names begin with, but for those of a network that was saved without its head

    @abstractmethod
    def recognises(self, seen: Seen) -> bool:
        """Whether a checkpoint is of this family."""

    @abstractmethod
    def architecture(self, seen: Seen) -> Architecture:
        """The architecture of a checkpoint. Raises `Unsupported` for a setting that no record has."""

    @abstractmethod
    def rules(self, a: Architecture) -> Iterator[Rule]:
        """Which tensors of theirs are which of ours; also of parameters that the architecture does not have."""

    def made(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Tensor]:
        """Parameters of ours that their files do not have, for they follow from the configuration."""
        return {}

    def again(self, a: Architecture) -> Mapping[str, str]:
        """Tensors that their files may have besides, and the one that each is equal to: a tied head."""
        return {}

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        """Their config.json of an architecture, which begins with what is in `config`; empty for layouts that have none.

        Raises:
            Unsupported: theirs cannot say it: blocks of different widths.
        """
        return {}


def squared(found: object) -> object:
    """A value of a file; of two that are equal, as of squares, that one."""
    return found[0] if isinstance(found, list) and len(found) == 2 and found[0] == found[1] else found


def _size(found: object, key: str, most: int = LARGEST) -> int:
    """A whole number that may be a size. Raises `BadArtefact` for anything else."""
    if type(found) is not int or not 1 <= found <= most:
        raise BadArtefact(f"config.json has {key}={_shown(found)}; expected a whole number of at least 1")
    return found


def _shown(value: object) -> str:
    """A value of a file for a message."""
    return printable(repr(value)[:200], 60)


def same(values: Iterable[V], what: str, title: str) -> V:
    """The one value that all have. Raises `Unsupported` if they differ: their format has one number for all blocks."""
    found = list(dict.fromkeys(values))
    if len(found) != 1:
        listed = ", ".join(map(str, found[:4])) or "none"
        raise Unsupported(
            f"{title} has one number of {what} for all blocks, and this network has {listed}; ONNX has any"
        )
    return found[0]


def hidden_ratio(sizes: Iterable[tuple[int, int]], title: str, came: object = None) -> float:
    """The one ratio that gives the hidden units of all blocks, of pairs of channels and hidden units; `came` where that does.

    Libraries round down what they multiply. Raises `Unsupported` if there is none.
    """
    found = list(dict.fromkeys(sizes))
    least = max((hidden / channels for channels, hidden in found), default=0.0)
    for ratio in (came, least, math.nextafter(least, math.inf)):
        if isinstance(ratio, int | float) and found and all(int(embed * ratio) == hidden for embed, hidden in found):
            return float(ratio)
    return same((hidden / channels for channels, hidden in found), "hidden units to a channel", title)


def timm_config(a: Architecture, config: Mapping[str, Any], **sizes: object) -> dict[str, Any]:
    """timm's config.json of a network, which begins with what is in `config`; empty without one.

    `sizes` are arguments that follow from the architecture.
    """
    if not config:
        return {}
    arguments = config.get("model_args")
    own = {**(arguments if isinstance(arguments, dict) else {}), **sizes}
    if "num_classes" in own:
        own["num_classes"] = a.head.classes
    labels = {"label_names": list(a.head.labels)} if a.head.labels else {}
    kept = {key: value for key, value in config.items() if key != "label_names"}
    return {**kept, **({"model_args": own} if own else {}), "num_classes": a.head.classes, **labels}


def labelled(a: Architecture) -> dict[str, Any]:
    """The keys of a config.json of transformers that name the classes."""
    names = a.head.labels or tuple(f"LABEL_{i}" for i in range(a.head.classes))
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }

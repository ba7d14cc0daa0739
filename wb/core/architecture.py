"""What a network is, as frozen, validated data with a JSON form and a key; holds no weights and imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field, ValidationError, model_validator

from wb.core.checks import (
    MAX_STAGES,
    check_causal,
    check_layouts,
    check_norms,
    check_preparation,
    check_stages,
    check_tokens,
)
from wb.core.errors import BadArtefact, BadOption, Unsupported, printable, reason
from wb.core.layout import Layout
from wb.core.records import (
    Dim,
    Frozen,
    Head,
    ImageInput,
    Input,
    LayerNorm,
    Learned,
    Norm,
    Part,
    Position,
    Stem,
    dims,
)
from wb.core.records.base import is_false
from wb.core.stage import Block as Block
from wb.core.stage import Stage as Stage
from wb.core.upgrade import upgraded

P = TypeVar("P", bound=Part)
MAX_PREFIX = 64  # tokens in front of those that have a place


class Change(Protocol):
    """Makes another record of a part, which it is also told the name of; of the same kind where the place has one kind only."""

    def __call__(self, name: str, part: P, /) -> P:
        """The record that takes the place of `part`."""
        ...


class Architecture(Frozen):
    """A whole network. Its axes are named after its fields: `s0.embed`, `s0.b3.heads`, `s0.b3.mlp` (`wb.models.axes`).

    `norm` is that of every block that names none, `first` stands behind the positions (None: there is no such norm), `last`
    in front of the head. `prefix` counts tokens in front of those that the stem makes: class tokens. In a `causal` network a
    token of a text sees itself and those before it. JSON of format 1 is read as well (`wb.core.upgrade`).
    """

    version: Literal[2] = 2
    input: Input
    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES)]
    head: Head
    norm: Norm = LayerNorm()
    position: Position = Learned()
    prefix: Annotated[int, Field(ge=0, le=MAX_PREFIX)] = 0
    first: Norm | None = None
    last: Norm | None = LayerNorm()
    causal: Annotated[bool, Field(exclude_if=is_false)] = False

    @model_validator(mode="before")
    @classmethod
    def _upgraded(cls, content: Any) -> Any:
        return upgraded(content)

    @property
    def key(self) -> str:
        """16 hexadecimal digits that differ for any two different architectures."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def layout(self) -> Layout:
        """How the tokens of the first stage lie."""
        found = self.stem.layout(self.input, self.prefix)
        return found._replace(plane=self.stages[0].plane, causal=self.causal)

    @property
    def image(self) -> ImageInput:
        """Its input, if that is an image.

        Raises:
            Unsupported: it takes something else.
        """
        if not isinstance(self.input, ImageInput):
            raise Unsupported(f"this is made for networks that take images, and the network takes {self.input.kind}")
        return self.input

    @property
    def usual(self) -> Architecture:
        """The same network for no more tokens than those that counts and latencies are of."""
        usual = self.input.usual
        return self if usual == self.input else self.model_copy(update={"input": usual})

    @property
    def has_maps(self) -> bool:
        """Whether any stage is a map, and so of convolutions."""
        return any(stage.plane == "map" for stage in self.stages)

    def layouts(self) -> Iterator[Layout]:
        """How the tokens lie, stage by stage."""
        layout = self.layout
        for stage in self.stages:
            layout = layout if stage.merge is None else stage.merge.layout(layout)._replace(plane=stage.plane)
            yield layout

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Every part that may have widths or a precision, by name and in order: `stem`, `s0.b3.mixer`, `s1.merge`, `head`.

        Norms, joins, wirings and positions are not among them.
        """
        yield "stem", self.stem
        for i in range(len(self.stages)):
            yield from self.stage_parts(i)
        yield "head", self.head

    def with_parts(self, change: Change) -> Architecture:
        """The same network with each part, called by its name, replaced by what `change` makes of it."""
        stages = []
        for i, stage in enumerate(self.stages):
            blocks = tuple(
                block.model_copy(update={kind: change(f"s{i}.b{j}.{kind}", part) for kind, part in block.parts()})
                for j, block in enumerate(stage.blocks)
            )
            merge = None if stage.merge is None else change(f"s{i}.merge", stage.merge)
            stages.append(stage.model_copy(update={"blocks": blocks, "merge": merge}))
        ends = {"stem": change("stem", self.stem), "head": change("head", self.head)}
        return self.model_copy(update={"stages": tuple(stages), **ends})

    def with_labels(self, labels: Sequence[str]) -> Architecture:
        """The same network with other names of its classes, or with none; as it is where the head has no classes."""
        return self.model_copy(update={"head": self.head.named(labels)})

    def with_classes(self, labels: Sequence[str]) -> Architecture:
        """The same network with a head for other classes, which are called so; as it is where the head has no classes."""
        return self.model_copy(update={"head": self.head.answering(labels)})

    def stage_parts(self, stage: int) -> Iterator[tuple[str, Part]]:
        """The parts of one stage."""
        merge = self.stages[stage].merge
        if merge is not None:
            yield f"s{stage}.merge", merge
        for j, block in enumerate(self.stages[stage].blocks):
            for kind, part in block.parts():
                yield f"s{stage}.b{j}.{kind}", part

    def blocks(self) -> Iterator[tuple[str, Stage, Block]]:
        """Every block with its name (`s0.b3`) and its stage, in order of execution."""
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(stage.blocks):
                yield f"s{i}.b{j}", stage, block

    def compact(self) -> Architecture:
        """The same function without the blocks that are switched off."""
        return self.model_copy(update={"stages": tuple(stage.compact() for stage in self.stages)})

    def bare(self) -> Architecture:
        """The network without its blocks: what stands before, between and behind them."""
        stages = tuple(stage.model_copy(update={"blocks": ()}) for stage in self.stages)
        return self.model_copy(update={"stages": stages})

    def trimmed(self) -> Architecture:
        """The same function without the switched-off blocks at the end of each stage; the others keep their places."""

        def trim(blocks: tuple[Block, ...]) -> tuple[Block, ...]:
            return trim(blocks[:-1]) if blocks and blocks[-1].off else blocks

        stages = tuple(stage.model_copy(update={"blocks": trim(stage.blocks)}) for stage in self.stages)
        return self.model_copy(update={"stages": stages})

    def with_blocks(self, change: Callable[[str, Block], Block]) -> Architecture:
        """The same network with each block, called by its name, replaced by what `change` makes of it."""
        stages = tuple(
            stage.model_copy(
                update={"blocks": tuple(change(f"s{i}.b{j}", block) for j, block in enumerate(stage.blocks))}
            )
            for i, stage in enumerate(self.stages)
        )
        return self.model_copy(update={"stages": stages})

    def to_json(self) -> str:
        """Canonical: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The architecture that `to_json` wrote, also that of an older version.

        Raises:
            BadArtefact: the text is not an architecture; says which field is wrong.
        """
        try:
            return Architecture.model_validate_json(text)
        except ValidationError as error:
            raise BadArtefact(f"this is no architecture: {explain(error)}") from error
        except ValueError as error:  # half a character
            raise BadArtefact(f"this is no architecture: {reason(error)}") from error

    @model_validator(mode="after")
    def _consistent(self) -> Architecture:
        check_stages(self)
        check_tokens(self)
        check_causal(self)
        check_layouts(self)
        check_norms(self)
        check_preparation(self)
        return self


def resize(architecture: Architecture, sizes: Mapping[str, int]) -> Architecture:
    """`architecture` with the named axes at new sizes, e.g. `{"s0.embed": 48, "s0.b3.heads": 2}`.

    Raises:
        BadOption: an axis that the architecture does not have.
    """
    known = axis_sizes(architecture)
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise BadOption(f"no axis named {', '.join(unknown)}; this architecture has {', '.join(known)}")

    def resized(name: str, part: P) -> P:
        changes = {field: sizes[axis] for axis, field in axes_of_part(name, part).items() if axis in sizes}
        return part.model_copy(update=changes) if changes else part

    stages = tuple(
        stage.model_copy(update={field: sizes[axis] for axis, field in _axes(f"s{i}", Stage) if axis in sizes})
        for i, stage in enumerate(architecture.stages)
    )
    return architecture.model_copy(update={"stages": stages}).with_parts(resized)


def axis_sizes(architecture: Architecture) -> dict[str, int]:
    """Every named axis with its size, in order of execution."""
    return {axis: getattr(record, field) for axis, record, field in _widths(architecture)}


def axis_dims(architecture: Architecture) -> dict[str, Dim]:
    """Every named axis with what is known of it, in order of execution."""
    return {axis: dims(type(record))[field] for axis, record, field in _widths(architecture)}


def kind_of_axis(axis: str) -> str:
    """The kind of an axis is the name of its width: `s0.b3.heads` -> `heads`."""
    return axis.rsplit(".", 1)[-1]


def kinds_of_axes(architectures: Iterable[Architecture]) -> dict[str, Dim]:
    """The kinds of axes in any of these, with what is known of each: of stems, of streams, of mixers, of feed-forwards."""
    places = [(name, record) for architecture in architectures for name, record in _records(architecture)]
    places.sort(key=lambda item: item[0].endswith(".ffn"))  # stable
    found: dict[str, Dim] = {}
    for _, record in places:
        for kind, dim in dims(type(record)).items():
            found.setdefault(kind, dim)
    return found


def explain(error: ValidationError) -> str:
    """The first problems of a pydantic error, as one sentence."""
    problems = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False)[:3]:
        place = printable(".".join(str(part) for part in problem["loc"]))  # empty for what is said of the whole
        text = printable(problem["msg"].removeprefix("Value error, "), 400)
        problems.append(f"{place}: {text}" if place else text)
    return "; ".join(problems)


def axes_of_part(name: str, part: Part) -> dict[str, str]:
    """The axes of the part called `name`, each with the field that has its size: `s0.b3.heads` -> `heads`."""
    return dict(_axes(_place(name), type(part)))


def _widths(architecture: Architecture) -> Iterator[tuple[str, Frozen, str]]:
    """Every axis by name, with the record that has it and the field, in order of execution."""
    for name, record in _records(architecture):
        for axis, field in _axes(_place(name), type(record)):
            yield axis, record, field


def _records(architecture: Architecture) -> Iterator[tuple[str, Frozen]]:
    """Every record that may have widths, by name: a part or a stage."""
    yield "stem", architecture.stem
    for i, stage in enumerate(architecture.stages):
        yield f"s{i}", stage
        yield from architecture.stage_parts(i)


def _axes(place: str, record: type[Frozen]) -> Iterator[tuple[str, str]]:
    """The axes of a record in that place, each with the field that has its size."""
    for field in dims(record):
        yield f"{place}.{field}", field


def _place(part: str) -> str:
    """Where the axes of a part are: `s0.b3.mixer` -> `s0.b3`; those of a stem, a merge or a head are in its own name."""
    return part.removesuffix(".mixer").removesuffix(".ffn")

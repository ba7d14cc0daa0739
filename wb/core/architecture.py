"""What a network is, as frozen, validated data with a JSON form and a key; holds no weights and imports no torch."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from wb.core.errors import BadArtefact, BadOption, printable, reason
from wb.core.records import ConvKept, Ffn, Frozen, Kept, Lmu, Mixer, Operator, Stem, Width
from wb.core.specs import Spec, image_spec

T = TypeVar("T", bound=Operator)
Form = Literal["pre", "post"]  # where a block has its norms

# What a file may ask for. Far beyond what fits a device, and little enough that reading one takes seconds.
MAX_BLOCKS = 512
MAX_STAGES = 12  # each halves the sides, and images have 4096 pixels at most
MAX_TOKENS = 1 << 16
MAX_RESPONSE = 1 << 33  # multiplications, about, to prepare all LMU mixers: 2 s


class ImageInput(Frozen):
    """Images in [0, 1] of a fixed size; `mean` and `std` per channel are applied inside the network."""

    channels: Annotated[int, Field(ge=1, le=64)]
    height: Annotated[int, Field(ge=1, le=4096)]
    width: Annotated[int, Field(ge=1, le=4096)]
    mean: tuple[Annotated[float, Field(ge=-1e6, le=1e6)], ...]
    std: tuple[Annotated[float, Field(ge=1e-6, le=1e6)], ...]

    def specs(self) -> tuple[Spec, ...]:
        """The arrays that a network with this input takes."""
        return (image_spec(self.channels, self.height, self.width),)

    @model_validator(mode="after")
    def _lengths(self) -> ImageInput:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(
                f"{len(self.mean)} means and {len(self.std)} standard deviations for {self.channels} channels; give one each"
            )
        return self


class Block(Frozen):
    """A mixer, then a feed-forward, each with a norm and added to the stream (`Architecture.norm` says in which order).

    Either may be missing, its norm with it; a block without both is switched off.
    """

    mixer: Mixer | None = None
    ffn: Ffn | None = None

    @property
    def off(self) -> bool:
        """Whether the block is the identity."""
        return self.mixer is None and self.ffn is None

    @property
    def operators(self) -> tuple[Operator, ...]:
        """The mixer and the feed-forward, those that are there."""
        return tuple(operator for operator in (self.mixer, self.ffn) if operator is not None)


class Stage(Frozen):
    """Blocks on one residual stream of `embed` channels. Every stage but the first begins by merging 2x2 tokens.

    `merge` is the precision of that convolution.
    """

    embed: Width
    blocks: Annotated[tuple[Block, ...], Field(max_length=MAX_BLOCKS)]
    merge: ConvKept = "fp32"


class Architecture(Frozen):
    """A whole network. Its axes are named after its fields: `s0.embed`, `s0.b3.heads`, `s0.b3.mlp` (`wb.models.axes`).

    `norm` "pre": `x + f(norm(x))` for every mixer and feed-forward f, and one more norm before pooling. "post":
    `norm(x + f(x))`, as in BERT, and no further norm. `head` is the precision of the last linear map.
    """

    task: ClassVar[Literal["classes"]] = "classes"  # what the outputs are for (`wb.tasks`)

    input: ImageInput
    stem: Stem
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=MAX_STAGES)]
    pool: Literal["mean", "cls"] = "mean"
    classes: Annotated[int, Field(ge=2, le=1_000_000)]
    labels: tuple[str, ...] = ()
    head: Kept = "fp32"
    norm: Form = "pre"
    norm_eps: Annotated[float, Field(gt=0, le=1)] = 1e-6

    @property
    def key(self) -> str:
        """16 hexadecimal digits that differ for any two different architectures."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in the first stage."""
        return self.input.height // self.stem.patch, self.input.width // self.stem.patch

    def grids(self) -> Iterator[tuple[int, int]]:
        """Rows and columns of tokens, stage by stage."""
        rows, columns = self.grid
        for _ in self.stages:
            yield rows, columns
            rows, columns = rows // 2, columns // 2

    def blocks(self) -> Iterator[tuple[str, Stage, Block]]:
        """Every block with its name (`s0.b3`) and its stage, in order of execution."""
        for i, stage in enumerate(self.stages):
            for j, block in enumerate(stage.blocks):
                yield f"s{i}.b{j}", stage, block

    def compact(self) -> Architecture:
        """The same function without the blocks that are switched off."""
        stages = tuple(
            stage.model_copy(update={"blocks": tuple(block for block in stage.blocks if not block.off)})
            for stage in self.stages
        )
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
        content = self.model_dump(mode="json")
        if self.norm == "pre":
            del content["norm"]  # pre-norm networks keep the keys they had before there were others
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Architecture:
        """The architecture that `to_json` wrote.

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
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes} classes; give one each, or none")
        stride = self.stem.patch * 2 ** (len(self.stages) - 1)
        if self.input.height % stride or self.input.width % stride:
            raise ValueError(
                f"images of {self.input.height}x{self.input.width} cannot be cut into patches of {stride}; choose a patch "
                f"that divides {math.gcd(self.input.height, self.input.width)}"
            )
        self._check_bounds()
        if self.pool == "cls":
            self._check_class_token()
        if self.stages[0].merge != "fp32":
            raise ValueError(f"the first stage merges nothing, so that it has no merge={self.stages[0].merge!r}")
        return self

    def _check_bounds(self) -> None:
        blocks = sum(len(stage.blocks) for stage in self.stages)
        if blocks > MAX_BLOCKS:
            raise ValueError(
                f"{blocks:,} blocks are more than the {MAX_BLOCKS} that a network may have; leave some out"
            )
        tokens = math.prod(self.grid)
        if tokens > MAX_TOKENS:
            raise ValueError(
                f"{self.grid[0]}x{self.grid[1]} patches are {tokens:,} tokens, and at most {MAX_TOKENS:,} are possible; choose "
                "larger patches or smaller images"
            )
        responses = {
            (block.mixer.memory, rows * columns)
            for stage, (rows, columns) in zip(self.stages, self.grids(), strict=True)
            for block in stage.blocks
            if isinstance(block.mixer, Lmu)
        }
        work = sum(memory**2 * (16 * memory + length) for memory, length in responses)
        if work > MAX_RESPONSE:
            raise ValueError(
                f"LMU mixers with memory up to {max(responses)[0]} would take {work:,} multiplications to prepare, and at most "
                f"{MAX_RESPONSE:,} are spent on that; choose smaller or fewer sizes of memory, or fewer tokens"
            )

    def _check_class_token(self) -> None:
        if len(self.stages) > 1:
            raise ValueError(
                "a class token does not survive the merging of tokens; use pool='mean' with several stages"
            )
        for name, _, block in self.blocks():
            if block.mixer is not None and block.mixer.needs_grid:
                raise ValueError(
                    f"mixer {block.mixer.kind!r} of {name} reads the tokens as an image, where a class token has no place; "
                    "use pool='mean' or another mixer"
                )


def resize(architecture: Architecture, sizes: Mapping[str, int]) -> Architecture:
    """`architecture` with the named axes at new sizes, e.g. `{"s0.embed": 48, "s0.b3.heads": 2}`.

    Raises:
        BadOption: an axis that the architecture does not have.
    """
    known = axis_sizes(architecture)
    unknown = sorted(set(sizes) - set(known))
    if unknown:
        raise BadOption(f"no axis named {', '.join(unknown)}; this architecture has {', '.join(known)}")

    def resized(name: str, block: Block) -> Block:
        return Block(
            mixer=block.mixer and _resized(block.mixer, name, sizes), ffn=block.ffn and _resized(block.ffn, name, sizes)
        )

    stages = tuple(
        stage.model_copy(update={"embed": sizes.get(f"s{i}.embed", stage.embed)})
        for i, stage in enumerate(architecture.with_blocks(resized).stages)
    )
    stem = architecture.stem
    if "stem.width" in sizes:
        stem = stem.model_copy(update={"width": sizes["stem.width"]})
    return architecture.model_copy(update={"stages": stages, "stem": stem})


def axis_sizes(architecture: Architecture) -> dict[str, int]:
    """Every named axis with its size, in order of execution."""
    sizes = {"stem.width": architecture.stem.width} if architecture.stem.kind == "conv" else {}
    for i, stage in enumerate(architecture.stages):
        sizes[f"s{i}.embed"] = stage.embed
        for j, block in enumerate(stage.blocks):
            for operator in block.operators:
                sizes |= {f"s{i}.b{j}.{name}": getattr(operator, name) for name in widths(operator)}
    return sizes


def widths(operator: Operator) -> list[str]:
    """The fields of a record that are the sizes of axes."""
    names = ("heads", "qk", "v", "anchors", "bits", "memory", "hidden", "mlp")
    return [name for name in names if name in type(operator).model_fields]


def explain(error: ValidationError) -> str:
    """The first problems of a pydantic error, as one sentence."""
    problems = [
        f"{printable('.'.join(str(part) for part in problem['loc'])) or 'value'}: {printable(problem['msg'], 400)}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)[:3]
    ]
    return "; ".join(problems)


def _resized(operator: T, prefix: str, sizes: Mapping[str, int]) -> T:
    changes = {name: sizes[f"{prefix}.{name}"] for name in widths(operator) if f"{prefix}.{name}" in sizes}
    return operator.model_copy(update=changes) if changes else operator

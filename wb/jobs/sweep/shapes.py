"""The shapes of a sweep: few wide blocks or many narrow ones, with one number of heads in all.

Source: Brown et al., "Wide Attention Is The Way Forward For Transformers?", 2022, https://arxiv.org/abs/2210.00640: heads in
all stay as many, so that attention keeps its parameters while blocks, and with them feed-forwards, become fewer.
Differs: the same depths are also made as large as the deepest network, by hidden units, which the paper does not do: it
tells what the width of attention is worth from what smaller networks are.
"""

from __future__ import annotations

from typing import Literal

from pydantic import ValidationError

from wb.core.architecture import Architecture, Block, explain
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Frozen, dims
from wb.data import Dataset
from wb.jobs.sweep.config import AspectConfig
from wb.models.counting import count_parameters
from wb.spaces.spaces import space_for

Arm = Literal["heads", "size"]  # what a shape has as many of as the deepest one
ARMS: dict[Arm, str] = {"heads": "equal heads", "size": "equal heads and size"}


class Shape(Frozen):
    """One shape: so many blocks, each with so many heads and hidden units."""

    name: str
    arm: Arm
    depth: int
    heads: int
    hidden: int
    architecture: Architecture


def shapes_of(config: AspectConfig, data: Dataset) -> tuple[Shape, ...]:
    """The shapes for `data`: each depth, the deepest first, then all but that as large as the deepest.

    Raises:
        BadData: images that the usual network cannot cut.
        BadOption: no such preset, or a network that is larger than any may be.
        Unsupported: the usual network of the preset has no blocks of heads and hidden units, or several stages.
    """
    usual = _usual(config, data)
    block = _pattern(usual, config.preset)
    hidden = config.hidden or int(getattr(block.ffn, "mlp", 0))
    depths = sorted(set(config.depths), reverse=True)

    def shape(depth: int, units: int, arm: Arm) -> Shape:
        heads, ending = config.heads // depth, "" if arm == "heads" else f", {units:,} hidden"
        return Shape(
            name=f"{depth} x {heads}{ending}",
            arm=arm,
            depth=depth,
            heads=heads,
            hidden=units,
            architecture=_shaped(usual, block, config, depth, units),
        )

    alike = [shape(depth, hidden, "heads") for depth in depths]
    wanted = count_parameters(alike[0].architecture).value
    grown = [
        shape(one.depth, _hidden_for(wanted, usual, block, config, one.depth, hidden), "size") for one in alike[1:]
    ]
    return (*alike, *grown)


def _usual(config: AspectConfig, data: Dataset) -> Architecture:
    """The usual network of the preset; of images one that has tokens."""
    space = "auto" if data.train.vocabulary is not None else "vit"
    return space_for(data, space, config.preset).usual()


def _pattern(usual: Architecture, preset: str) -> Block:
    """The first block with a mixer of heads and a feed-forward of hidden units."""
    if len(usual.stages) == 1:
        for block in usual.stages[0].blocks:
            if "heads" in _widths(block.mixer) and "mlp" in _widths(block.ffn):
                return block
    raise Unsupported(
        f"the usual network of preset {preset!r} has no stage of blocks with heads and hidden units; choose another --preset"
    )


def _widths(part: object) -> tuple[str, ...]:
    return () if part is None else tuple(dims(type(part)))  # type: ignore[arg-type]  # parts are pydantic models


def _shaped(usual: Architecture, block: Block, config: AspectConfig, depth: int, hidden: int) -> Architecture:
    """The usual network with `depth` blocks like `block`, of their share of the heads and `hidden` units."""
    if block.mixer is None or block.ffn is None:
        raise Unsupported("a block without mixer or feed-forward has no shape")
    mixer = block.mixer.model_copy(update={"heads": config.heads // depth})
    like = block.model_copy(update={"mixer": mixer, "ffn": block.ffn.model_copy(update={"mlp": hidden})})
    stage = usual.stages[0]
    stage = stage.model_copy(update={"blocks": (like,) * depth, "embed": config.embed or stage.embed})
    try:
        return Architecture.model_validate(usual.model_copy(update={"stages": (stage,)}).model_dump())
    except ValidationError as error:
        raise BadOption(
            f"{depth} blocks of {config.heads // depth} heads and {hidden:,} hidden units are no network that can be had "
            f"({explain(error)}); choose fewer --heads, --hidden or --depths"
        ) from error


def _hidden_for(wanted: float, usual: Architecture, block: Block, config: AspectConfig, depth: int, hidden: int) -> int:
    """The hidden units by which a network of `depth` blocks comes nearest to `wanted` parameters: they grow in a line."""
    one, two = (count_parameters(_shaped(usual, block, config, depth, n)).value for n in (hidden, hidden + 1))
    return max(1, hidden + round((wanted - one) / (two - one)))

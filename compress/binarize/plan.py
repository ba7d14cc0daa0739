"""The plan of a binarization: its stages, the pass of each, and whether a network can have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from wb.compress.binarize.config import BinarizeConfig
from wb.compress.binarize.hash import HashAttention
from wb.compress.binarize.lowbits import Bits, LowBits, chosen
from wb.compress.staged.record import Name
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Hash, Softmax, kind_of
from wb.data import Dataset
from wb.models.passes.base import Pass


def stages_of(config: BinarizeConfig) -> tuple[Name, ...]:
    """The stages in order. Attention comes first, so that its hash functions are learned from weights in floating point.

    Weights become binary at once. Ternary weights on the way (Bai et al., "BinaryBERT", 2021) took half of the epochs and gained
    nothing measurable.
    """
    found: list[Name] = ["hash"] if config.attention == "hash" else []
    return (*found, *([] if config.weights == "keep" else [config.weights]))


def step_of(
    name: Name, config: BinarizeConfig, original: Architecture, data: Dataset, report: Callable[[str, object], None]
) -> Pass:
    """The pass of a stage; `report` is called for every block whose attention is converted."""
    if name == "hash":
        form, bits, anchors = config.form, config.bits, config.anchors
        return HashAttention(data, bits=bits, anchors=anchors, form=form, seed=config.seed, report=report)
    return LowBits(cast(Bits, name), _groups(config, original))


def check_work(config: BinarizeConfig, architecture: Architecture) -> None:
    """Raises `BadOption` if the options ask for nothing, or for something that this network cannot have."""
    if config.attention == config.weights == "keep":
        raise BadOption("with --attention keep and --weights keep there is nothing to do; change one of them")
    _groups(config, architecture)
    if config.attention == "hash":
        mixers = {block.mixer.kind for _, _, block in architecture.blocks() if block.mixer is not None}
        if kind_of(Softmax) not in mixers:
            has = f"its mixers are {', '.join(sorted(mixers))}" if mixers else "it has no mixers"
            raise BadOption(f"this model has no {Softmax.title} to hash, {has}; say --attention keep")
        lacks = next((why for layout in architecture.layouts() if (why := Hash.lacks(layout)) is not None), None)
        if lacks is not None:
            raise Unsupported(
                f"hash attention {lacks}, as this network would need; say --attention keep, and --weights w2"
            )


def _groups(config: BinarizeConfig, original: Architecture) -> tuple[str, ...]:
    """The groups whose weights get fewer bits."""
    return () if config.weights == "keep" else chosen(original, config.weights, config.keep, head=config.head)

"""Networks said in the words that tests vary: how they are wired, how they pool; random weights and images for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wb.core.architecture import Architecture, Block, Stage, axis_dims
from wb.core.records import (
    WIRINGS,
    Classify,
    Conv2x2,
    ImageInput,
    Join,
    LayerNorm,
    Mlp,
    Norm,
    Nowhere,
    PatchStem,
    Softmax,
    kind_of,
)
from wb.core.records.ffns import Fused, Inverted
from wb.core.records.merges import Dw3
from wb.core.records.mixers import Depthwise
from wb.core.records.stems import MobileStem
from wb.core.specs import IDS, MASK, PIXELS
from wb.data import Dataset, Split, load
from wb.data.split import Images
from wb.data.texts.passages import Passages
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import RARE, WORDS, vocabulary_of
from wb.models.axes import nested
from wb.models.feeds import made_up
from wb.models.model import Model, from_network
from wb.models.named import axes_of
from wb.models.network import build, skeleton

Form = Literal["pre", "post"]
WIRED = {kind_of(wiring): wiring.sample() for wiring in WIRINGS}


def assembled(
    *,
    stages: Sequence[Stage],
    classes: int = 3,
    labels: Sequence[str] = (),
    norm: str = "pre",
    norm_eps: float = 1e-6,
    pool: str = "mean",
    **fields: Any,
) -> Architecture:
    """An architecture. Every stage is wired as `norm` says, and begins with 2x2 tokens where nothing else is said."""
    prefix = 1 if pool == "cls" else 0
    head = Classify(classes=classes, labels=tuple(labels), pool="first" if prefix else "mean")
    fields = {"norm": LayerNorm(eps=norm_eps), "last": LayerNorm(eps=norm_eps), "prefix": prefix, **fields}
    joined = tuple(
        stage if i == 0 or stage.merge is not None else stage.model_copy(update={"merge": Conv2x2()})
        for i, stage in enumerate(stages)
    )
    return wired(Architecture.model_validate({"stages": joined, "head": head, **fields}), norm)


def of_digits(*, embed: int = 16, depth: int = 2, heads: int = 2, width: int = 6, mlp: int = 24) -> Architecture:
    """A small one for the digits: blocks of softmax attention with as many channels for queries as for values."""
    data = load("digits")
    block = Block(mixer=Softmax(heads=heads, qk=width, v=width), ffn=Mlp(mlp=mlp))
    image = ImageInput(channels=1, height=8, width=8, mean=data.mean, std=data.std)
    stages = (Stage(embed=embed, blocks=(block,) * depth),)
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=10, labels=data.classes)


def hybrid() -> Architecture:
    """A small one with a stage of maps that has each operator of them, and a stage of tokens; for images of 2x8x8."""
    image = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
    blocks = (Block(mixer=Depthwise(), ffn=Fused(mlp=10)), Block(mixer=Depthwise(), ffn=Inverted(mlp=12, kernel=3)))
    maps = Stage(embed=8, blocks=blocks, plane="map")
    tokens = Stage(embed=12, blocks=(Block(mixer=Softmax(heads=2, qk=4, v=6), ffn=Mlp(mlp=9)),), merge=Dw3())
    stem = MobileStem(patch=2, width=6)
    return assembled(input=image, stem=stem, stages=(maps, tokens), position=Nowhere(), labels=("a", "b", "c"))


def wired(architecture: Architecture, norm: str) -> Architecture:
    """The same network in the wiring of that name, without a last norm where that leaves the stream normalised ("post")."""
    stages = tuple(stage.model_copy(update={"wiring": WIRED[norm]}) for stage in architecture.stages)
    last = None if WIRED[norm].normalised else architecture.last
    return architecture.model_copy(update={"stages": stages, "last": last})


def answering(architecture: Architecture, **head: Any) -> Architecture:
    """The same network with another head."""
    return architecture.model_copy(update={"head": architecture.head.model_copy(update=head)})


def with_eps(architecture: Architecture, eps: float) -> Architecture:
    """The same network whose norms add `eps`."""
    return normed(architecture, LayerNorm(eps=eps))


def normed(architecture: Architecture, norm: Norm) -> Architecture:
    """The same network with another norm."""
    return architecture.model_copy(update={"norm": norm, "last": None if architecture.last is None else norm})


def joined(architecture: Architecture, join: Join) -> Architecture:
    """The same network with that join in every block that is not switched off."""
    return architecture.with_blocks(lambda _, block: block if block.off else block.model_copy(update={"join": join}))


def form(architecture: Architecture) -> str:
    """Where the norms of its sub-layers stand: "pre" or "post"."""
    return architecture.stages[0].wiring.kind


def random_model(architecture: Architecture, seed: int = 0, gain: float = 0.0) -> Model:
    """Random weights everywhere, biases and gains (about `gain`) included, so that nothing is hidden by a zero or a one."""
    network = build(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.normal_(gain if "gain" in name else 0.0, 0.3, generator=generator)
        for name in network.statistics():
            network.get_parameter(name).abs_().add_(0.1)  # a variance is positive
    return from_network(architecture, network)


def images(architecture: Architecture, count: int = 3) -> Tensor:
    """Random ones in the shape that the network takes; for one of texts, random texts, which end one token apart."""
    found = made_up(architecture.input.specs(), count, seed=1, tokens=architecture.usual.layout.shape[0])
    if MASK not in found:
        return found[PIXELS]
    ids = found[IDS]
    for row in range(count):
        ids[row, ids.shape[1] - row % ids.shape[1] :] = -1
    return ids


def exactly(inputs: Tensor) -> Tensor:
    """The same in float64, where they are no ids."""
    return inputs.double() if inputs.is_floating_point() else inputs


def fed(inputs: Tensor) -> dict[str, NDArray[Any]]:
    """What a graph is given for them: images, or ids with a mask."""
    if inputs.is_floating_point():
        return {PIXELS: inputs.numpy()}
    return {IDS: inputs.clamp(min=0).numpy(), MASK: (inputs >= 0).long().numpy()}


def of_channels(channels: int) -> ImageInput:
    """Images of 8x8 with so many channels."""
    return ImageInput(channels=channels, height=8, width=8, mean=(0.0,) * channels, std=(1.0,) * channels)


def axes_within(architecture: Architecture) -> dict[str, str]:
    """The axes whose entries may be chosen for every entry of another, with that one: channels of heads, by head."""
    return nested(axes_of(skeleton(architecture)), axis_dims(architecture))


def noise(architecture: Architecture, count: int = 24) -> Dataset:
    """Examples and labels of three classes without a meaning, as the network takes them; texts end at different places."""
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=count)
    specs = architecture.input.specs()
    split: Split
    if specs[0].name == PIXELS:
        shape = (count, *map(int, specs[0].example))
        split = Images(rng.random(shape, dtype=np.float32), labels)
    else:
        longest, known = int(architecture.layout.shape[0]), specs[0].below or 0
        words = [f"w{i}" for i in range(known - 2)]  # two more stand for padding and for what is unknown
        vocabulary = vocabulary_of([" ".join(words)] * RARE, WORDS, longest)
        lines = [" ".join(rng.choice(words, 1 + i % longest)) for i in range(count)]
        split = texts_of(lines, labels.tolist(), replace(vocabulary, tokens=architecture.input.usual_tokens or longest))
        assert split.specs() == specs
    return Dataset("noise", "noise", split, split, split, ("a", "b", "c"), "0")


def prose(architecture: Architecture, count: int = 24) -> Dataset:
    """Passages without a meaning for a network that foresees tokens; those of each split are others."""
    longest, known = int(architecture.layout.shape[0]), architecture.input.specs()[0].below or 0
    words = [f"w{i}" for i in range(known - 2)]
    vocabulary = vocabulary_of([" ".join(words)] * RARE, WORDS, longest)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(words, count * longest + 1)) for _ in range(3)]
    train, validation, test = (Passages.of(text, vocabulary, "noise") for text in texts)
    return Dataset("noise", "noise", train, validation, test, (), "0")

"""The torch network of an architecture: `build`, and `describe` back; and the axes of every parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported, out_of_memory
from wb.models.block import BlockModule, build_norm, build_wiring, class_at
from wb.models.ends import HeadModule, PositionModule
from wb.models.layers.convolution import BatchNormed
from wb.models.layers.operator import NOTHING, Context, PartModule
from wb.models.layers.packing import check_behind
from wb.models.layers.planes import laid
from wb.models.layers.tensors import parameter
from wb.models.merges.base import MergeModule
from wb.models.norms.base import NormModule
from wb.models.stems.base import StemModule
from wb.models.walk import State, Sublayer, Wiring
from wb.scale.ring.attention import Spread

MAX_PARAMETERS = 1 << 31  # 8 GB; training takes four times that


class Dropout(NamedTuple):
    """The shares that are dropped in training: of the first block's input, of sub-layers' outputs, of what the head reads."""

    embedding: float = 0.0
    inside: float = 0.0
    head: float = 0.0


NO_DROPOUT = Dropout()


class Network(nn.Module):
    """Images (B, channels, height, width) in [0, 1] -> logits (B, classes); normalisation is inside.

    Texts are ids (B, N), negative at padding; or any ids there, with a mask (B, N) that is not zero at tokens that count, which
    is how graphs have it. Padding stands behind a text (`wb.models.decoding` takes it on either side). A head that foresees
    tokens gives (B, N, vocabulary). `dropout` is for training, and not of the architecture; nor is `spread`, by which the tokens
    that it is given are some of each line (`wb.training.shared.spreading`).

    `architecture` is the one that the network was built from (`describe` reads it off the parameters instead). `first` is the
    norm behind the positions and `norm` the norm in front of the head, if there are any. `cls` has the tokens in front of the
    stem's: (D), or (prefix, D) for several. `position` (N, D) is there where the positions have a parameter.
    """

    position: nn.Parameter
    head: nn.Parameter
    head_bias: nn.Parameter

    def __init__(self, architecture: Architecture, device: torch.device | str | None = None) -> None:
        super().__init__()
        a = self.architecture = architecture
        first, last = a.stages[0].embed, a.stages[-1].embed
        self.dropout = NO_DROPOUT
        self.spread: Spread | None = None
        for name, values in a.input.moments.items():
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.mean: Tensor
        self.std: Tensor
        self.stem: StemModule = class_at(a.stem.module)(a.stem, a.input, first, device)
        layouts = self.layouts = list(a.layouts())
        self.positions: PositionModule = class_at(a.position.module)(a.position, self, first, layouts[0], device)
        shape = (first,) if a.prefix == 1 else (a.prefix, first)
        self.cls = parameter(*shape, device=device) if a.prefix else None
        self.first: NormModule | None = None if a.first is None else build_norm(a.first, first, device)
        self.merges = nn.ModuleList(
            class_at(after.merge.module)(after.merge, before.embed, layout, after.embed, device)
            for before, after, layout in zip(a.stages, a.stages[1:], layouts, strict=False)
            if after.merge is not None
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(
                BlockModule(block, (i, j), stage.embed, layout, a.norm, device) for j, block in enumerate(stage.blocks)
            )
            for i, (stage, layout) in enumerate(zip(a.stages, layouts, strict=True))
        )
        self.wirings = nn.ModuleList(build_wiring(stage, device) for stage in a.stages)
        self.norm: NormModule | None = None if a.last is None else build_norm(a.last, last, device)
        self.answer: HeadModule = class_at(a.head.module)(a.head, self, last, layouts[-1], device)

    def reset(self) -> None:
        """Initial values for every parameter, drawn from torch's global generator."""
        for module in self.modules():
            if isinstance(module, PartModule) and module is not self.stem:
                module.reset()
        self.stem.reset()
        self.positions.reset(self)
        if self.cls is not None:
            nn.init.trunc_normal_(self.cls, std=0.02)
        self.answer.reset(self)

    def statistics(self) -> dict[str, BatchNormed]:
        """Full names of what training images determine (`PartModule.statistics`), each with the part that has it."""
        return {
            f"{name}.{local}": module
            for name, module in self.named_modules()
            if isinstance(module, BatchNormed)
            for local in module.statistics
        }

    # ------------------------------------------------------------------------------------------------------- the walk

    def blocks(self, stage: int) -> Iterator[BlockModule]:
        """The blocks of a stage, also those that are switched off."""
        yield from cast(nn.ModuleList, self.stages[stage])  # type: ignore[misc]

    def walk(self, stage: int | None = None) -> Iterator[Sublayer]:
        """The sub-layers of one stage or of all, in order of execution."""
        for i in range(len(self.stages)) if stage is None else (stage,):
            for block in self.blocks(i):
                yield from block.sublayers(self.wiring(i))

    def at(self, name: str) -> Sublayer:
        """The sub-layer of that name, `s0.b3.mixer`."""
        stage = int(name[1 : name.index(".")])
        return next(at for at in self.walk(stage) if at.name == name)

    def folds(self, stage: int) -> bool:
        """Whether norms on the stream of a stage stand in front of operators and of the head only (`Wiring.folds`)."""
        return self.wiring(stage).folds and (stage > 0 or self.first is None)

    def wiring(self, stage: int) -> Wiring:
        """The wiring of the sub-layers of a stage."""
        return cast(Wiring, self.wirings[stage])

    def merge(self, stage: int) -> MergeModule:
        """The merge that a stage begins with, which is not the first."""
        return cast(MergeModule, self.merges[stage - 1])

    def begin(self, inputs: Tensor, mask: Tensor | None = None) -> State:
        """The state before the first sub-layer; `mask` is that of graphs. Raises `BadData` for padding in front of a text."""
        inputs, counts = self.stem.unpadded(inputs) if mask is None else (inputs, mask.bool())
        if counts is not None and self.spread is None:
            check_behind(counts)
        places = None if self.spread is None else self.spread.places(inputs.shape[1]).to(inputs.device)[None]
        return self.wiring(0).begin(self.tokens(inputs, places), 0)._replace(context=self.context(counts, places))

    def context(self, counts: Tensor | None, places: Tensor | None = None) -> Context:
        """What is known of a run whose stem has tokens that count (B, N), and others; places where they are spread."""
        dropout = self.dropout.inside if self.training else 0.0
        if counts is None:
            return Context(dropout=dropout) if dropout else NOTHING
        if self.spread is not None:
            return Context(counts, None, dropout, places, self.spread)
        if self.architecture.prefix:
            counts = torch.cat([torch.ones_like(counts[:, :1]).expand(-1, self.architecture.prefix), counts], dim=1)
        visible = counts[:, None, None, :]
        if self.architecture.causal:
            order = torch.arange(counts.shape[1], device=counts.device)
            visible = visible & (order[None, :] <= order[:, None])
        return Context(counts, visible, dropout)

    def enter(self, state: State, stage: int) -> State:
        """The state at the start of `stage`, from a state in that stage or an earlier one; merges between them are run."""
        while state.stage < stage:
            after = state.stage + 1
            tokens = self.merges[state.stage](self.wiring(state.stage).end(state))
            begun = self.wiring(after).begin(laid(tokens, self.layouts[after]), after)
            state = begun._replace(context=state.context)
        return state

    def end(self, state: State) -> Tensor:
        """The logits (B, classes) of a network that ends with `state`; later merges are run."""
        state = self.enter(state, len(self.stages) - 1)
        return self.answered(self.wiring(state.stage).end(state), state.context.mask)

    def run(self, inputs: Tensor, step: Callable[[State, Sublayer], State] = lambda state, at: at(state)) -> Tensor:
        """The logits if every sub-layer changes the state by `step`."""
        state = self.begin(inputs)
        for at in self.walk():
            state = step(self.enter(state, at.stage), at)
        return self.end(state)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The same logits as `run`, but with blocks called as modules, so that hooks and exporters see them."""
        state = self.begin(inputs, mask)
        for i in range(len(self.stages)):
            state = self.enter(state, i)
            for block in self.blocks(i):
                state = block(self.wiring(i), state)
        return self.end(state)

    # -------------------------------------------------------------------------------------------------------- the ends

    def normalised(self, inputs: Tensor) -> Tensor:
        """The input of the stem: (B, channels, height, width) -> the same shape; ids stay as they are.

        For each image that is mirrored there are two in place of one, here and in every block.
        """
        if not self.architecture.input.moments:
            return inputs
        if self.architecture.input.views > 1:
            inputs = torch.stack([inputs, inputs.flip(-1)], dim=1).flatten(0, 1)
        normalised: Tensor = (inputs - self.mean.to(inputs)) / self.std.to(inputs)
        return normalised

    def tokens(self, inputs: Tensor, places: Tensor | None = None) -> Tensor:
        """The input of the first block: (B, channels, height, width) -> (B, N, D), or a map (B, D, rows, columns).

        Of ids (B, N), which are all of the vocabulary, it is (B, N, D); `places` (B, N) are theirs in the text, None: from 0 on.
        """
        x = laid(self.stem(self.normalised(inputs)), self.layouts[0])
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], self.architecture.prefix, -1), x], dim=1)
        x = self.positions.placed(self, x, places)
        x = x if self.first is None else cast(Tensor, self.first(x))
        return F.dropout(x, self.dropout.embedding) if self.training and self.dropout.embedding else x

    def pooled(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The input of the head's linear map: (B, N, D) -> (B, D), the mean of an image and its mirror image.

        `mask` (B, N) is true at the tokens that count, None if all do.
        """
        pooled = self.answer.pooled(x, self.norm, mask)
        views = self.architecture.input.views
        pooled = pooled if views == 1 else pooled.unflatten(0, (-1, views)).mean(dim=1)
        return F.dropout(pooled, self.dropout.head) if self.training and self.dropout.head else pooled

    def answered(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last norm, pooling and the head: (B, N, D) -> (B, classes), `mask` as in `pooled`."""
        return self.answer.outputs(self, self.pooled(x, mask))


def build(architecture: Architecture, device: torch.device | str | None = None) -> Network:
    """The exact skeleton of `architecture`, parameters uninitialised (`reset` or `load_state_dict` fills them).

    On the `meta` device it costs no memory, and `torch.func.functional_call` runs it on any matching weights.

    Raises:
        Unsupported: more than `MAX_PARAMETERS`, elsewhere than on `meta`, or no memory for them.
    """
    if torch.device(device or "cpu").type == "meta":
        return Network(architecture, device)
    count = sum(parameter.numel() for parameter in skeleton(architecture).parameters())
    if count > MAX_PARAMETERS:
        raise Unsupported(
            f"a network of {count:,} parameters is beyond the {MAX_PARAMETERS:,} that are computed with; choose smaller widths"
        )
    try:
        return Network(architecture, device)
    except RuntimeError as error:  # torch raises it when out of memory
        if not out_of_memory(error):
            raise
        raise Unsupported(
            f"there is no memory for a network of {count:,} parameters, {4 * count / 2**30:.2g} GB; free some, or choose "
            "smaller widths"
        ) from error


def fresh(architecture: Architecture, seed: int = 0) -> Network:
    """A network on the CPU that nobody trained, its weights drawn with `seed`; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build(architecture)
        network.reset()
    return network


@lru_cache(maxsize=8)
def skeleton(
    architecture: Architecture, training: bool = False, dropout: Dropout = NO_DROPOUT, spread: Spread | None = None
) -> Network:
    """The network of `architecture` on the `meta` device, in training mode (with that dropout and spread) or not, cached.

    It is shared: inspect it, or run it on weights with `torch.func.functional_call`, but do not change it, and do not use it
    from two threads at once. `build` makes a network of your own.
    """
    network = build(architecture, "meta").train(training)
    network.dropout, network.spread = dropout, spread
    return network


def describe(network: Network) -> Architecture:
    """The architecture of a network, with widths read off its parameters' shapes."""
    a = network.architecture
    stages = []
    for i, stage in enumerate(a.stages):
        beginning: PartModule = network.stem if i == 0 else network.merge(i)
        found = {"embed": beginning.sizes["embed"], "merge": None if i == 0 else network.merge(i).describe()}
        described = tuple(block.describe() for block in network.blocks(i))
        stages.append(stage.model_copy(update={**found, "blocks": described}))
    ends = {"stem": network.stem.describe(), "head": network.answer.describe(network)}
    return a.model_copy(update={"stages": tuple(stages), **ends})

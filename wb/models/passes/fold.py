"""The pass that folds batch norms into the linear maps behind them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from wb import __version__
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption
from wb.core.records import Unnormed
from wb.models.layers.convolution import BatchNormed
from wb.models.model import Model, Step
from wb.models.network import Network, build, skeleton
from wb.models.norms import unnormed
from wb.models.norms.fold import fold, fold_last, foldable, head_foldable, why_not
from wb.models.walk import Sublayer


@dataclass(frozen=True)
class FoldNorms:
    """Folds every batch norm, re-parameterized ones too, into what reads it: the same function, with one part less.

    A block has one kind of norm, so that its two are folded together or not at all. Products are made in float64.
    """

    def __call__(self, model: Model, /) -> Model:
        """The folded model.

        Raises:
            BadOption: there is no norm that can be folded.
        """
        folded, kept = foldings(model.architecture)
        if not folded:
            stays = "; ".join(f"that of {name} {why}" for name, why in kept.items())
            raise BadOption(
                f"this model has no batch norm to fold{f' ({stays})' if kept else ''}; `wb convert --norm repbn` gives it some"
            )
        model.check()
        network = build(model.architecture)
        network.load_state_dict(
            {name: w.to(torch.float64, copy=True) for name, w in model.weights.items()}, assign=True
        )
        architecture = unnormed_in(model.architecture, folded)
        with torch.no_grad():
            for at in network.walk():
                if at.name in folded:
                    fold(at)
            if "head" in folded:
                fold_last(network)
        given, names = dict(network.named_parameters()), [n for n, _ in skeleton(architecture).named_parameters()]
        weights = {name: given[name].detach().to(model.weights[name].dtype) for name in names}
        step = Step(name="fold norms", arguments={"folded": list(folded)}, version=__version__)
        return Model(architecture, weights, (*model.history, step))


def foldings(architecture: Architecture) -> tuple[tuple[str, ...], dict[str, str]]:
    """The sub-layers (and `head`) whose batch norm can be folded, and for those whose norm stays why, in words."""
    network = skeleton(architecture)
    folded: list[str] = []
    kept: dict[str, str] = {}
    for block in _blocks(network):
        lacking = {at.name: why for at in block if _normed(at) and (why := why_not(at)) is not None}
        there = [at.name for at in block if foldable(at)]
        others = [at.name for at in block if not _normed(at) and not isinstance(at.norm, unnormed.Unnormed)]
        if there and not lacking and not others:
            folded += there
        else:
            kept |= lacking | {name: f"stays like that of {next(iter(lacking), name)}" for name in there}
    norm: nn.Module | None = network.norm
    if head_foldable(network):
        folded.append("head")
    elif isinstance(norm, BatchNormed):
        kept["head"] = "is read by a map without a bias, or of one or two bits"
    return tuple(folded), kept


def unnormed_in(architecture: Architecture, folded: tuple[str, ...]) -> Architecture:
    """The architecture without the norms of these sub-layers."""
    places = {name.rpartition(".")[0] for name in folded}

    def without(name: str, block: Block) -> Block:
        return block.model_copy(update={"norm": Unnormed()}) if name in places else block

    found = architecture.with_blocks(without)
    return found.model_copy(update={"last": Unnormed()}) if "head" in folded else found


def _blocks(network: Network) -> Iterator[list[Sublayer]]:
    """The sub-layers of every block."""
    found: dict[str, list[Sublayer]] = {}
    for at in network.walk():
        found.setdefault(at.place, []).append(at)
    yield from found.values()


def _normed(at: Sublayer) -> bool:
    norm: nn.Module = at.norm
    return isinstance(norm, BatchNormed)

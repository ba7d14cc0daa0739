"""Folding joins: a layer scale multiplies what an operator gives, which its last weights, or the gains and shifts of norms behind
them, can take over. Exact in every wiring."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from wb.models.model import Model
from wb.models.network import Network, build
from wb.models.walk import Sublayer

SMALLEST = 1e-3  # of the largest factor: what is divided by less would blow up rounding


def joins_folded(model: Model) -> Model:
    """The same function with every scale one behind weights that write to the stream; an operator without any keeps its scale."""
    weights = dict(model.weights)
    for at in build(model.architecture, "meta").walk():
        fold(weights, at)
    return replace(model, weights=weights)


def folded_names(network: Network) -> set[str]:
    """The parameters of joins that are one once they are folded."""
    return {f"{at.join_prefix}.scale" for at in network.walk() if folds(at)}


def folds(at: Sublayer) -> bool:
    """Whether the sub-layer has a join that weights can take over."""
    return at.join is not None and at.join.scales and bool(at.scaling)


def fold(weights: dict[str, Tensor], at: Sublayer) -> None:
    """W <- scale W, b <- scale b, or the same of the gains and shifts behind W; scale one."""
    name = f"{at.join_prefix}.scale"
    if folds(at):
        _multiply(weights, at, weights[name])
        weights[name] = torch.ones_like(weights[name])


def unfold(weights: dict[str, Tensor], at: Sublayer, like: Model) -> None:
    """Gives a folded scale the values that it has in `like`, if it is there and none is close to zero."""
    name = f"{at.join_prefix}.scale"
    if not folds(at) or name not in like.weights:
        return
    scale = like.weights[name]
    if scale.abs().min() > SMALLEST * scale.abs().max():
        _multiply(weights, at, 1 / scale)
        weights[name] = scale.clone()


def _multiply(weights: dict[str, Tensor], at: Sublayer, scale: Tensor) -> None:
    """Multiplies what an operator writes to the stream by `scale`, (D) or ()."""
    for name in at.scaling:
        weight = weights[name]  # (D, everything else)
        weights[name] = weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))

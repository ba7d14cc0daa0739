"""The canonical form of a network: the same for all networks that differ only by symmetries. `restored` undoes it.

A symmetry changes weights and keeps the function. For pre-norm networks the form is exact: gains and shifts of norms are folded
into the weights that read them, layer scales into the weights whose outputs they multiply (in any network); biases of softmax
keys are dropped; value biases move behind the attention; softmax scales become one; a residual stream that only centring norms
read has mean zero; each head's query and key (value and output) matrices are balanced, so that their only remaining freedom is
a rotation.

Source: operations 0 of fusion by symmetries as in Theus et al., "Generalized Linear Mode Connectivity for Transformers",
2025, https://arxiv.org/abs/2506.22712.
Differs: the result is an ordinary network with LayerNorm, whose gains are one. Operators say themselves what they bear
(`wb.models.layers.operator`). A norm in front of an operator without parameters keeps its gain. One in front of weights without
biases keeps its shift: a bias that a network does not have could not be taken away again.
Limits: in a post-norm network gains and shifts lie in the stream, so that neither folding them nor centring is possible;
heads are balanced and biases moved all the same. A stream that a merge reads is not centred, and neither is one that a batch
norm lies on: its channels may be permuted only. Batch norms stay behind the weights that they belong to.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from wb.core.architecture import Architecture, axis_dims
from wb.core.records import Part
from wb.fusion.forms.heads import balance_heads, put
from wb.models.axes import Axes, nested
from wb.models.joins.base import JoinModule
from wb.models.layers.operator import PartModule
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import Network, build
from wb.models.norms.base import NormModule
from wb.models.walk import Sublayer
from wb.training.refit.joins import fold, folded_names, folds, unfold

P = TypeVar("P", bound=Part)
SMALLEST_GAIN = 1e-3  # of the largest of its norm: what is divided by less would blow up rounding
TINIEST_GAIN = 1e-6  # smaller ones count as that large where a shift is divided by them

Readers = Mapping[str, str | None]  # the weights that read a norm -> their biases


def canonical(model: Model, *, balance: bool = True, release: bool = False) -> Model:
    """The canonical form of `model`: another model with the same function. Weights keep their type.

    Without `balance` the channels of heads are not rotated, so that permuted copies stay permuted copies. With `release`, each
    weight of `model` is dropped as soon as its replacement exists; its weights must be a dictionary of its own, and `model` is
    unusable afterwards.

    Limits: heads with equal singular values keep some freedom beyond a rotation of the whole head.
    """
    network = build(model.architecture, "meta")
    axes = axes_of(network)
    weights = model.weights if release and isinstance(model.weights, dict) else dict(model.weights)
    for prefix, norm, readers in _norms(network):
        _fold(weights, prefix, norm, readers)
    for at in network.walk():
        fold(weights, at)
        _standardise(weights, at)
    last = len(network.stages) - 1
    norms = [norm for _, norm in _norms_on(network, last)]
    if network.folds(last) and network.norm is not None and all(n.centred for n in norms) and turns(network, last):
        _centre(weights, axes, f"s{last}.embed", _factors(network))
    within = nested(axes, axis_dims(model.architecture))
    for at in network.walk() if balance else ():
        balance_heads(weights, at, within)
    return replace(model, architecture=with_unit_scales(model.architecture), weights=weights)


def rebalanced(model: Model, to: Architecture) -> Model:
    """`model`, in canonical form, with its heads balanced for streams of the widths of `to`.

    A reader in a wider stream has smaller weights and a writer larger ones, at the same size of the stream.
    """
    weights = dict(model.weights)
    network = build(model.architecture, "meta")
    within = nested(axes_of(network), axis_dims(model.architecture))
    for at in network.walk():
        own, new = (a.stages[at.stage].embed for a in (model.architecture, to))
        if own != new:
            balance_heads(weights, at, within, (own / new) ** 0.5)
    return replace(model, weights=weights)


def restored(model: Model, like: Model) -> Model:
    """Undoes `canonical` for norms, layer scales and softmax scales, so that the model has the form of `like`'s architecture.

    `model` has the canonical form of that architecture. A norm or layer scale of `like` with a factor close to zero stays
    folded. The function is unchanged.
    """
    network = build(model.architecture, "meta")
    weights = dict(model.weights)
    for prefix, _, readers in _norms(network):
        _unfold(weights, prefix, readers, like)
    originals = build(like.architecture, "meta")
    for at in network.walk():
        unfold(weights, at, like)
        for name, factor in originals.at(at.name).operator.factors.items():
            weights[f"{at.prefix}.{name}"] = weights[f"{at.prefix}.{name}"] / factor
    return replace(model, architecture=like.architecture, weights=weights)


def foldable(network: Network, stage: int) -> bool:
    """Whether the stream of a stage may be rotated: its norms and joins fold, and only weights read its channels."""
    return (
        network.folds(stage)
        and turns(network, stage)
        and all(at.readers and (at.join is None or folds(at)) for at in network.walk(stage))
        and all(norm.foldable for _, norm in _norms_on(network, stage))
    )


def turns(network: Network, stage: int) -> bool:
    """Whether all parts that lie on the stream of a stage mix its channels linearly only (`PartModule.stream`)."""
    parts: list[PartModule] = [network.stem] if stage == 0 else [network.merge(stage)]
    parts += [network.merge(stage + 1)] if stage + 1 < len(network.stages) else []
    parts += [norm for _, norm in _norms_on(network, stage)]
    parts += [part for at in network.walk(stage) for part in (at.operator, at.join) if part is not None]
    return all(part.stream == "rotation" for part in parts)


def centred(network: Network, stage: int) -> bool:
    """Whether a norm takes the mean over the channels of this stream away: a rotation then has to keep the vector of ones."""
    return any(norm.centred for _, norm in _norms_on(network, stage))


def unit_gains(network: Network) -> set[str]:
    """The gains on streams that may be rotated freely, and joins that are folded.

    They are one in canonical form, and stay so whatever the rotation.
    """
    free = [i for i in range(len(network.stages)) if foldable(network, i) and not centred(network, i)]
    return folded_names(network) | {f"{prefix}.gain" for i in free for prefix, _ in _norms_on(network, i)}


def _norms(network: Network) -> Iterator[tuple[str, NormModule, Readers]]:
    """Every norm that can be folded: its prefix, and the weights that read it with their biases."""
    found = [(at.norm_prefix, at.norm, at.readers) for at in network.walk() if at.wiring.folds and at.readers]
    if network.norm is not None:
        found.append(("norm", network.norm, network.answer.readers))
    yield from (each for each in found if each[1].foldable)


def _norms_on(network: Network, stage: int) -> Iterator[tuple[str, NormModule]]:
    """The norms that read the stream of a stage, each with its prefix."""
    yield from ((at.norm_prefix, at.norm) for at in network.walk(stage))
    if network.norm is not None and stage == len(network.stages) - 1:
        yield "norm", network.norm


def _factors(network: Network) -> set[str]:
    """The parameters of norms and joins, which lie on a stream and add nothing to it."""
    return {
        f"{name}.{p}" for name, m in network.named_modules() if isinstance(m, NormModule | JoinModule) for p in m.axes
    }


def _fold(weights: dict[str, Tensor], prefix: str, norm: NormModule, readers: Readers) -> None:
    """b <- b + W shift, W <- W gain; gain one, shift zero. What a reader makes of the mean over channels is nothing.

    Where a reader has no bias the shift stays, divided by the gain, and what readers make of its mean with it.
    """
    gain, shift = weights[f"{prefix}.gain"], weights.get(f"{prefix}.shift")
    stays = shift is not None and None in readers.values()
    if stays:
        least = TINIEST_GAIN * gain.abs().max()
        if not least:
            return  # whatever is read is the shift alone
        gain = torch.where(gain.abs() < least, least.copysign(gain), gain)
    for name, bias in readers.items():
        weight = weights[name]
        if shift is not None and bias is not None and not stays:
            weights[bias] = weights[bias] + weight @ shift
        weight = weight * gain
        centred = norm.centred and not stays
        weights[name] = weight.sub_(weight.mean(dim=-1, keepdim=True)) if centred else weight
    weights[f"{prefix}.gain"] = torch.ones_like(gain)
    if shift is not None:
        weights[f"{prefix}.shift"] = shift / gain if stays else torch.zeros_like(shift)


def _unfold(weights: dict[str, Tensor], norm: str, readers: Readers, like: Model) -> None:
    """Gives a norm the gain and shift it has in `like`, if it is there."""
    if f"{norm}.gain" not in like.weights:
        return
    gain, shift = like.weights[f"{norm}.gain"], like.weights.get(f"{norm}.shift")
    if gain.abs().min() <= SMALLEST_GAIN * gain.abs().max():
        return
    stays = shift is not None and None in readers.values()
    for name, bias in readers.items():
        weights[name] = weights[name] / gain
        if shift is not None and bias is not None and not stays:
            weights[bias] = weights[bias] - weights[name] @ shift
    weights[f"{norm}.gain"] = gain.clone()
    if shift is not None:
        weights[f"{norm}.shift"] = weights[f"{norm}.shift"] * gain if stays else shift.clone()


def _standardise(weights: dict[str, Tensor], at: Sublayer) -> None:
    """Moves value biases, drops idle biases and absorbs fixed factors of one operator, as far as it declares them."""
    operator = at.operator
    changed: dict[str, Tensor] = {}

    def now(name: str) -> Tensor:
        return changed[name] if name in changed else weights[f"{at.prefix}.{name}"].double()

    for weight, bias in operator.writers.items() if operator.convex else ():
        averaged = tuple(axis and axis._replace(role="write") for axis in operator.axes[weight][1:])
        for own in operator.readers.values():
            if own is not None and bias is not None and operator.axes[own] == averaged:
                on = string.ascii_letters[: len(averaged)]
                changed[bias] = now(bias) + torch.einsum(f"Z{on},{on}->Z", now(weight), now(own))
                changed[own] = torch.zeros_like(now(own))
    changed |= {name: torch.zeros_like(now(name)) for name in operator.idle}
    changed |= {name: now(name) * factor for name, factor in operator.factors.items()}
    put(weights, at.prefix, changed)


def _centre(weights: dict[str, Tensor], axes: dict[str, Axes], axis: str, norms: set[str]) -> None:
    """Removes the mean over channels from all writers of a stream; its norms subtract that mean anyway."""
    for name, dimensions in axes.items():
        for dim, on in enumerate(dimensions):
            if on is not None and on.name == axis and on.role == "write" and name not in norms:
                weights[name] = weights[name] - weights[name].mean(dim=dim, keepdim=True)


def with_unit_scales(architecture: Architecture) -> Architecture:
    """`architecture` with all factors set to one, because the weights have absorbed them (softmax scales)."""

    def unit(_: str, part: P) -> P:
        return part.unit()

    return architecture.with_parts(unit)

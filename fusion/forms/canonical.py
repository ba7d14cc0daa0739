"""One form for all networks that differ only by what does not change their function, and the way back from it.

Exact for pre-norm networks: gains and shifts of norms are folded into what reads them, biases of softmax keys are dropped
and those of values moved behind the attention, softmax scales become one, a residual stream that only norms read has mean
zero, and each head's query and key (value and output) matrices are balanced: what is left of their freedom is a rotation.

Source: operations 0 of fusion by symmetries as in Theus et al., "Generalized Linear Mode Connectivity for Transformers",
2025, https://arxiv.org/abs/2506.22712.
Differs: the result is an ordinary network with LayerNorm, whose gains are one. Operators say themselves what they bear
(`wb.models.operators._base`). A norm in front of an operator without parameters keeps its gain.
Limits: in a post-norm network gains and shifts lie in the stream, so that neither folding nor centring is possible; heads
are balanced and biases moved all the same. A stream that a merge reads is not centred.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.records import Part
from wb.models.axes import Axes
from wb.models.model import Model
from wb.models.network import Network, Norm, axes_of, build
from wb.models.operators._attention import AttentionModule
from wb.models.operators._base import OperatorModule

P = TypeVar("P", bound=Part)
SMALLEST_GAIN = 1e-3  # of the largest of its norm: what is divided by less would blow up rounding


@dataclass(frozen=True)
class Sublayer:
    """A mixer or feed-forward, its norm, and the prefixes of their parameters."""

    place: str  # s0.b3
    kind: str  # mixer or ffn
    module: OperatorModule
    prefix: str  # stages.0.3.mixer
    norm: str  # stages.0.3.norm1

    @property
    def name(self) -> str:
        """`s0.b3.mixer`."""
        return f"{self.place}.{self.kind}"

    @property
    def stage(self) -> int:
        """Its stage's number."""
        return int(self.place.split(".")[0][1:])

    @property
    def block(self) -> int:
        """The number of its block in the stage."""
        return int(self.place.split(".b")[1])

    @property
    def readers(self) -> dict[str, str]:
        """Full names of the weights that read the stream -> their biases."""
        return {f"{self.prefix}.{weight}": f"{self.prefix}.{bias}" for weight, bias in self.module.readers.items()}

    @property
    def writers(self) -> dict[str, str]:
        """Full names of the weights that write to the stream -> their biases."""
        return {f"{self.prefix}.{weight}": f"{self.prefix}.{bias}" for weight, bias in self.module.writers.items()}


def sublayers(network: Network) -> Iterator[Sublayer]:
    """All that add to the stream, in order of execution."""
    for i, blocks in enumerate(network.stages):
        for j, block in enumerate(blocks):  # type: ignore[arg-type,var-annotated]
            for kind, norm in (("mixer", "norm1"), ("ffn", "norm2")):
                module = getattr(block, kind)
                if module is not None:
                    prefix = f"stages.{i}.{j}"
                    yield Sublayer(f"s{i}.b{j}", kind, module, f"{prefix}.{kind}", f"{prefix}.{norm}")


def canonical(model: Model, *, balance: bool = True, release: bool = False) -> Model:
    """The canonical form of `model`: another model with the same function. Weights keep their type.

    Without `balance` the channels of heads stay what they are, so that permuted copies stay permuted copies. With `release`
    `model`, whose weights have to be a dictionary of its own, loses each as soon as it is changed: nobody can use it then.

    Limits: heads whose singular values coincide keep some freedom beyond a rotation of the whole head.
    """
    network = build(model.architecture, "meta")
    weights = model.weights if release and isinstance(model.weights, dict) else dict(model.weights)
    attentions = [(s, s.module) for s in sublayers(network) if isinstance(s.module, AttentionModule)]
    if model.architecture.norm == "pre":
        for norm, readers in _norms(network):
            _fold(weights, norm, readers)
    for sublayer, module in attentions:
        _standardise(weights, sublayer.prefix, module)
    if model.architecture.norm == "pre":
        _centre(weights, axes_of(network), f"s{len(network.stages) - 1}.embed", _norm_parameters(network))
    for sublayer, module in attentions if balance else ():
        _balance(weights, sublayer.prefix, module)
    return replace(model, architecture=with_unit_scales(model.architecture), weights=weights)


def rebalanced(model: Model, to: Architecture) -> Model:
    """`model`, in canonical form, with its heads balanced as they will be in streams of the widths of `to`.

    In a wider stream of the same size, what reads is smaller and what writes is larger.
    """
    weights = dict(model.weights)
    for sublayer in sublayers(build(model.architecture, "meta")):
        own, new = (a.stages[sublayer.stage].embed for a in (model.architecture, to))
        if isinstance(sublayer.module, AttentionModule) and own != new:
            _balance(weights, sublayer.prefix, sublayer.module, (own / new) ** 0.5)
    return replace(model, weights=weights)


def restored(model: Model, like: Model) -> Model:
    """Undoes what can be undone of `canonical`: norms and softmax scales of a model in the form of `like`'s architecture.

    `model` has its canonical architecture. A norm of `like` with a gain next to zero stays folded. The function stays.
    """
    network = build(model.architecture, "meta")
    weights = dict(model.weights)
    if model.architecture.norm == "pre":
        for norm, readers in _norms(network):
            _unfold(weights, norm, readers, like)
    originals = dict(
        zip((s.name for s in sublayers(network)), sublayers(build(like.architecture, "meta")), strict=True)
    )
    for sublayer in sublayers(network):
        record = originals[sublayer.name].module.describe()
        if record.factor != 1:
            for letter, factor in zip("qk", _factors(record), strict=True):
                for name in (f"{sublayer.prefix}.w{letter}", f"{sublayer.prefix}.b{letter}"):
                    weights[name] = weights[name] / factor
    return replace(model, architecture=like.architecture, weights=weights)


def foldable(network: Network, stage: int) -> bool:
    """Whether nothing on the stream of this stage but weights knows its channels, so that it may be rotated."""
    return network.form == "pre" and all(
        sublayer.module.readers for sublayer in sublayers(network) if sublayer.stage == stage
    )


def _norms(network: Network) -> Iterator[tuple[str, dict[str, str]]]:
    """Every norm that can be folded: its prefix, and the weights that read it with their biases."""
    for sublayer in sublayers(network):
        if sublayer.readers:
            yield sublayer.norm, sublayer.readers
    yield "norm", {"head": "head_bias"}


def _norm_parameters(network: Network) -> set[str]:
    return {f"{name}.{p}" for name, m in network.named_modules() if isinstance(m, Norm) for p in ("gain", "shift")}


def _fold(weights: dict[str, Tensor], norm: str, readers: dict[str, str]) -> None:
    """b <- b + W shift, W <- W gain; gain one, shift zero. What a reader makes of the mean over channels is nothing."""
    gain, shift = (weights[f"{norm}.{name}"] for name in ("gain", "shift"))
    for name, bias in readers.items():
        weight = weights[name]
        weights[bias] = weights[bias] + weight @ shift
        weight = weight * gain
        weights[name] = weight.sub_(weight.mean(dim=-1, keepdim=True))
    weights[f"{norm}.gain"], weights[f"{norm}.shift"] = torch.ones_like(gain), torch.zeros_like(shift)


def _unfold(weights: dict[str, Tensor], norm: str, readers: dict[str, str], like: Model) -> None:
    """Gives a norm the gain and shift it has in `like`, if it is there."""
    if f"{norm}.gain" not in like.weights:
        return
    gain, shift = (like.weights[f"{norm}.{name}"] for name in ("gain", "shift"))
    if gain.abs().min() <= SMALLEST_GAIN * gain.abs().max():
        return
    for name, bias in readers.items():
        weights[name] = weights[name] / gain
        weights[bias] = weights[bias] - weights[name] @ shift
    weights[f"{norm}.gain"], weights[f"{norm}.shift"] = gain.clone(), shift.clone()


def _standardise(weights: dict[str, Tensor], prefix: str, module: AttentionModule) -> None:
    """Biases and scale of one attention, as far as it bears that."""
    w = _projections(weights, prefix, module)
    record = module.describe()
    if module.convex:
        w["bo"] = w["bo"] + torch.einsum("dhv,hv->d", w["wo"], w["bv"])
        w |= {name: torch.zeros_like(w[name]) for name in ("bv", "bk") if name in w}
    if record.factor != 1:
        for letter, factor in zip("qk", _factors(record), strict=True):
            w |= {name: w[name] * factor for name in (f"w{letter}", f"b{letter}")}
    _put(weights, prefix, w)


def _balance(weights: dict[str, Tensor], prefix: str, module: AttentionModule, ratio: float = 1.0) -> None:
    """Heads whose two factors have equal Gram matrices, the strongest channel first, once the stream is `1/ratio` as large."""
    w = _projections(weights, prefix, module)
    w |= {name: w[name] * ratio for name in module.readers} | {"wo": w["wo"] / ratio}
    if module.symmetries["qk"] == "rotation" and "wk" in w:
        (w["wq"], w["bq"]), (w["wk"], w["bk"]) = map(_split, _balanced(_joint(w, "q"), _joint(w, "k")))
    if module.symmetries["v"] == "rotation":
        values, out = _balanced(_joint(w, "v"), w["wo"].permute(1, 2, 0))
        (w["wv"], w["bv"]), w["wo"] = _split(values), out.permute(2, 0, 1)
    w |= {name: w[name] / ratio for name in module.readers} | {"wo": w["wo"] * ratio}
    _put(weights, prefix, w)


def _projections(weights: dict[str, Tensor], prefix: str, module: AttentionModule) -> dict[str, Tensor]:
    """What reads the stream and what writes to it, with biases, by local names. Queries may have the keys' projection."""
    pairs = (*module.readers.items(), *module.writers.items())
    return {name: weights[f"{prefix}.{name}"].double() for pair in pairs for name in pair}


def _factors(record: Part) -> tuple[float, float]:
    """What queries and keys have to be multiplied by, so that the record's factor is one."""
    root = abs(record.factor) ** 0.5
    return math.copysign(root, record.factor), root


def _put(weights: dict[str, Tensor], prefix: str, changed: dict[str, Tensor]) -> None:
    for name, weight in changed.items():
        weights[f"{prefix}.{name}"] = weight.to(weights[f"{prefix}.{name}"]).contiguous()


def _joint(w: dict[str, Tensor], letter: str) -> Tensor:
    """Weight and bias of a projection as one matrix per head: (H, K, D + 1)."""
    return torch.cat([w[f"w{letter}"], w[f"b{letter}"][..., None]], dim=2)


def _split(joint: Tensor) -> tuple[Tensor, Tensor]:
    return joint[..., :-1], joint[..., -1]


def _balanced(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """A, B (H, K, ·) with the same product AᵀB and equal Gram matrices, strongest channel first."""
    qa, ra = torch.linalg.qr(a.transpose(1, 2))  # (H, ·, r), (H, r, K)
    qb, rb = torch.linalg.qr(b.transpose(1, 2))
    u, s, v = torch.linalg.svd(ra @ rb.transpose(1, 2), full_matrices=False)
    root = s.sqrt()[..., None]
    new = root * (qa @ u).transpose(1, 2), root * (v @ qb.transpose(1, 2))
    return _padded(new[0], a.shape[1]), _padded(new[1], a.shape[1])


def _padded(tensor: Tensor, channels: int) -> Tensor:
    """(H, r, ·) -> (H, channels, ·): a product of lower rank than its channels leaves some at zero."""
    return torch.nn.functional.pad(tensor, (0, 0, 0, channels - tensor.shape[1]))


def _centre(weights: dict[str, Tensor], axes: dict[str, Axes], axis: str, norms: set[str]) -> None:
    """Takes the mean over channels from everything that is written to a stream; norms do not notice."""
    for name, dimensions in axes.items():
        for dim, on in enumerate(dimensions):
            if on is not None and on.name == axis and on.role == "write" and name not in norms:
                weights[name] = weights[name] - weights[name].mean(dim=dim, keepdim=True)


def with_unit_scales(architecture: Architecture) -> Architecture:
    """`architecture` with a factor of one everywhere: softmax scales, which the weights have taken over."""

    def unit(_: str, part: P) -> P:
        return part.unit()

    return architecture.with_parts(unit)

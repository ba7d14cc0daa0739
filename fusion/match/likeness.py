"""Similarity of the blocks of two networks: by their weights, and by what they add to the residual stream (linear CKA).

The streams themselves say little: after late blocks they are nearly equal, whatever the blocks do. The addition of a block is
specific to it, and so are its weights if one network was made from the other.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019, https://arxiv.org/abs/1905.00414,
eq. 3 (linear CKA), applied to the additions of sub-layers. Similarity of weights is ours: the cosine of the Gram matrices of
two weights over the channels of the stream. Permuting or rotating heads, channels of heads and hidden units does not change a
Gram matrix. Its trace is removed, so that the cosine of unrelated weights is near zero.
Differs: CKA is computed on a sample of tokens instead of one vector per image.
Limits: weights distinguish copies (also fine-tuned and narrower ones) from all other networks, but say nothing about unrelated
networks. They are compared channel by channel, so a copy with a rotated stream is not recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from wb.fusion.align.solvers import Matrix
from wb.fusion.match.depth import alike, check_images
from wb.models.axes import Axes
from wb.models.layers.planes import as_tokens
from wb.models.model import Model
from wb.models.named import axes_of
from wb.models.network import Network, build
from wb.models.similarity import cka
from wb.models.walk import Sublayer
from wb.training.refit.trace import network_of, whole

ROWS = 2048  # tokens for CKA, at most
_FLAT = 1e-12  # a relative variation below this is rounding
_SEED = 0

Index = dict[str, tuple[Tensor, Tensor]]  # stream -> indices of matching channels in the source and in the reference
Table = list[Matrix]  # one matrix per stage, (blocks of the source, blocks of the reference)


@dataclass(frozen=True)
class Weights:
    """Similarity of the weights of two models, as cosines: 1 for copies, near 0 for other blocks and unrelated models.

    `ends` is the cosine of the trained weights outside of blocks (stem, positions, head), a mean over channels. For every two
    blocks of a stage, `values` sums the cosines of the sub-layers that both have of one kind, and `counts` is their number.
    """

    ends: float
    values: Table
    counts: Table


def by_weights(source: Model, reference: Model) -> Weights:
    """Similarity of the weights of two models in canonical form, independent of the order of their channels and units."""
    ends, index = _channels(source, reference)
    own, other = (
        _grams(model, {axis: pair[i] for axis, pair in index.items()}) for i, model in enumerate((source, reference))
    )

    def compared(mine: Sublayer, theirs: Sublayer) -> float | None:
        pairs = list(zip(own[mine.name], other[theirs.name], strict=True))
        return float(np.mean([float((a * b).sum()) for a, b in pairs])) if pairs else None

    return Weights(ends, *_tables(source, reference, compared))


def by_additions(source: Model, reference: Model, images: Tensor) -> Table:
    """Similarity of additions: for every two blocks of a stage, the summed linear CKA of their sub-layers of one kind.

    Computed on at most 2048 tokens of `images` (n, channels, height, width), float32 in [0, 1].

    Raises:
        BadOption: the images do not have the shape that the models read.
    """
    own, other = (_additions(model, images) for model in (source, reference))
    return _tables(source, reference, lambda mine, theirs: cka(own[mine.name], other[theirs.name]))[0]


def _tables(
    source: Model, reference: Model, compared: Callable[[Sublayer, Sublayer], float | None]
) -> tuple[Table, Table]:
    """Sums of `compared` over the sub-layers of one kind of every two blocks, and the number of its values."""
    shapes = [
        (len(a.blocks), len(b.blocks))
        for a, b in zip(source.architecture.stages, reference.architecture.stages, strict=True)
    ]
    values, counts = ([np.zeros(shape) for shape in shapes] for _ in range(2))
    own, other = (list(build(model.architecture, "meta").walk()) for model in (source, reference))
    for mine in own:
        for theirs in other:
            one, two = (sublayer.operator.describe().structure() for sublayer in (mine, theirs))
            if mine.stage != theirs.stage or not alike(one, two):
                continue
            value = compared(mine, theirs)
            if value is not None:
                values[mine.stage][mine.block, theirs.block] += value
                counts[mine.stage][mine.block, theirs.block] += 1
    return values, counts


# ------------------------------------------------------------------------------------------------------------ weights


def _channels(source: Model, reference: Model) -> tuple[float, Index]:
    """Matches the channels of the streams by the weights outside of blocks and norms; returns the mean cosine and the match.

    Constants are left out: they are equal in networks that have nothing else in common.
    """
    networks = [build(model.architecture, "meta") for model in (source, reference)]
    own, other = map(axes_of, networks)
    ends = networks[1]
    skipped = {*ends.positions.constants, *ends.answer.constants, *ends.statistics()}
    found: Index = {}
    cosines: list[Matrix] = []
    for i in range(len(reference.architecture.stages)):
        axis = f"s{i}.embed"
        parts: list[tuple[Tensor, Tensor]] = []
        for name, dimensions in other.items():
            unknown = {on for on in _names(dimensions) if on.endswith(".embed")} - {axis, *found}
            within = name.startswith(("stages.", "first.", "norm."))
            if axis not in _names(dimensions) or unknown or within or name in skipped:
                continue
            x = _columns(source.weights[name], own[name], axis, {a: pair[0] for a, pair in found.items()})
            y = _columns(reference.weights[name], dimensions, axis, {a: pair[1] for a, pair in found.items()})
            if x.shape[1] == y.shape[1]:  # otherwise another axis of the weight differs in size
                parts.append((x / x.norm().clamp(min=_FLAT), y / y.norm().clamp(min=_FLAT)))
        own_columns, other_columns = (F.normalize(torch.cat(side, dim=1), dim=1) for side in zip(*parts, strict=True))
        cosine = (own_columns @ other_columns.T).numpy()
        rows, columns = linear_sum_assignment(-cosine)
        found[axis] = torch.from_numpy(rows), torch.from_numpy(columns)
        cosines.append(cosine[rows, columns])
    return float(np.concatenate(cosines).mean()), found


def _grams(model: Model, index: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Sub-layer -> normalised Gram matrix W Wᵀ of each weight on the stream, without trace, (channels, channels)."""
    axes = axes_of(build(model.architecture, "meta"))
    found: dict[str, list[Tensor]] = {}
    for sublayer in build(model.architecture, "meta").walk():
        axis, found[sublayer.name] = f"s{sublayer.stage}.embed", []
        for name in (*sublayer.readers, *sublayer.writers):
            columns = _columns(model.weights[name], axes[name], axis, {})[index[axis]]
            gram = columns @ columns.T
            gram.diagonal().sub_(gram.diagonal().mean())
            found[sublayer.name].append(gram / gram.norm().clamp(min=_FLAT))
    return found


def _columns(weight: Tensor, dimensions: Axes, axis: str, index: dict[str, Tensor]) -> Tensor:
    """`weight` as a matrix (channels of `axis`, all other dimensions), with channels of other streams selected by `index`."""
    names = _names(dimensions)
    for dim, name in enumerate(names):
        if name in index and name != axis:
            weight = weight.index_select(dim, index[name])
    dim = names.index(axis)
    return weight.float().movedim(dim, 0).reshape(weight.shape[dim], -1)


def _names(dimensions: Axes) -> list[str]:
    return ["" if on is None else on.name for on in dimensions]


# ---------------------------------------------------------------------------------------------------------- additions


def _additions(model: Model, images: Tensor) -> dict[str, Tensor]:
    """Sub-layer -> its additions to the stream on a sample of tokens, (rows, channels); the same tokens for every network."""
    check_images(model.architecture.input, images)
    network = network_of(model)
    parts: dict[str, list[Tensor]] = {}
    before: dict[str, int] = {}  # tokens in the batches so far
    every = (
        0
        if images.is_floating_point()
        else sum(part.shape[1] + network.architecture.prefix for part in whole(images, network))
    )
    with torch.inference_mode():
        for batch in whole(images, network):
            for sublayer, addition in _walk(network, batch):
                size, tokens = addition.shape[:2]
                rows, start = _rows(every or len(images) * tokens), before.get(sublayer.name, 0)
                here = rows[(rows >= start) & (rows < start + size * tokens)] - start
                parts.setdefault(sublayer.name, []).append(addition.flatten(0, 1)[here])
                before[sublayer.name] = start + size * tokens
    return {name: torch.cat(found) for name, found in parts.items()}


def _walk(network: Network, images: Tensor) -> Iterator[tuple[Sublayer, Tensor]]:
    """Yields every sub-layer with its addition to the stream, (B, N, D)."""
    state = network.begin(images)
    for sublayer in network.walk():
        state = network.enter(state, sublayer.stage)
        addition = sublayer.contribution(state)
        yield sublayer, as_tokens(addition)
        state = sublayer.add(state, addition)


def _rows(total: int) -> Tensor:
    """Indices of at most 2048 of `total` tokens, drawn at random: even steps would hit the same places in all images."""
    if total <= ROWS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(_SEED))[:ROWS].sort().values

"""How much alike the blocks of two networks are: by their weights, and by what they add to the stream.

Streams themselves say little: behind late blocks they are nearly equal, whatever the blocks do. What a block adds is its
own, and so are its weights where one network was made of the other.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019, https://arxiv.org/abs/1905.00414,
eq. 3 (linear CKA), for additions, sub-layer by sub-layer. Ours for weights: the cosine of their Gram matrices over the
channels of the stream, which no order and no rotation of heads, channels of heads and hidden units changes, without the
trace, so that nothing is left of strangers'.
Differs: CKA is taken on a sample of tokens instead of one vector for each image.
Limits: weights tell copies, also fine-tuned and narrower ones, from anything else, and nothing of strangers. They are compared
channel by channel: of a copy whose stream was rotated they say nothing.
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
from wb.fusion.align.trace import cut, network_of
from wb.fusion.match.depth import alike, check_images
from wb.models.axes import Axes
from wb.models.model import Model
from wb.models.network import Network, axes_of, build
from wb.models.walk import Sublayer

ROWS = 2048  # tokens that CKA looks at
_FLAT = 1e-12  # what varies by less, of its size, is constant but for rounding
_SEED = 0

Index = dict[str, tuple[Tensor, Tensor]]  # by stream, which channel of the source goes with which of the reference
Table = list[Matrix]  # by stage, (blocks of the source, blocks of the reference)


@dataclass(frozen=True)
class Weights:
    """How alike the weights of two models are, each from -1 to 1: copies have 1, neighbours and strangers next to 0.

    `ends` is the mean over the channels of what is outside of blocks; `values` are sums, for every two blocks of a stage, over
    the sub-layers with weights that both have of one kind, and `counts` how many these are.
    """

    ends: float
    values: Table
    counts: Table


def by_weights(source: Model, reference: Model) -> Weights:
    """How alike the weights of two models in canonical form are, whatever the order of their channels and units."""
    ends, index = _channels(source, reference)
    own, other = (
        _grams(model, {axis: pair[i] for axis, pair in index.items()}) for i, model in enumerate((source, reference))
    )

    def compared(mine: Sublayer, theirs: Sublayer) -> float | None:
        pairs = list(zip(own[mine.name], other[theirs.name], strict=True))
        return float(np.mean([float((a * b).sum()) for a, b in pairs])) if pairs else None

    return Weights(ends, *_tables(source, reference, compared))


def by_additions(source: Model, reference: Model, images: Tensor) -> Table:
    """For every two blocks of a stage the sum of linear CKA of what their sub-layers of one kind add to the stream.

    On at most 2048 tokens of `images` (n, channels, height, width), float32 in [0, 1].

    Raises:
        BadOption: `images` are not what the models read.
    """
    own, other = (_additions(model, images) for model in (source, reference))
    return _tables(source, reference, lambda mine, theirs: cka(own[mine.name], other[theirs.name]))[0]


def cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA of x (rows, D) and y (rows, E), centred: 1 where one is a rotated, scaled and shifted copy of the other.

    Where one of them is constant over the rows it is 0. Of the two equal forms, that with the smaller Gram matrices.
    """
    x, y = _centred(x), _centred(y)
    if len(x) < max(x.shape[1], y.shape[1]):
        k, g = x @ x.T, y @ y.T  # (rows, rows)
        shared, own, other = (k * g).sum(), k.norm(), g.norm()
    else:
        shared, own, other = (y.T @ x).square().sum(), (x.T @ x).norm(), (y.T @ y).norm()
    size = float(own * other)
    return float(shared) / size if size > 0 else 0.0


def _centred(x: Tensor) -> Tensor:
    x = x.double()
    centred = x - x.mean(dim=0)
    return centred if centred.norm() > _FLAT * x.norm() else torch.zeros_like(x)


def _tables(
    source: Model, reference: Model, compared: Callable[[Sublayer, Sublayer], float | None]
) -> tuple[Table, Table]:
    """Sums of `compared` over the sub-layers that two blocks have of one kind, and how many had a value."""
    shapes = [
        (len(a.blocks), len(b.blocks))
        for a, b in zip(source.architecture.stages, reference.architecture.stages, strict=True)
    ]
    values, counts = ([np.zeros(shape) for shape in shapes] for _ in range(2))
    own, other = (list(build(model.architecture, "meta").walk()) for model in (source, reference))
    for mine in own:
        for theirs in other:
            if mine.stage != theirs.stage or not alike(mine.operator.describe(), theirs.operator.describe(), "scale"):
                continue
            value = compared(mine, theirs)
            if value is not None:
                values[mine.stage][mine.block, theirs.block] += value
                counts[mine.stage][mine.block, theirs.block] += 1
    return values, counts


# ------------------------------------------------------------------------------------------------------------ weights


def _channels(source: Model, reference: Model) -> tuple[float, Index]:
    """Which channels of the streams go together, by what is on them outside of blocks and norms, and their mean cosine."""
    own, other = (axes_of(build(model.architecture, "meta")) for model in (source, reference))
    found: Index = {}
    cosines: list[Matrix] = []
    for i in range(len(reference.architecture.stages)):
        axis = f"s{i}.embed"
        parts: list[tuple[Tensor, Tensor]] = []
        for name, dimensions in other.items():
            unknown = {on for on in _names(dimensions) if on.endswith(".embed")} - {axis, *found}
            if axis not in _names(dimensions) or unknown or name.startswith(("stages.", "norm.")):
                continue
            x = _columns(source.weights[name], own[name], axis, {a: pair[0] for a, pair in found.items()})
            y = _columns(reference.weights[name], dimensions, axis, {a: pair[1] for a, pair in found.items()})
            if x.shape[1] == y.shape[1]:  # else another axis has another size
                parts.append((x / x.norm().clamp(min=_FLAT), y / y.norm().clamp(min=_FLAT)))
        own_columns, other_columns = (F.normalize(torch.cat(side, dim=1), dim=1) for side in zip(*parts, strict=True))
        cosine = (own_columns @ other_columns.T).numpy()
        rows, columns = linear_sum_assignment(-cosine)
        found[axis] = torch.from_numpy(rows), torch.from_numpy(columns)
        cosines.append(cosine[rows, columns])
    return float(np.concatenate(cosines).mean()), found


def _grams(model: Model, index: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """Of each sub-layer, for each weight on the stream, W Wᵀ over the channels, without its trace, of norm 1."""
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
    """(channels of `axis`, everything else), of other streams only the channels in `index`."""
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
    """By sub-layer a sample of what it adds to the stream, (rows, channels), the same tokens for every network."""
    check_images(model.architecture.input, images)
    network = network_of(model)
    parts: dict[str, list[Tensor]] = {}
    start = 0
    with torch.inference_mode():
        for batch in cut(images.to(network.position)):
            for sublayer, addition in _walk(network, batch):
                size, tokens = addition.shape[:2]
                rows = _rows(len(images) * tokens)
                here = rows[(rows >= start * tokens) & (rows < (start + size) * tokens)] - start * tokens
                parts.setdefault(sublayer.name, []).append(addition.flatten(0, 1)[here])
            start += len(batch)
    return {name: torch.cat(found) for name, found in parts.items()}


def _walk(network: Network, images: Tensor) -> Iterator[tuple[Sublayer, Tensor]]:
    """Every sub-layer with what it adds (B, N, D)."""
    state = network.begin(images)
    for sublayer in network.walk():
        state = network.enter(state, sublayer.stage)
        addition = sublayer.contribution(state)
        yield sublayer, addition
        state = sublayer.add(state, addition)


def _rows(total: int) -> Tensor:
    """At most 2048 of so many, drawn at random: even steps would see the same places of all images."""
    if total <= ROWS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(_SEED))[:ROWS].sort().values

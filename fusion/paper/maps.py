"""Parts of the published optimal-transport fusion: the compared activations, and the mixing of maps at residual sums.

Source, Differs and Limits: `wb.fusion.paper.paper`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.fusion.align.similarity import Statistics
from wb.fusion.align.solvers import Matrix, couple
from wb.models.axes import Couple, Select
from wb.models.model import Model
from wb.models.walk import State, Sublayer
from wb.training.refit.trace import cut, network_of

Residual = Literal["mean", "none", "only", "identity", "scalar", "matrix"]
Tokens = Literal["all", "cls", "window_2", "window_4", "window_6", "window_8"]
Sizes = Mapping[str, tuple[Tensor, Tensor]]  # sub-layer -> mean sizes of the residual and of the branch, (D,) each
EMBEDDING = "embedding"  # the sum of positions (as the residual) and patches (as the branch)
_EPS = 1e-9  # added to the norms of rows
_FLAT = 1e-12  # smaller variances count as zero


def compared_tokens(architecture: Architecture, tokens: Tokens, *, last: bool = False) -> Tensor:
    """The indices of the compared tokens, int64. A window includes the class token, if there is one.

    With a filter, the output of the `last` block is compared on the class token only, because nothing else is read from it.

    Raises:
        BadOption: the filter needs a class token and there is none, or the window is larger than the grid.
    """
    layout = architecture.layout
    prefix, every = layout.prefix, torch.arange(layout.tokens)
    if tokens == "all":
        return every
    if len(layout.shape) < 2:
        raise BadOption(f"tokens {tokens!r} is of images; of texts all tokens are compared: take 'all'")
    rows, columns = layout.shape
    if tokens == "cls" and not prefix:
        raise BadOption("tokens 'cls': these networks pool by the mean and have no class token; take 'all' or a window")
    if tokens == "cls" or (last and architecture.head.pool == "first"):
        return every[:1]
    size = int(tokens.removeprefix("window_"))
    if size > min(rows, columns):
        raise BadOption(f"tokens {tokens!r} does not fit into {rows}x{columns} tokens; take 'all' or a smaller window")
    top, left = (rows - size) // 2, (columns - size) // 2
    window = every[prefix:].reshape(rows, columns)[top : top + size, left : left + size]
    return torch.cat([every[:prefix], window.flatten()])


def trace(model: Model, images: Tensor, tokens: Tokens) -> Iterator[dict[str, Tensor]]:
    """Yields activations of `model` on `images`, for each batch and each sub-layer: name of the plan -> (tokens, units).

    Two further entries are `s0.b0.in`, the stream before a block, and `s0.b0.attention`, the addition of its mixer on the
    tokens compared in earlier blocks. Patches come before the class token exists, so all of them are compared; what texts look
    up stands in their place. Texts are run one by one, without padding.
    """
    network = network_of(model)
    dtype = next(network.parameters()).dtype
    parts = list(network.walk())
    every = compared_tokens(model.architecture, tokens)
    last = compared_tokens(model.architecture, tokens, last=True)
    texts, prefix = model.architecture.input.usual_tokens is not None, model.architecture.prefix
    for batch in (text[None, text >= 0] for text in images) if texts else cut(images.to(dtype)):
        with torch.inference_mode():
            patches = network.stem(network.normalised(batch))
            patches = patches if texts else patches.flatten(2).transpose(1, 2)
            state = network.begin(batch)
        if texts:
            every = last = torch.arange(prefix + batch.shape[1])
        yield {"patch": patches.flatten(0, 1)}
        block = ""
        for sublayer in parts:
            place = sublayer.place
            found = {} if place == block else {f"{place}.in": state.stream[:, every]}
            with torch.inference_mode():
                state, new = _observed(sublayer, state, every, last if place == parts[-1].place else every)
            yield {name: values.flatten(0, 1) for name, values in {**found, **new}.items()}
            block = place


def compared(source: Model, reference: Model, images: Tensor, tokens: Tokens, *, joint: bool = False) -> Statistics:
    """Statistics of the units of both models on `images`, by name of the plan; with `joint`, `s0.b0.qk` has queries and keys."""
    statistics = Statistics()
    for own, other in zip(trace(source, images, tokens), trace(reference, images, tokens), strict=True):
        for name in own:
            if name.endswith((".in", ".attention")):
                continue
            statistics.add(name, own[name].double(), other[name].double())
            if joint and name.endswith(".q"):
                both = (name, f"{name[:-1]}k")
                a, b = (torch.cat([side[one] for one in both], dim=1).double() for side in (own, other))
                statistics.add(f"{name}k", a, b)
    return statistics


def sizes(reference: Model, images: Tensor, tokens: Tokens) -> dict[str, tuple[Tensor, Tensor]]:
    """Sub-layer -> mean absolute values of its residual and its branch, both standardised, (D,) each.

    The residual of a feed-forward is the sum of the stream before its block and the addition of the mixer, each standardised.
    """
    means, scales = _moments(reference, images, tokens)
    totals: dict[str, list[Tensor]] = {}
    rows: dict[str, list[int]] = {}
    z: dict[str, Tensor] = {}
    for found in trace(reference, images, tokens):
        new = {name: (values - means[name]) * scales[name] for name, values in found.items() if name in means}
        z = new if any(name.endswith(".in") for name in new) else z | new  # activations of one block
        for name, pair in _pairs(new, z):
            part = [values.abs().sum(dim=0) for values in pair]
            totals[name] = [a + b for a, b in zip(totals[name], part, strict=True)] if name in totals else part
            rows[name] = [a + len(b) for a, b in zip(rows.get(name, (0, 0)), pair, strict=True)]
    by_name = {name: (r / rows[name][0], b / rows[name][1]) for name, (r, b) in totals.items()}
    position = reference.weights["position"].double().abs().mean(dim=0)  # not standardised
    return {**by_name, EMBEDDING: (position, by_name[EMBEDDING][1])}


def correlated(statistics: Statistics, name: str) -> Matrix:
    """Distances (source, reference) of standardised activations, up to a common factor."""
    correlation, own, other = statistics.similarity(name, standard=True)
    squares = own[:, None] + other[None, :] - 2 * correlation.numpy()
    return np.asarray(np.sqrt(squares.clip(min=0)))


def distances(own: Tensor, other: Tensor, *, unit: bool = False) -> Matrix:
    """Euclidean distances of rows, (source, n) and (reference, n) -> (source, reference), float64; `unit` normalises them."""
    if unit:
        own, other = (rows / (torch.linalg.vector_norm(rows, dim=1, keepdim=True) + _EPS) for rows in (own, other))
    exact = own.shape[1] == 1  # computed from products, distances of equal numbers would not be exactly zero
    mode = "donot_use_mm_for_euclid_dist" if exact else "use_mm_for_euclid_dist_if_necessary"
    return np.asarray(torch.cdist(own, other, compute_mode=mode))


def coupled(plan: Matrix) -> Couple:
    """The map of a plan (source, reference), with both matrices.

    `write` sums to one for each entry of the reference, `read` for each entry of the source.
    """
    map_ = couple(plan)
    if isinstance(map_, Select):
        matrix = torch.eye(len(plan), dtype=torch.float64)[map_.index]
        return Couple(matrix, matrix)
    if not isinstance(map_, Couple):
        raise TypeError(f"a plan gave a {type(map_).__name__}")
    return map_


def mixed(policy: Residual, residual: Couple, branch: Couple, found: tuple[Tensor, Tensor] | None) -> Couple:
    """The map of a residual sum, from the maps of the residual and of the branch.

    `none` ignores the residual's map, `only` takes it alone, `identity` keeps all units in order. `mean` averages both maps;
    `scalar` and `matrix` weight them by the mean sizes `found` (residual, branch), as one share or one per channel.
    """
    match policy:
        case "none":
            return branch
        case "only":
            return residual
        case "identity":
            return _in_order(*reversed(residual.write.shape))
    share: Tensor = torch.tensor(0.5, dtype=torch.float64)
    if policy != "mean" and found is not None:
        own, other = (size[:, None] if policy == "matrix" else size.mean() for size in found)
        share = torch.where(own + other > 0, own / (own + other), share)
    write, read = (
        share * r + (1 - share) * b for r, b in ((residual.write, branch.write), (residual.read, branch.read))
    )
    return Couple(write, read)


def _observed(sublayer: Sublayer, state: State, every: Tensor, rows: Tensor) -> tuple[State, dict[str, Tensor]]:
    """The state after a sub-layer, and its activations by name of the plan, (B, tokens, units)."""
    place = sublayer.place
    values = sublayer.operator.reader_outputs(sublayer.read(state))
    given = sublayer.contribution(state)
    if sublayer.kind == "mixer":
        found = {f"{place}.{letter}": values[f"w{letter}"][:, every] for letter in "qkv"}
        found |= {f"{place}.o": given[:, rows], f"{place}.attention": given[:, every]}
    else:
        found = {f"{place}.mlp": values["up"][:, rows], f"{place}.down": given[:, rows]}
    return sublayer.add(state, given), found


def _moments(model: Model, images: Tensor, tokens: Tokens) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Name -> mean, and name -> reciprocal standard deviation (0 for constant units), for all writers to the stream, (D,)."""
    names = ("patch", ".in", ".attention", ".down")
    sums: dict[str, Tensor] = {}
    squares: dict[str, Tensor] = {}
    rows: dict[str, int] = {}
    for found in trace(model, images, tokens):
        for name in found:
            if name.endswith(names):
                values = found[name].double()
                sums[name] = sums.get(name, torch.zeros(1)) + values.sum(dim=0)
                squares[name] = squares.get(name, torch.zeros(1)) + values.square().sum(dim=0)
                rows[name] = rows.get(name, 0) + len(values)
    means = {name: total / rows[name] for name, total in sums.items()}
    scales = {}
    for name, mean in means.items():
        variance = (squares[name] - rows[name] * mean.square()) / max(rows[name] - 1, 1)
        scales[name] = torch.where(variance > _FLAT, variance, torch.inf).rsqrt()
    return means, scales


def _pairs(new: Iterable[str], z: Mapping[str, Tensor]) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    """Yields (sub-layer, (residual, branch)) for the `new` activations, among all activations `z` of a block."""
    for name in new:
        place, _, kind = name.rpartition(".")
        if kind == "patch":
            yield EMBEDDING, (z[name], z[name])
        elif kind == "attention":
            yield f"{place}.mixer", (z[f"{place}.in"], z[name])
        elif kind == "down":
            mixed_in = z.get(f"{place}.attention", torch.zeros(1))
            yield f"{place}.ffn", (z[f"{place}.in"] + mixed_in, z[name])


def _in_order(source: int, reference: int) -> Couple:
    """The transport that keeps the order of units: the identity, or for unequal sizes the overlap of equal parts."""
    own, other = np.arange(source) * reference, np.arange(reference) * source  # starts of the units on a common scale
    overlap = np.minimum.outer(own + reference, other + source) - np.maximum.outer(own, other)
    return coupled(overlap.clip(min=0) / (source * reference))

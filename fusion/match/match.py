"""Matching the blocks of two networks.

The first of these rules that applies decides:

1. Order: networks of equal depth without switched-off blocks are matched block by block.
2. History: models with a common ancestor have their blocks where the ancestor had them.
3. Weights: their similarity recognises copies without a history.
4. Order: unrelated networks with equally many active blocks are matched in order.
5. Additions: otherwise every block of the shallower network gets a block of the deeper one, in order, such that their additions
   to the stream are most similar (the usual dynamic programme of sequence alignment).

Limits: unrelated networks have no true match, and neighbouring blocks may have similar additions, so the optimum can be flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch import Tensor

from wb.core.architecture import Architecture, Stage
from wb.core.errors import Unsupported
from wb.fusion.align.solvers import Matrix
from wb.fusion.forms.canonical import canonical
from wb.fusion.forms.conform import conform, origins_of
from wb.fusion.match.ancestry import related
from wb.fusion.match.depth import Match, probes, switched_on
from wb.fusion.match.likeness import by_additions, by_weights
from wb.models.model import Model

By = Literal["order", "history", "weights", "additions"]
COPY = 0.4  # similarity of weights above which sub-layers are copies: pruned and fine-tuned ones have 0.7, others 0.2
KIN = 0.7  # similarity of stem, positions and head above which models have one origin: copies 0.98, others 0.4


@dataclass(frozen=True)
class Matching:
    """For each stage and each block of the reference, the index of the matching block of the source, or None.

    `by` names the rule that found the match.
    """

    blocks: Match
    by: By


@dataclass(frozen=True)
class Reference:
    """The model that others are aligned to: an anchor, or `model`, made from `anchor` by placing its blocks (`origins`)."""

    model: Model
    anchor: Model | None = None
    origins: Match = ()

    def match(self, source: Model, images: Tensor | None = None, *, itself: bool = False) -> Matching:
        """As `match_blocks`, but a relative of the anchor is matched through the anchor. `itself`: `source` is the anchor."""
        if self.anchor is None:
            return match_blocks(source, self.model, images)
        if itself:
            return Matching(self.origins, "history")
        found = kin(source, self.anchor)
        if found is None:
            return match_blocks(source, self.model, images)
        stages = zip(found.blocks, self.origins, source.architecture.stages, strict=True)
        return Matching(tuple(_through(*stage) for stage in stages), found.by)


def resized(anchor: Model, target: Architecture, images: Tensor | None, *, balance: bool) -> Reference:
    """The reference made from `anchor`, in canonical form, by bringing it to the architecture `target`. Raises as `conform`."""
    origins = origins_of(anchor, target, images)
    model = canonical(conform(anchor, target, images, origins), balance=balance)
    return Reference(model, anchor, origins)


def match_blocks(source: Model, reference: Model, images: Tensor | None = None) -> Matching:
    """Matches blocks of `source` to those of `reference`, both in canonical form. Switched-off blocks match none.

    The rules are those of the module. Related networks (rules 2 and 3) match only blocks that are copies of one another or of
    the same block. Rule 5 compares additions on at most 2048 tokens of `images` (n, channels, height, width), float32 in
    [0, 1], or else of `probes`; other rules use no images.

    Raises:
        Unsupported: the two differ in the number of stages or tokens.
        BadOption: the images do not have the shape that the two read.
    """
    _check(source.architecture, reference.architecture)
    pairs = list(zip(source.architecture.stages, reference.architecture.stages, strict=True))
    blocks = [(switched_on(own), switched_on(other)) for own, other in pairs]
    equal = all(len(own) == len(other) for own, other in blocks)
    if equal and all(
        len(own) == len(stage.blocks) for (own, _), pair in zip(blocks, pairs, strict=True) for stage in pair
    ):
        return Matching(tuple(tuple(own) for own, _ in blocks), "order")
    found = kin(source, reference)
    if found is not None:
        return found
    if equal:
        return Matching(_arranged(pairs, [dict(zip(other, own, strict=True)) for own, other in blocks]), "order")
    table = by_additions(source, reference, probes(reference.architecture) if images is None else images)
    matched = [_all(own, other, values) for (own, other), values in zip(blocks, table, strict=True)]
    return Matching(_arranged(pairs, matched), "additions")


def kin(source: Model, reference: Model) -> Matching | None:
    """The match of two related models, by their histories or else by their weights; None if they are unrelated.

    Raises as `match_blocks`.
    """
    _check(source.architecture, reference.architecture)
    pairs = list(zip(source.architecture.stages, reference.architecture.stages, strict=True))
    blocks = [(switched_on(own), switched_on(other)) for own, other in pairs]
    same = [{j: j for j in other if j in own} for own, other in blocks]
    if related(source, reference):
        return Matching(_arranged(pairs, same), "history")
    weights = by_weights(source, reference)
    gains = [value - COPY * count for value, count in zip(weights.values, weights.counts, strict=True)]
    found = [_copies(own, other, gain) for (own, other), gain in zip(blocks, gains, strict=True)]
    if weights.ends <= KIN or not any(found):
        return None
    places = all(len(own.blocks) == len(other.blocks) for own, other in pairs)
    if places and all(
        i == j for matched in found for j, i in matched.items()
    ):  # then blocks that changed too much to be recognised are in place, too
        found = same
    return Matching(_arranged(pairs, found), "weights")


def increasing(similarity: Matrix) -> list[int]:
    """A column for each row of `similarity` (n, m), n <= m, strictly increasing, with the largest sum."""
    n, m = similarity.shape
    cost = np.full((n + 1, m + 1), np.inf)  # cost[i, j]: least cost of the first i rows on the first j columns
    cost[0] = 0
    for i in range(1, n + 1):
        for j in range(i, m + 1):
            cost[i, j] = min(cost[i, j - 1], cost[i - 1, j - 1] + 1 - similarity[i - 1, j - 1])
    columns = []
    j = m
    for i in range(n, 0, -1):
        while cost[i, j] == cost[i, j - 1]:  # column j - 1 is unused
            j -= 1
        j -= 1
        columns.append(j)
    return columns[::-1]


def chain(gain: Matrix) -> list[tuple[int, int]]:
    """Pairs (row, column) of `gain` (n, m), both strictly increasing, with the largest sum; none without positive gain."""
    n, m = gain.shape
    best = np.zeros((n + 1, m + 1))  # best[i, j]: largest sum in the first i rows and the first j columns
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            best[i, j] = max(best[i - 1, j], best[i, j - 1], best[i - 1, j - 1] + gain[i - 1, j - 1])
    pairs = []
    i, j = n, m
    while i and j:
        if best[i, j] == best[i - 1, j]:
            i -= 1
        elif best[i, j] == best[i, j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            pairs.append((i, j))
    return pairs[::-1]


def _all(own: list[int], other: list[int], similarity: Matrix) -> dict[int, int]:
    """Block of the reference -> block of the source, by additions; all blocks of the shallower network are matched."""
    values = similarity[np.ix_(own, other)]
    if len(own) > len(other):
        return {j: own[i] for j, i in zip(other, increasing(values.T), strict=True)}
    return {other[j]: i for i, j in zip(own, increasing(values), strict=True)}


def _copies(own: list[int], other: list[int], gain: Matrix) -> dict[int, int]:
    """Block of the reference -> block of the source, by weights; only blocks with a positive gain are matched."""
    return {other[j]: own[i] for i, j in chain(gain[np.ix_(own, other)])}


def _arranged(pairs: list[tuple[Stage, Stage]], found: list[dict[int, int]]) -> Match:
    return tuple(
        tuple(matched.get(j) for j in range(len(there.blocks)))
        for (_, there), matched in zip(pairs, found, strict=True)
    )


def _through(match: tuple[int | None, ...], origins: tuple[int | None, ...], source: Stage) -> tuple[int | None, ...]:
    """The match of `source` to the reference, from its `match` to the anchor and the `origins` of the reference's blocks.

    Blocks of the reference without origin get blocks of the source that match nothing else, as far as the order allows.
    """
    found = [None if origin is None else match[origin] for origin in origins]
    used = {block for block in found if block is not None}
    for j, origin in enumerate(origins):
        before = max((block for block in found[:j] if block is not None), default=-1)
        after = min((block for block in found[j:] if block is not None), default=len(source.blocks))
        spare = [block for block in switched_on(source) if before < block < after and block not in used]
        if origin is None and spare:
            found[j] = spare[0]
            used.add(spare[0])
    return tuple(found)


def _check(source: Architecture, reference: Architecture) -> None:
    """Raises `Unsupported` unless the two have the same stages with the same tokens."""
    own, other = ([*a.layouts()] for a in (source, reference))
    if own != other or source.head.pooling != reference.head.pooling:
        texts = (
            f"{'x'.join(map(str, a.layout.shape))} tokens in {len(a.stages)} stages, prefix of {a.prefix}, pool {a.head.pooling}"
            for a in (source, reference)
        )
        raise Unsupported(
            f"blocks can be matched where both networks have the same tokens in each stage; given {' and '.join(texts)}; "
            "choose networks with the same patch, image size, stages, prefix and pool"
        )

"""Attention over training: how spread out its weights are, by layer, head and token, and from when on they stay as they are.

For a row of weights a over K keys, entropy is -Σ a log a over log K: 1 where all keys weigh alike, 0 where one has
all. Concentration is the largest weight of the row. Both are means over rows, of examples and queries. Attention is
compared with that of the last checkpoint by total variation, ½ Σ |a - a'|, between 0 and 1, and by rank, the share of
rows whose heaviest key is the same. A head froze at the first checkpoint from which on its total variation stays at
or below a threshold: before it attention scans, from there on it has snapped.

Source: Tian et al., "Scan and Snap: Understanding Training Dynamics and Token Composition in 1-layer Transformer", 2023,
https://arxiv.org/abs/2305.16380: attention first scans tokens, then concentrates on few and freezes.
Differs: measured on networks of any depth; the paper proves it for one layer, and compares with its limit.
Limits: mixers that compute no softmax over keys have no weights to look at. The end of a training is no limit: what is
frozen there might move if training went on. Rows of padding count where a mixer computes such.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from wb.core.errors import BadData
from wb.core.records import Frozen
from wb.data import Split
from wb.data.batches import batches
from wb.jobs.attention.weights import attended
from wb.models.model import Model

BATCH = 16
_TINY = 1e-12


class Moment(Frozen):
    """A head at one checkpoint: means over rows. `apart` and `same` compare with the last checkpoint."""

    entropy: float
    concentration: float
    apart: float
    same: float


class Head(Frozen):
    """One head over the checkpoints. `frozen` is the epoch from which on it stays as it is in the end; None with one checkpoint.

    `tokens` are entropies by query at the last checkpoint, where all examples have queries of the same places; else none.
    """

    layer: str
    head: int
    moments: tuple[Moment, ...]
    frozen: int | None = None
    tokens: tuple[float, ...] = ()


class AttentionAnalysis(Frozen):
    """The result of `analyze_attention`; JSON by `model_dump_json`. `without` are mixers without weights, and what they are."""

    examples: int
    noun: str
    epochs: tuple[int, ...]
    still: float
    heads: tuple[Head, ...]
    without: Mapping[str, str]


class _Tally:
    """Sums over rows of one head at one checkpoint."""

    def __init__(self) -> None:
        self.sums, self.rows = np.zeros(4), 0
        self.tokens: list[Tensor] = []

    def add(self, weights: Tensor, last: Tensor) -> None:
        """Weights (groups, queries, keys) of the checkpoint and of the last one."""
        entropy = entropies(weights)
        apart = (weights - last).abs().sum(-1) / 2
        same = weights.argmax(-1) == last.argmax(-1)
        parts = (entropy, weights.amax(-1), apart, same.to(weights))
        self.sums += [float(part.double().sum()) for part in parts]
        self.rows += entropy.numel()
        self.tokens.append(entropy)

    def moment(self) -> Moment:
        entropy, concentration, apart, same = (float(value) for value in self.sums / max(1, self.rows))
        return Moment(entropy=entropy, concentration=concentration, apart=apart, same=same)


def entropies(weights: Tensor) -> Tensor:
    """The entropy of rows (…, keys) as a share of that of equal weights: (…); 0 where there is one key."""
    keys = weights.shape[-1]
    found = -(weights * weights.clamp(min=_TINY).log()).sum(-1)
    return found / math.log(keys) if keys > 1 else torch.zeros_like(found)


def froze(apart: Sequence[float], epochs: Sequence[int], still: float) -> int | None:
    """The first of the epochs from which on all total variations are at most `still`; None with a single checkpoint."""
    if len(epochs) < 2:
        return None
    found = epochs[-1]
    for epoch, value in zip(reversed(epochs), reversed(apart), strict=True):
        if value > still:
            break
        found = epoch
    return found


def analyze_attention(
    models: Sequence[Model],
    epochs: Sequence[int],
    split: Split,
    *,
    limit: int = 64,
    still: float = 0.1,
    report: Callable[[int, int], None] | None = None,
) -> AttentionAnalysis:
    """Runs the checkpoints of one network, in the order of `epochs`, on at most `limit` examples of `split`, evenly spaced.

    Texts are run one by one, so that no row is of padding.

    Raises:
        BadData: networks of different architectures.
    """
    if len({model.architecture for model in models}) > 1:
        raise BadData("checkpoints of different networks cannot be compared; give those of one training")
    index = np.unique(np.linspace(0, len(split) - 1, min(limit, len(split))).round().astype(np.int64))
    some = split.take(index)
    networks = [model.network() for model in models]
    tallies: dict[tuple[str, int], list[_Tally]] = {}
    without: dict[str, str] = {}
    size = BATCH if some.vocabulary is None else 1
    total = -(-len(some) // size)
    with torch.inference_mode():
        for done, (inputs, _) in enumerate(batches(some, size, shuffle=False), start=1):
            end = list(attended(networks[-1], inputs))
            last = {name: weights for name, _, weights in end}
            for number, network in enumerate(networks):
                for name, heads, weights in end if network is networks[-1] else attended(network, inputs):
                    final = last[name]
                    if weights is None or final is None:
                        without[name] = network.at(name).operator.record.title
                        continue
                    for head in range(heads):
                        every = tallies.setdefault((name, head), [_Tally() for _ in networks])
                        every[number].add(weights[:, head], final[:, head])
            if report is not None:
                report(done, total)
    found = [
        _head(layer, head, every, epochs, still, fixed=some.vocabulary is None)
        for (layer, head), every in tallies.items()
    ]
    found.sort(key=lambda one: ([at.name for at in networks[-1].walk()].index(one.layer), one.head))
    return AttentionAnalysis(
        examples=len(some), noun=some.noun, epochs=tuple(epochs), still=still, heads=tuple(found), without=without
    )


def _head(layer: str, head: int, every: Sequence[_Tally], epochs: Sequence[int], still: float, *, fixed: bool) -> Head:
    moments = tuple(tally.moment() for tally in every)
    tokens = torch.cat(every[-1].tokens).mean(0).tolist() if fixed else []
    return Head(
        layer=layer,
        head=head,
        moments=moments,
        frozen=froze([moment.apart for moment in moments], epochs, still),
        tokens=tuple(tokens),
    )

"""Which block of one network goes with which of another of another depth, and how to give a network more or fewer blocks.

Source: Kornblith et al., "Similarity of Neural Network Representations Revisited", 2019, https://arxiv.org/abs/1905.00414,
eq. 3 (linear CKA). The match is the usual dynamic programme of sequence alignment without gaps on the shorter side.
Differs: streams are compared after whole blocks, on a sample of tokens instead of one vector for each image.
Limits: CKA sees what a stream says, not what a block is: a block may be matched with one of another kind. Neighbouring
streams are much alike in a deep network, so that the optimum can be flat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Architecture, Block, ImageInput, Stage, widths
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Operator
from wb.fusion.canonical import Sublayer, sublayers
from wb.fusion.solvers import Matrix
from wb.fusion.trace import cut, network_of
from wb.models.model import Model
from wb.models.network import build

Match = tuple[tuple[int | None, ...], ...]
ROWS = 2048  # tokens that CKA looks at
_FLAT = 1e-12  # what varies by less, of its size, is constant but for rounding
_SMALL = 0.02  # standard deviation of what reads in a sub-layer that writes nothing
_SEED = 0  # of what is drawn here: nothing else depends on it


def match_blocks(source: Model, reference: Model, images: Tensor | None = None) -> Match:
    """For each stage, for each block of `reference`, the block of `source` that goes with it, or None.

    Blocks that are switched off go with none. Where as many are on in both, they match in order; else all blocks of the
    shallower go to blocks of the deeper, in order, so that the sum of linear CKA of the streams behind them is largest, on
    at most 2048 tokens of `images` (n, channels, height, width), float32 in [0, 1], or of `probes`; these are looked at, and
    made, in that case only.

    Raises:
        Unsupported: the two have other numbers of stages, or of tokens.
        BadOption: `images` are not what the two read.
    """
    _check(source.architecture, reference.architecture)
    pairs = list(zip(source.architecture.stages, reference.architecture.stages, strict=True))
    blocks = [(switched_on(own), switched_on(other)) for own, other in pairs]
    if all(len(own) == len(other) for own, other in blocks):
        chosen: list[list[int | None]] = [[*own] for own, _ in blocks]
    else:
        looked = probes(reference.architecture) if images is None else images
        one, two = (_sampled(model, looked) for model in (source, reference))
        chosen = [_matched(*blocks[i], one[i], two[i]) for i in range(len(pairs))]
    result = []
    for (_, there), (_, on), which in zip(pairs, blocks, chosen, strict=True):
        found = dict(zip(on, which, strict=True))
        result.append(tuple(found.get(j) for j in range(len(there.blocks))))
    return tuple(result)


def switched_on(stage: Stage) -> list[int]:
    """The indices of the blocks that are not the identity."""
    return [j for j, block in enumerate(stage.blocks) if not block.off]


def increasing(similarity: Matrix) -> list[int]:
    """For each row of `similarity` (n, m), n <= m, a column, strictly increasing, with the largest sum."""
    n, m = similarity.shape
    cost = np.full((n + 1, m + 1), np.inf)  # of the first i rows on the first j columns
    cost[0] = 0
    for i in range(1, n + 1):
        for j in range(i, m + 1):
            cost[i, j] = min(cost[i, j - 1], cost[i - 1, j - 1] + 1 - similarity[i - 1, j - 1])
    columns = []
    j = m
    for i in range(n, 0, -1):
        while cost[i, j] == cost[i, j - 1]:  # column j - 1 is not needed
            j -= 1
        j -= 1
        columns.append(j)
    return columns[::-1]


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


def streams(model: Model, images: Tensor) -> Iterator[list[list[Tensor]]]:
    """The residual streams of `model` on `images` (n, channels, height, width), batch by batch, in the type of the weights.

    For each stage the stream before its first block and those after each, (b, N, D).

    Raises:
        BadOption: `images` are not what the model reads.
    """
    check_images(model.architecture.input, images)
    network = network_of(model)
    with torch.inference_mode():
        for part in cut(images.to(network.position)):
            x = network.tokens(part)
            found: list[list[Tensor]] = []
            for i, blocks in enumerate(network.stages):
                x = network.merges[i - 1](x) if i else x
                found.append([x])
                for block in blocks:  # type: ignore[attr-defined]
                    x = block(x)
                    found[-1].append(x)
            yield found


def arranged(model: Model, goal: Architecture, origins: Match) -> Model:
    """`model` with the blocks and sub-layers of `goal` at its own widths; those that it lacks write nothing.

    `origins` says for each block of `goal` which of the model's goes there; what of it `goal` does not have is dropped. In
    a pre-norm network what is added leaves the function as it is.

    Raises:
        Unsupported: a block would have to become one of another kind, or what is lacking cannot be silenced.
    """
    stages = []
    for i, (own, wanted) in enumerate(zip(model.architecture.stages, goal.stages, strict=True)):
        blocks = tuple(
            block if origin is None else _block(own.blocks[origin], block, f"s{i}.b{j}")
            for j, (block, origin) in enumerate(zip(wanted.blocks, origins[i], strict=True))
        )
        stages.append(own.model_copy(update={"blocks": blocks}))
    architecture = model.architecture.model_copy(update={"stages": tuple(stages)})
    network = build(architecture, "meta")
    weights = {name: weight for name, weight in model.weights.items() if not name.startswith("stages.")}
    generator = torch.Generator().manual_seed(_SEED)
    last: dict[int, str] = {}  # the norm of the sub-layer before, by stage
    for sublayer in sublayers(network):
        origin = origins[sublayer.stage][int(sublayer.place.split(".b")[1])]
        moved = _moved(model, sublayer, origin)
        weights |= moved or _silent(sublayer, architecture, weights, last.get(sublayer.stage), generator)
        last[sublayer.stage] = sublayer.norm
    return replace(model, architecture=architecture, weights=weights)


def check_images(expected: ImageInput, images: Tensor) -> None:
    """Nothing where `images` are some of that shape.

    Raises:
        BadOption: they are not.
    """
    shape = (expected.channels, expected.height, expected.width)
    if images.dim() != 4 or tuple(images.shape[1:]) != shape or not len(images):
        raise BadOption(
            f"images of shape {tuple(images.shape)} are not what the model reads; give some of shape (n, "
            f"{', '.join(map(str, shape))})"
        )


def probes(architecture: Architecture, n: int = 64) -> Tensor:
    """Images (n, channels, height, width), float32, to look at a network with when there are no data.

    Gaussian noise with the mean and standard deviation that the network normalises by, each pixel averaged with its
    neighbours (as those of pictures are alike) and scaled back, clipped to [0, 1]; the same in every call. A heuristic:
    nothing in it is an object, and what a network does on pictures may differ.
    """
    image = architecture.input
    noise = torch.randn(n, image.channels, image.height, image.width, generator=torch.Generator().manual_seed(_SEED))
    summed, count = (F.avg_pool2d(z, 3, stride=1, padding=1) * 9 for z in (noise, torch.ones_like(noise)))
    mean, std = (torch.tensor(values)[:, None, None] for values in (image.mean, image.std))
    return (summed / count.sqrt() * std + mean).clamp(0, 1)


def _check(source: Architecture, reference: Architecture) -> None:
    """Raises `Unsupported` where the two do not have the same tokens in the same stages."""
    own, other = ([*a.grids()] for a in (source, reference))
    if own != other or source.pool != reference.pool:
        texts = (
            f"{'x'.join(map(str, grids[0]))} tokens in {len(grids)} stages, pool {a.pool!r}"
            for grids, a in ((own, source), (other, reference))
        )
        raise Unsupported(
            f"blocks can be matched where both networks have the same tokens in each stage; given {' and '.join(texts)}; "
            "choose networks with the same patch, image size, stages and pool"
        )


def _centred(x: Tensor) -> Tensor:
    x = x.double()
    centred = x - x.mean(dim=0)
    return centred if centred.norm() > _FLAT * x.norm() else torch.zeros_like(x)


def _matched(own: list[int], other: list[int], x: list[Tensor], y: list[Tensor]) -> list[int | None]:
    """For each block in `other` one of `own` or None, by the tokens (rows, channels) before and after each block."""
    if len(own) == len(other):
        return [*own]
    similarity = np.array([[cka(x[i + 1], y[j + 1]) for j in other] for i in own]).reshape(len(own), len(other))
    if len(own) > len(other):
        return [own[i] for i in increasing(similarity.T)]
    found: list[int | None] = [None] * len(other)
    for i, j in zip(own, increasing(similarity), strict=True):
        found[j] = i
    return found


def _sampled(model: Model, images: Tensor) -> list[list[Tensor]]:
    """For each stage a sample of the tokens (rows, channels) of each stream, the same for every network on these images."""
    result: list[list[list[Tensor]]] = [[[] for _ in range(len(s.blocks) + 1)] for s in model.architecture.stages]
    start = 0
    for batch in streams(model, images):
        for i, stage in enumerate(batch):
            size, tokens = stage[0].shape[:2]
            rows = _rows(len(images) * tokens)
            here = rows[(rows >= start * tokens) & (rows < (start + size) * tokens)] - start * tokens
            for parts, stream in zip(result[i], stage, strict=True):
                parts.append(stream.flatten(0, 1)[here])
        start += len(batch[0][0])
    return [[torch.cat(parts) for parts in stage] for stage in result]


def _rows(total: int) -> Tensor:
    """At most 2048 of so many, drawn at random: even steps would see the same places of all images."""
    if total <= ROWS:
        return torch.arange(total)
    return torch.randperm(total, generator=torch.Generator().manual_seed(_SEED))[:ROWS].sort().values


def _block(own: Block, wanted: Block, name: str) -> Block:
    """`wanted` with the widths of what it has in common with `own`."""
    parts: dict[str, Operator | None] = {}
    for kind in ("mixer", "ffn"):
        mine, other = getattr(own, kind), getattr(wanted, kind)
        both = mine is not None and other is not None
        if both and not alike(mine, other):
            raise Unsupported(
                f"{kind} {other} of block {name} of the target cannot be made from {mine}, which goes there; expected one "
                "that differs in widths only; change the target's block, or fuse into a size of the model's own blocks"
            )
        parts[kind] = mine if both else other
    return wanted.model_copy(update=parts)


def alike(one: Operator, other: Operator, *free: str) -> bool:
    """Of one kind, with widths and the fields named in `free` that may differ."""
    rest = {*widths(one), *free}
    return type(one) is type(other) and one.model_dump(exclude=rest) == other.model_dump(exclude=rest)


def _moved(model: Model, sublayer: Sublayer, origin: int | None) -> dict[str, Tensor]:
    """The weights of the model's block number `origin` under the names of `sublayer`; none where it has no such part."""
    result: dict[str, Tensor] = {}
    for prefix in (sublayer.prefix, sublayer.norm):
        _, stage, _, part = prefix.split(".")
        old = f"stages.{stage}.{origin}.{part}."
        result |= {f"{prefix}.{n.removeprefix(old)}": w for n, w in model.weights.items() if n.startswith(old)}
    return result


def _silent(
    sublayer: Sublayer, a: Architecture, known: Mapping[str, Tensor], before: str | None, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weights of a sub-layer of `a` that writes nothing, of the type of those that are `known`.

    In a post-norm network its norm is nearly the identity on what the norm `before` it in its stage leaves.
    """
    like, embed = known["position"], a.stages[sublayer.stage].embed
    zero = {*sublayer.writers, *sublayer.writers.values(), *sublayer.readers.values()}
    result = {}
    for name, parameter in sublayer.module.named_parameters(sublayer.prefix):
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * _SMALL
        result[name] = (torch.zeros_like(drawn) if name in zero else drawn).to(like)
    gain, shift = like.new_ones(embed), like.new_zeros(embed)
    if a.norm == "post" and not sublayer.writers:
        raise Unsupported(
            f"{sublayer.name} of the target has no counterpart in the model and no weights that could silence it in a "
            "post-norm network; give a target without it"
        )
    if a.norm == "post" and before is not None:
        old_gain, old_shift = known[f"{before}.gain"], known[f"{before}.shift"]
        gain = gain * (old_gain.square().mean() + old_shift.var(correction=0)).sqrt()
        shift = shift + old_shift.mean()
    elif not sublayer.writers:
        gain = torch.zeros_like(gain)
    return result | {f"{sublayer.norm}.gain": gain, f"{sublayer.norm}.shift": shift}

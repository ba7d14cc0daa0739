"""Changing the depth of a network: adding silent blocks or dropping blocks; and residual streams block by block."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Input, Operator, dims
from wb.core.records.wirings import path_of, with_paths
from wb.models.layers.convolution import FIRST, BatchNormed
from wb.models.layers.planes import as_tokens
from wb.models.model import Model
from wb.models.network import Network, build
from wb.models.walk import Sublayer
from wb.training.refit.trace import network_of, whole

Match = tuple[tuple[int | None, ...], ...]
_SMALL = 0.02  # standard deviation of the random weights of a silent sub-layer (one whose writers are zero)
_SEED = 0  # of all random draws in this module


def switched_on(stage: Stage) -> list[int]:
    """The indices of the blocks that are not the identity."""
    return [j for j, block in enumerate(stage.blocks) if not block.off]


def streams(model: Model, images: Tensor) -> Iterator[list[list[Tensor]]]:
    """Yields the residual streams of `model` on `images`, as networks take them, batch by batch; texts one by one.

    A batch is a list over stages; each stage is a list of the stream before its first block and after each block, (b, N, D),
    in the dtype of the weights.

    Raises:
        BadOption: the images do not have the shape that the model reads.
    """
    check_images(model.architecture.input, images)
    network = network_of(model)
    with torch.inference_mode():
        for part in whole(images, network):
            state = network.begin(part)
            found: list[list[Tensor]] = []
            for i in range(len(network.stages)):
                state = network.enter(state, i)
                found.append([as_tokens(state.stream)])
                for block in network.blocks(i):
                    state = block(network.wiring(i), state)
                    found[-1].append(as_tokens(state.stream))
            yield found


def arranged(model: Model, goal: Architecture, origins: Match) -> Model:
    """`model` with the blocks and sub-layers of `goal`, at the widths of `model`; missing sub-layers are added silent.

    A silent sub-layer adds nothing to the stream, so in a pre-norm network the function stays the same. `origins` gives for
    each block of `goal` the index of the model's block that goes there, or None. Sub-layers that `goal` lacks are dropped.

    Raises:
        Unsupported: a block would have to change its kind or join, or a missing sub-layer cannot be silenced.
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
    weights = {name: w for name, w in model.weights.items() if not name.startswith(("stages.", "wirings."))}
    weights |= _wired(model, network, origins)
    generator = torch.Generator().manual_seed(_SEED)
    last: dict[int, str] = {}  # stage -> norm of the previous sub-layer
    for sublayer in network.walk():
        origin = origins[sublayer.stage][sublayer.block]
        moved = _moved(model, sublayer, origin)
        weights |= moved or _silent(sublayer, architecture, weights, last.get(sublayer.stage), generator)
        last[sublayer.stage] = sublayer.norm_prefix
    return replace(model, architecture=architecture, weights=weights)


def check_images(expected: Input, images: Tensor) -> None:
    """Checks the shape of `images` (n, channels, height, width), or of ids (n, tokens).

    Raises:
        BadOption: the images do not have the `expected` shape, or there are none; or ids beyond the vocabulary.
    """
    spec, *mask = expected.specs()
    if mask:
        if images.is_floating_point() or images.dim() != 2 or not len(images) or int(images.max()) >= (spec.below or 0):
            raise BadOption(
                f"{images.dtype} of shape {tuple(images.shape)} are not what the model reads; give {spec.text}"
            )
        return
    if images.shape[1:] != spec.example or not len(images):
        raise BadOption(
            f"images of shape {tuple(images.shape)} are not what the model reads; give some of shape (n, "
            f"{', '.join(map(str, spec.example))})"
        )


def probes(architecture: Architecture, n: int = 64) -> Tensor:
    """Synthetic images (n, channels, height, width), float32, for comparing networks without data; equal in every call.

    For networks of texts they are random ids (n, tokens), as many as a text usually has.
    They are Gaussian noise with the mean and standard deviation that the network normalises by. Each pixel is averaged with
    its neighbours, because neighbouring pixels of natural images are alike, and scaled back; values are clipped to [0, 1].
    Limits: a heuristic. The images show no objects, so activations on natural images may differ.
    """
    spec, *mask = architecture.input.specs()
    if mask:
        size = spec.sized(n, architecture.input.usual_tokens or 1)
        return torch.randint(0, spec.below or 1, size, generator=torch.Generator().manual_seed(_SEED))
    image = architecture.image
    noise = torch.randn(spec.sized(n, 0), generator=torch.Generator().manual_seed(_SEED))
    summed, count = (F.avg_pool2d(z, 3, stride=1, padding=1) * 9 for z in (noise, torch.ones_like(noise)))
    mean, std = (torch.tensor(values)[:, None, None] for values in (image.mean, image.std))
    return (summed / count.sqrt() * std + mean).clamp(0, 1)


def _block(own: Block, wanted: Block, name: str) -> Block:
    """The block `wanted`, with the widths of `own` in the sub-layers that both have."""
    joins = [None if block.join is None else block.join.structure() for block in (own, wanted)]
    if joins[0] != joins[1]:
        raise Unsupported(
            f"block {name} of the target has join {joins[1]} and cannot be made from one with {joins[0]}, which goes there; "
            "give the target's block the same, or fuse into a size of the model's own blocks"
        )
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


def alike(one: Operator, other: Operator) -> bool:
    """Whether two operators are of one kind and differ at most in widths."""
    rest = {*dims(type(one))}
    return type(one) is type(other) and one.model_dump(exclude=rest) == other.model_dump(exclude=rest)


def _moved(model: Model, sublayer: Sublayer, origin: int | None) -> dict[str, Tensor]:
    """The weights of a sub-layer in the model's block `origin`, renamed to `sublayer`; empty if the block lacks it."""
    result: dict[str, Tensor] = {}
    for prefix in sublayer.prefixes:
        _, stage, _, part = prefix.split(".")
        old = f"stages.{stage}.{origin}.{part}."
        result |= {f"{prefix}.{n.removeprefix(old)}": w for n, w in model.weights.items() if n.startswith(old)}
    return result


def _wired(model: Model, network: Network, origins: Match) -> dict[str, Tensor]:
    """The weights of the wirings of `network`, those of the model where its sub-layers went; one for what joins."""
    like, result = next(iter(model.weights.values())), {}
    for i, origin in enumerate(origins):
        numbers = {0: 0}
        for new, old in enumerate(origin):
            numbers |= {} if old is None else {path_of(new, kind): path_of(old, kind) for kind in ("mixer", "ffn")}
        for local, parameter in network.wiring(i).named_parameters():
            before = with_paths(f"wirings.{i}.{local}", numbers)
            given = None if before is None else model.weights.get(before)
            result[f"wirings.{i}.{local}"] = like.new_ones(parameter.shape) if given is None else given
    return result


def _silent(
    sublayer: Sublayer, a: Architecture, known: Mapping[str, Tensor], before: str | None, generator: torch.Generator
) -> dict[str, Tensor]:
    """Weights of a silent sub-layer of `a`, which adds nothing to the stream, in the dtype of the `known` weights.

    In a post-norm network the norm of the sub-layer is made nearly the identity on the output of the norm `before` it.
    """
    like, embed = next(iter(known.values())), a.stages[sublayer.stage].embed
    zero = {*sublayer.silencing, *sublayer.readers.values()}
    result = {}
    neutral = sublayer.operator.neutral if isinstance(sublayer.operator, BatchNormed) else {}
    for name, parameter in sublayer.operator.named_parameters(sublayer.prefix):
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * _SMALL
        value = neutral.get(name.removeprefix(f"{sublayer.prefix}."))
        drawn = drawn if value is None else torch.full_like(drawn, value)
        result[name] = (torch.zeros_like(drawn) if name in zero else drawn).to(like)
    norm = {name: torch.full_like(like.new_ones(embed), value) for name, value in FIRST.items()}
    if not sublayer.wiring.folds and not sublayer.silencing:
        raise Unsupported(
            f"{sublayer.name} of the target has no counterpart in the model and no weights that could silence it in a "
            f"{sublayer.wiring.record.title} network; give a target without it"
        )
    if not sublayer.wiring.folds and sublayer.norm.averaged and f"{before}.gain" in known:
        old_gain, old_shift = known[f"{before}.gain"], known.get(f"{before}.shift", like.new_zeros(embed))
        norm["gain"] = norm["gain"] * (old_gain.square().mean() + old_shift.var(correction=0)).sqrt()
        norm["shift"] = norm["shift"] + old_shift.mean()
    elif not sublayer.silencing:
        norm["gain"] = torch.zeros_like(norm["gain"])
    if sublayer.join is not None and sublayer.gated:
        raise Unsupported(
            f"{sublayer.name} of the target has no counterpart in the model, and with {sublayer.join.record.said} it changes the "
            "stream whatever its operator adds; give a target without it"
        )
    if sublayer.join is not None:
        result |= {n: like.new_ones(p.shape) for n, p in sublayer.join.named_parameters(sublayer.join_prefix)}
    given = sublayer.norm.named_parameters()  # what a norm has beside those is neutral at zero
    return result | {f"{sublayer.norm_prefix}.{name}": norm.get(name, like.new_zeros(p.shape)) for name, p in given}

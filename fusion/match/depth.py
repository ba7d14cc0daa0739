"""Networks of another depth: their streams block by block, and how to give a network more or fewer blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from wb.core.architecture import Architecture, Block, ImageInput, Stage, widths
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Operator
from wb.fusion.align.trace import cut, network_of
from wb.models.model import Model
from wb.models.network import build
from wb.models.walk import Sublayer

Match = tuple[tuple[int | None, ...], ...]
_SMALL = 0.02  # standard deviation of what reads in a sub-layer that writes nothing
_SEED = 0  # of what is drawn here: nothing else depends on it


def switched_on(stage: Stage) -> list[int]:
    """The indices of the blocks that are not the identity."""
    return [j for j, block in enumerate(stage.blocks) if not block.off]


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
            state = network.begin(part)
            found: list[list[Tensor]] = []
            for i in range(len(network.stages)):
                state = network.enter(state, i)
                found.append([state.stream])
                for block in network.blocks(i):
                    state = block(network.wiring(i), state)
                    found[-1].append(state.stream)
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
    for sublayer in network.walk():
        origin = origins[sublayer.stage][sublayer.block]
        moved = _moved(model, sublayer, origin)
        weights |= moved or _silent(sublayer, architecture, weights, last.get(sublayer.stage), generator)
        last[sublayer.stage] = sublayer.norm_prefix
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
    for prefix in (sublayer.prefix, sublayer.norm_prefix):
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
    for name, parameter in sublayer.operator.named_parameters(sublayer.prefix):
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * _SMALL
        result[name] = (torch.zeros_like(drawn) if name in zero else drawn).to(like)
    norm = {"gain": like.new_ones(embed), "shift": like.new_zeros(embed)}
    if not sublayer.wiring.folds and not sublayer.writers:
        raise Unsupported(
            f"{sublayer.name} of the target has no counterpart in the model and no weights that could silence it in a "
            f"{a.norm}-norm network; give a target without it"
        )
    if not sublayer.wiring.folds and before is not None:
        old_gain, old_shift = known[f"{before}.gain"], known.get(f"{before}.shift", like.new_zeros(embed))
        norm["gain"] = norm["gain"] * (old_gain.square().mean() + old_shift.var(correction=0)).sqrt()
        norm["shift"] = norm["shift"] + old_shift.mean()
    elif not sublayer.writers:
        norm["gain"] = torch.zeros_like(norm["gain"])
    return result | {f"{sublayer.norm_prefix}.{name}": norm[name] for name in sublayer.norm.axes}

"""timm's Hiera, and original checkpoints of it.

Source: timm, `hiera.py`; https://github.com/facebookresearch/hiera, whose last norm and classifier have other names.
Limits: units of 8x8 tokens in the first two of four stages, and patches 4 pixels apart, unless config.json says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import Learned, PatchStem, Position, Scale, Tiled
from wb.foreign.families.sizes import sizes_of
from wb.foreign.families.staged.hiera import Pyramid, layer, pyramid, switches
from wb.foreign.families.staged.timm_swin import image_side
from wb.foreign.family import Family, Library, Seen, squared, timm_config
from wb.foreign.rule import Rule, norm, pair, rule

NORMS = ("norm1", "norm2")
CHANNELS = {96: 96, 112: 56, 144: 72, 256: 64}  # of the first stage -> of a head, in every published one
STRIDE, PADDING, UNIT, POOLS = 4, 3, 8, 3  # timm's defaults
TILED = 256  # side of the images of published networks with positions of windows
NEEDED: Mapping[str, object] = {"q_stride": 2, "use_expand_proj": True, "global_pool": "avg"}


class TimmHiera(Family):
    """Blocks are counted through all stages; one with a projection begins a stage."""

    name = "timm-hiera"
    title = "Hiera of timm"
    library: ClassVar[Library] = "timm"
    options = ("heads", "activation", "eps")
    ending = ("head.norm", "head.fc")

    def recognises(self, seen: Seen) -> bool:
        last, classifier = self.ending
        named = {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight", "pos_embed", f"{last}.weight"}
        return {*named, f"{classifier}.weight"} <= seen.shapes.keys()

    def architecture(self, seen: Seen) -> Architecture:
        seen.needs(NEEDED)
        _check_projected(seen)
        firsts = [*_firsts(seen), seen.count(r"blocks\.(\d+)\.")]
        depths = [after - before for before, after in pairwise(firsts)]
        pools = seen.argument("q_pool") or POOLS
        if pools != len(depths) - 1:
            raise Unsupported(
                f"it has {len(depths)} stages and q_pool={pools}; networks of wb pool queries between all"
            )
        embeds = [seen.shape(f"blocks.{n}.attn.proj.weight", 2)[0] for n in firsts[:-1]]
        _, channels, kernel, _ = seen.shape("patch_embed.proj.weight", 4)
        patch, classes = _side(seen, "patch_stride", STRIDE), seen.shape(f"{self.ending[1]}.weight", 2)[0]
        position, size = _places(seen, patch)
        scaled = "blocks.0.ls1.gamma" in seen.shapes
        default = [True] * min(2, len(depths)) + [False] * (len(depths) - 2)
        units = switches(seen.model_arguments.get("mask_unit_attn", default), "mask_unit_attn", len(depths))
        return pyramid(
            Pyramid(
                image=seen.image(channels, size, size),
                stem=PatchStem(patch=patch, kernel=kernel, padding=_side(seen, "patch_padding", PADDING)),
                embeds=embeds,
                depths=depths,
                heads=_heads(seen, embeds),
                mlps=[seen.shape(f"blocks.{n}.mlp.fc1.weight", 2)[0] for n in firsts[:-1]],
                side=_side(seen, "mask_unit_size", UNIT),
                units=units,
                entering=[units[max(0, i - 1)] for i in range(len(depths))],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.given.activation or "gelu",
                eps=seen.given.eps or 1e-6,
                position=position,
                join=Scale() if scaled else None,
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        last, classifier = self.ending
        if isinstance(a.position, Tiled):
            yield rule("pos_embed", "position", "d r c -> 1 d r c")
            yield rule("pos_embed_win", "window", "d r c -> 1 d r c")
        else:
            yield rule("pos_embed", "position", "n d -> 1 n d")
        yield from pair("patch_embed.proj", "stem.patches", "stem.patches_bias")
        places = [(i, j) for i, stage in enumerate(a.stages) for j in range(len(stage.blocks))]
        for n, (i, j) in enumerate(places):
            yield from layer(f"blocks.{n}.", i, j, NORMS)
        yield from norm(last, "norm")
        yield from pair(classifier, "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        if not config:
            return {}
        sizes = sizes_of(a, self.title, config)
        return timm_config(
            a, config, embed_dim=sizes.embed, stages=sizes.depths, num_heads=sizes.heads[0], mlp_ratio=sizes.ratio
        )


class OriginalHiera(TimmHiera):
    """The layout of the published code."""

    name = "hiera"
    title = "Hiera of the published code"
    library: ClassVar[Library] = "other"
    ending = ("norm", "head.projection")


def _check_projected(seen: Seen) -> None:
    """Raises `Unsupported` where the width changes and no projection does that."""
    for n in range(1, seen.count(r"blocks\.(\d+)\.")):
        before, after = (seen.shape(f"blocks.{i}.attn.proj.weight", 2)[0] for i in (n - 1, n))
        if before != after and f"blocks.{n}.proj.weight" not in seen.shapes:
            raise Unsupported(
                f"around the attention of blocks.{n}, which changes the width from {before} to {after}, the largest and the mean "
                "of four tokens are put side by side (use_expand_proj=False); networks of wb have a projection there"
            )


def _firsts(seen: Seen) -> list[int]:
    """The numbers of the blocks that begin a stage."""
    count = seen.count(r"blocks\.(\d+)\.")
    return [n for n in range(count) if n == 0 or f"blocks.{n}.proj.weight" in seen.shapes]


def _places(seen: Seen, patch: int) -> tuple[Position, int]:
    """The positions, and the side of images."""
    if "pos_embed_win" not in seen.shapes:
        return Learned(), seen.side(seen.shape("pos_embed", 3)[1], patch)
    places, windows = seen.shape("pos_embed", 4)[2:], seen.shape("pos_embed_win", 4)[2:]
    if places[0] != places[1] or windows[0] != windows[1]:
        raise Unsupported(f"its positions are those of {places} places and windows of {windows}; squares are read")
    if (size := image_side(seen)) is None:
        size = TILED
        seen.notes.append(f"images are taken to be {size}x{size}, as those of published networks with such positions")
    return Tiled(places=places[0], window=windows[0]), size


def _heads(seen: Seen, embeds: Sequence[int]) -> list[int]:
    """The heads of each stage, twice as many as in the one before unless config.json says otherwise."""
    heads = seen.heads(embeds[0], each=CHANNELS.get(embeds[0]), why="every published Hiera of that width")
    times = seen.model_arguments.get("head_mul", 2.0)
    if type(times) not in (int, float) or not 0 < times <= 64:
        raise BadArtefact(f"config.json has head_mul={printable(repr(times)[:200], 60)}; expected a number")
    found = [heads]
    for _ in embeds[1:]:
        found.append(max(1, int(found[-1] * times)))
    return found


def _side(seen: Seen, name: str, default: int) -> int:
    """The side of a square among the arguments. Raises `Unsupported` for anything else."""
    found = squared(seen.model_arguments.get(name, default))
    if type(found) is not int or not 0 <= found <= 4096:
        raise Unsupported(f"config.json has {name}={printable(repr(found)[:200], 60)}; squares are read")
    return found

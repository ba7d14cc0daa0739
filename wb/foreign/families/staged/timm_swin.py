"""timm's Swin, and original checkpoints of it.

Source: timm, `swin_transformer.py`; https://github.com/microsoft/Swin-Transformer, whose merges stand at the end of a stage
and not at the beginning of the next, and whose classifier is called `head`.
Limits: the size of images is no tensor: it is such that the last stage is one window, as in every published one, unless
config.json or an option says it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported, printable
from wb.foreign.families.hf import BACK, HEAD, HEAD_BIAS
from wb.foreign.families.sizes import sizes_of
from wb.foreign.families.staged.hf_swin import MERGE
from wb.foreign.families.staged.swin import Windowed, windowed
from wb.foreign.family import Family, Library, Seen, timm_config
from wb.foreign.rule import Rule, norm, pair, rule, within

TABLE = "attn.relative_position_bias_table"
BLOCK = (
    *norm("norm1", "norm1"),
    rule(TABLE, "mixer.table", "r c h -> (r c) h"),
    *pair("attn.qkv", "mixer.wq mixer.wk mixer.wv", "mixer.bq mixer.bk mixer.bv", HEAD, HEAD_BIAS),
    *pair("attn.proj", "mixer.wo", "mixer.bo", BACK),
    *norm("norm2", "norm2"),
    *pair("mlp.fc1", "ffn.up", "ffn.up_bias"),
    *pair("mlp.fc2", "ffn.down", "ffn.down_bias"),
)


class TimmSwin(Family):
    """Windows and shifted windows in turn; merges at the beginning of a stage."""

    name = "timm-swin"
    title = "Swin of timm"
    library: ClassVar[Library] = "timm"
    ignored = (r".*\.relative_position_index", r".*\.attn_mask")
    options = ("activation", "eps", "image_size")
    head = "head.fc"
    merge = 1  # the stage that has a merge, counted from the one before it

    def recognises(self, seen: Seen) -> bool:
        named = {f"layers.0.blocks.0.{TABLE}", "patch_embed.norm.weight", f"{self.head}.weight"}
        return named <= seen.shapes.keys()

    def architecture(self, seen: Seen) -> Architecture:
        seen.needs({"global_pool": "avg"})
        embed, channels, patch, _ = seen.shape("patch_embed.proj.weight", 4)
        depths = seen.depths(r"layers\.(\d+)\.blocks\.(\d+)\.")
        tables = [seen.shape(f"layers.{i}.blocks.0.{TABLE}", 2) for i in range(len(depths))]
        sides = [(math.isqrt(table[0]) + 1) // 2 for table in tables]
        size = seen.given.image_size or image_side(seen)
        if size is None:
            size = patch * sides[-1] * 2 ** (len(depths) - 1)
            seen.notes.append(
                f"images are taken to be {size}x{size}, so that the last stage is one window; --image-size says another size"
            )
        classes = seen.classes(self.head)
        return windowed(
            Windowed(
                image=seen.image(channels, size, size),
                patch=patch,
                embed=embed,
                depths=depths,
                heads=[table[1] for table in tables],
                windows=_windows(sides, size // patch),
                mlps=[seen.shape(f"layers.{i}.blocks.0.mlp.fc1.weight", 2)[0] for i in range(len(depths))],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.given.activation or "gelu",
                eps=seen.given.eps or 1e-5,
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield from pair("patch_embed.proj", "stem.patches", "stem.patches_bias")
        yield from norm("patch_embed.norm", "first")
        for i, stage in enumerate(a.stages):
            for j in range(len(stage.blocks)):
                yield from within(f"layers.{i}.blocks.{j}.", f"stages.{i}.{j}.", BLOCK)
            yield from within(f"layers.{i + self.merge}.downsample.", f"merges.{i}.", MERGE)
        yield from norm("norm", "norm")
        yield from pair(self.head, "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        if not config:
            return {}
        sizes = sizes_of(a, self.title, config)
        return timm_config(
            a, config, embed_dim=sizes.embed, depths=sizes.depths, num_heads=sizes.heads, mlp_ratio=sizes.ratio
        )


class OriginalSwin(TimmSwin):
    """The layout of the published code."""

    name = "swin"
    title = "Swin of the published code"
    library: ClassVar[Library] = "other"
    head = "head"
    merge = 0


def _windows(sides: Sequence[int], tokens: int) -> list[int]:
    """The sides of each stage's windows, of those of their tables, which are no larger than the stage's picture."""
    return [max(sides) if side == tokens >> i else side for i, side in enumerate(sides)]


def image_side(seen: Seen) -> int | None:
    """The side of images that timm's config.json says."""
    about = seen.config.get("pretrained_cfg")
    size = about.get("input_size") if isinstance(about, dict) else None
    given = seen.argument("img_size")
    if given is not None or not (isinstance(size, list) and len(size) == 3 and type(size[-1]) is int):
        return given
    if size[1] != size[2]:
        raise Unsupported(f"config.json has input_size={printable(repr(size)[:200], 60)}; squares are read")
    return int(size[2])

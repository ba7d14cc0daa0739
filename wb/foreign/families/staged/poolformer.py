"""PoolFormer of transformers and timm, and of the published code.

Source: transformers, `PoolFormerForImageClassification`; timm, `metaformer.py`; https://github.com/sail-sg/poolformer.
Limits: the first version; the second, and the other MetaFormers of timm, have activations and scales that no record has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from wb.core.architecture import Architecture, Block, Stage
from wb.core.checks import MAX_STAGES
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import Classify, Conv2x2, ImageInput, LayerNorm, Merge, Mlp, Norm, Nowhere, PatchStem, Pool, Scale
from wb.core.records.base import Activation
from wb.core.records.merges import Overlapping
from wb.core.records.norms import GroupNorm
from wb.foreign.families.hf import activation_name
from wb.foreign.families.staged.convnext import FLAT, picture
from wb.foreign.family import Family, Library, Seen, hidden_ratio, labelled, same, timm_config
from wb.foreign.rule import Rule, norm, pair, rule, within

# Convolutions between stages: side of the kernel, stride, padding.
MERGES: Mapping[tuple[int, int, int], Merge] = {(3, 2, 1): Overlapping(), (2, 2, 0): Conv2x2()}
STEM = PatchStem(patch=4, kernel=7, padding=2)
GROUP = GroupNorm(eps=1e-5)


def parts(before: str, after: str, up: str, down: str, mixed: str, fed: str) -> tuple[Rule, ...]:
    """The rules of a block, of what a layout calls its parts."""
    return (
        *norm(before, "norm1"),
        *norm(after, "norm2"),
        *pair(up, "ffn.up", "ffn.up_bias", FLAT),
        *pair(down, "ffn.down", "ffn.down_bias", FLAT),
        rule(mixed, "join1.scale"),
        rule(fed, "join2.scale"),
    )


class Numbers(NamedTuple):
    """The numbers of a PoolFormer: widths, depths and hidden units are of each stage, merges of each but the first."""

    image: ImageInput
    stem: PatchStem
    merges: Sequence[Merge]
    widths: Sequence[int]
    depths: Sequence[int]
    mlps: Sequence[int]
    kernel: int
    classes: int
    labels: tuple[str, ...]
    activation: Activation = "gelu"
    scaled: bool = True
    last: Norm = GROUP


def poolformer(p: Numbers) -> Architecture:
    """The architecture of a PoolFormer. A last layer norm is behind the pooling."""
    stages = []
    for i, (width, depth, mlp) in enumerate(zip(p.widths, p.depths, p.mlps, strict=True)):
        mixer = Pool.model_validate({"kernel": p.kernel})
        block = Block(mixer=mixer, ffn=Mlp(mlp=mlp, activation=p.activation), join=Scale() if p.scaled else None)
        stages.append(Stage(embed=width, blocks=(block,) * depth, merge=p.merges[i - 1] if i else None))
    normed = "pooled" if isinstance(p.last, LayerNorm) else "tokens"
    return Architecture(
        input=p.image,
        stem=p.stem,
        stages=tuple(stages),
        head=Classify.model_validate({"classes": p.classes, "labels": p.labels, "normed": normed}),
        norm=GROUP,
        position=Nowhere(),
        last=p.last,
    )


class Layout(Family):
    """What all layouts of PoolFormer have in common: the same parts under other names. `{i}` is a stage, `{j}` a block."""

    options = ("image_size",)
    stem: ClassVar[str]
    merge: ClassVar[str]
    block: ClassVar[str]
    block_rules: ClassVar[Sequence[Rule]]
    ends: ClassVar[str] = "norm"  # the last norm
    head: ClassVar[str]

    def at(self, name: str, i: int, j: int = 0) -> str:
        """A name in the place of a stage and a block."""
        return name.format(i=i, j=j)

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield from pair(self.stem, "stem.patches", "stem.patches_bias")
        for i, stage in enumerate(a.stages):
            for j in range(len(stage.blocks)):
                yield from within(self.at(self.block, i, j), f"stages.{i}.{j}.", self.block_rules)
            yield from pair(self.at(self.merge, i + 1), f"merges.{i}.merge", f"merges.{i}.merge_bias")
        yield from norm(self.ends, "norm")
        yield from pair(self.head, "head", "head_bias")


class HfPoolFormer(Layout):
    """Every size is said by config.json."""

    name = "hf-poolformer"
    title = "PoolFormer of transformers"
    library: ClassVar[Library] = "hf"
    stem = "poolformer.encoder.patch_embeddings.0.projection"
    merge = "poolformer.encoder.patch_embeddings.{i}.projection"
    block = "poolformer.encoder.block.{i}.{j}."
    block_rules = parts("before_norm", "after_norm", "output.conv1", "output.conv2", "layer_scale_1", "layer_scale_2")
    head = "classifier"

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "poolformer"

    def architecture(self, seen: Seen) -> Architecture:
        widths, depths = seen.sizes("hidden_sizes"), seen.sizes("depths")
        cuts = [_numbers(seen, key, len(widths)) for key in ("patch_sizes", "strides", "padding")]
        if len(depths) != len(widths):
            raise BadArtefact(f"config.json has depths of {len(depths)} stages and hidden_sizes of {len(widths)}")
        (kernel, patch, padding), *between = list(zip(*cuts, strict=True))
        for one in between:
            if one not in MERGES:
                said = f"a kernel of {one[0]} with a stride of {one[1]} and a padding of {one[2]}"
                raise Unsupported(
                    f"config.json has {said} between stages; networks of wb have 3, 2 and 1, or 2, 2 and 0"
                )
        plain = kernel == patch and not padding
        classes = seen.classes("classifier")
        side = seen.given.image_size or (seen.whole("image_size") if "image_size" in seen.config else picture(seen))
        return poolformer(
            Numbers(
                image=seen.image(seen.whole("num_channels", 3), side, side),
                stem=PatchStem(patch=patch, kernel=None if plain else kernel, padding=padding),
                merges=[MERGES[one] for one in between],
                widths=widths,
                depths=depths,
                mlps=[int(width * seen.number("mlp_ratio", 4.0)) for width in widths],
                kernel=seen.whole("pool_size", 3),
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.activation("hidden_act", "gelu"),
                scaled=seen.config.get("use_layer_scale", True) is not False,
            )
        )

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        blocks = [(stage.embed, block) for _, stage, block in a.blocks()]
        ffns = [(embed, ffn) for embed, block in blocks if isinstance(ffn := block.ffn, Mlp)]
        pools = [mixer.kernel for _, block in blocks if isinstance(mixer := block.mixer, Pool)]
        if not isinstance(a.stem, PatchStem):
            raise Unsupported(f"{self.title} has a stem of one convolution")
        known = {merge.kind: numbers for numbers, merge in MERGES.items()}
        cuts = [(a.stem.kernel or a.stem.patch, a.stem.patch, a.stem.padding)]
        cuts += [known[stage.merge.kind] for stage in a.stages if stage.merge is not None]
        found = {
            "model_type": "poolformer",
            "architectures": ["PoolFormerForImageClassification"],
            "hidden_sizes": [stage.embed for stage in a.stages],
            "depths": [len(stage.blocks) for stage in a.stages],
            "num_encoder_blocks": len(a.stages),
            **dict(zip(("patch_sizes", "strides", "padding"), map(list, zip(*cuts, strict=True)), strict=True)),
            "pool_size": same(pools, "sides of neighbourhoods", self.title),
            "mlp_ratio": hidden_ratio(((n, ffn.mlp) for n, ffn in ffns), self.title, config.get("mlp_ratio")),
            "hidden_act": activation_name(same((f.activation for _, f in ffns), "activations", self.title), config),
            "use_layer_scale": same((block.join is not None for _, block in blocks), "layer scales", self.title),
            "image_size": a.image.height,
            "num_channels": a.image.channels,
            **labelled(a),
        }
        return {**{key: value for key, value in config.items() if key not in found}, **found}


class TimmPoolFormer(Layout):
    """timm's, whose last norm is a layer norm behind the pooling."""

    name = "timm-poolformer"
    title = "PoolFormer of timm"
    library: ClassVar[Library] = "timm"
    named: ClassVar[bool] = True
    stem, merge, block = "stem.conv", "stages.{i}.downsample.conv", "stages.{i}.blocks.{j}."
    block_rules = parts("norm1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale1.scale", "layer_scale2.scale")
    ends, head = "head.norm", "head.fc"
    last: ClassVar[Norm] = LayerNorm(eps=1e-6)

    def recognises(self, seen: Seen) -> bool:
        named = {"stem.conv.weight", "stages.0.blocks.0.layer_scale1.scale", "head.fc.weight"} <= seen.shapes.keys()
        return named and not any(".token_mixer." in name or ".res_scale" in name for name in seen.shapes)

    def depths(self, seen: Seen) -> list[int]:
        """The number of blocks of each stage."""
        return seen.depths(r"stages\.(\d+)\.blocks\.(\d+)\.")

    def architecture(self, seen: Seen) -> Architecture:
        seen.needs({"global_pool": "avg"})
        _, channels, *_ = seen.shape(f"{self.stem}.weight", 4)
        depths, classes = self.depths(seen), seen.classes(self.head)
        up = self.block_rules[4].theirs[0]
        shapes = [seen.shape(self.at(self.block, i) + up, 4) for i in range(len(depths))]
        side = picture(seen)
        return poolformer(
            Numbers(
                image=seen.image(channels, side, side),
                stem=STEM,
                merges=[Overlapping()] * len(depths),
                widths=[shape[1] for shape in shapes],
                depths=depths,
                mlps=[4 * shape[1] for shape in shapes],
                kernel=seen.argument("pool_size") or 3,
                classes=classes,
                labels=seen.labels(classes),
                last=self.last,
            )
        )

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        return timm_config(a, config)  # the name alone says the sizes


class OriginalPoolFormer(TimmPoolFormer):
    """The layout of the published code: convolutions between stages have the odd numbers."""

    name = "poolformer"
    title = "PoolFormer of the published code"
    library: ClassVar[Library] = "other"
    stem, merge, block = "patch_embed.proj", "network.{odd}.proj", "network.{even}.{j}."
    block_rules = parts("norm1", "norm2", "mlp.fc1", "mlp.fc2", "layer_scale_1", "layer_scale_2")
    ends, head = "norm", "head"
    last = GROUP

    def at(self, name: str, i: int, j: int = 0) -> str:
        return name.format(odd=2 * i - 1, even=2 * i, j=j)

    def recognises(self, seen: Seen) -> bool:
        return {"patch_embed.proj.weight", "network.0.0.layer_scale_1", "head.weight"} <= seen.shapes.keys()

    def depths(self, seen: Seen) -> list[int]:
        return seen.depths(r"network\.(\d+)\.(\d+)\.", 2 * MAX_STAGES)[::2]


def _numbers(seen: Seen, key: str, count: int) -> list[int]:
    """A list of numbers in config.json, one for each stage. Raises `BadArtefact` if it is none."""
    found = seen.config.get(key)
    if not isinstance(found, list) or len(found) != count or any(type(one) is not int for one in found):
        raise BadArtefact(f"config.json has {key}={printable(repr(found), 60)}; expected {count} whole numbers")
    return found

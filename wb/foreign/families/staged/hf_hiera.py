"""Hugging Face's Hiera.

Source: transformers, `HieraForImageClassification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import LayerNorm, Mlp, PatchStem
from wb.foreign.families.hf import activation_name
from wb.foreign.families.staged.hiera import Pyramid, layer, pyramid, side_of, switches, units_of
from wb.foreign.family import Family, Seen, hidden_ratio, labelled, same
from wb.foreign.rule import Rule, norm, pair, rule

NORMS = ("layernorm_before", "layernorm_after")
PRETRAINING = {
    "decoder_depth": None, "decoder_hidden_size": None, "decoder_num_heads": None, "drop_path_rate": 0.0,
    "initializer_range": 0.02, "layer_norm_init": 1.0, "mask_ratio": 0.6, "normalize_pixel_loss": True,
}  # fmt: skip


class HfHiera(Family):
    """Mask units in the first stages, attention over the whole picture in the last ones, and a norm behind the pooling."""

    name = "hf-hiera"
    title = "Hiera of transformers"
    library = "hf"

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "hiera"

    def architecture(self, seen: Seen) -> Architecture:
        depths, heads = seen.sizes("depths"), seen.sizes("num_heads")
        count = len(depths)
        if len(heads) != count:
            raise BadArtefact(f"config.json has depths of {count} stages and num_heads of {len(heads)}")
        _pooling(seen, count)
        units = switches(seen.config.get("masked_unit_attention"), "masked_unit_attention", count)
        embed, times = seen.whole("embed_dim"), seen.number("embed_dim_multiplier", 2.0)
        embeds = _widths(embed, times, count)
        stem = PatchStem(
            patch=_square(seen, "patch_stride"),
            kernel=_square(seen, "patch_size"),
            padding=_square(seen, "patch_padding", least=0),
        )
        sides, classes = seen.sizes("image_size"), seen.classes("classifier")
        return pyramid(
            Pyramid(
                image=seen.image(seen.whole("num_channels", 3), sides[0], sides[-1]),
                stem=stem,
                embeds=embeds,
                depths=depths,
                heads=heads,
                mlps=[int(each * seen.number("mlp_ratio", 4.0)) for each in embeds],
                side=_square(seen, "masked_unit_size"),
                units=units,
                entering=[units[i] or units[max(0, i - 1)] for i in range(count)],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.activation("hidden_act", "gelu"),
                eps=seen.number("layer_norm_eps", 1e-6),
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule("hiera.embeddings.position_embeddings", "position", "n d -> 1 n d")
        yield from pair("hiera.embeddings.patch_embeddings.projection", "stem.patches", "stem.patches_bias")
        for i, stage in enumerate(a.stages):
            for j in range(len(stage.blocks)):
                yield from layer(f"hiera.encoder.stages.{i}.layers.{j}.", i, j, NORMS)
        yield from norm("hiera.pooler.layernorm", "norm")
        yield from pair("classifier", "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        embeds = [stage.embed for stage in a.stages]
        ffns = [(stage.embed, ffn) for _, stage, block in a.blocks() if isinstance(ffn := block.ffn, Mlp)]
        activation = same((ffn.activation for _, ffn in ffns), "activations", self.title)
        found = {
            "model_type": "hiera",
            "architectures": ["HieraForImageClassification"],
            "embed_dim": embeds[0],
            "embed_dim_multiplier": _multiplier(embeds, config.get("embed_dim_multiplier")),
            "hidden_size": embeds[-1],
            "depths": [len(stage.blocks) for stage in a.stages],
            "num_layers": len(a.stages),
            "num_heads": [_heads(a, i, self.title) for i in range(len(a.stages))],
            "mlp_ratio": hidden_ratio(((n, ffn.mlp) for n, ffn in ffns), self.title, config.get("mlp_ratio")),
            "hidden_act": activation_name(activation, config),
            "layer_norm_eps": a.norm.eps if isinstance(a.norm, LayerNorm) else None,
            "num_query_pool": len(a.stages) - 1,
            "query_stride": [2, 2],
            "masked_unit_size": [side_of(len(a.stages))] * 2,
            "masked_unit_attention": units_of(a),
            "image_size": [a.image.height, a.image.width],
            **_patches(a, self.title),
            "num_channels": a.image.channels,
            **labelled(a),
        }
        kept = {key: value for key, value in config.items() if key not in found}
        return {**(kept or PRETRAINING), **found}


def _widths(embed: int, times: float, count: int) -> list[int]:
    """The width of each stage."""
    return [int(embed * times**i) for i in range(count)]


def _multiplier(embeds: Sequence[int], came: object) -> float:
    """How many times as wide a stage is as the one before: as it came, where that gives these widths."""
    if isinstance(came, int | float) and _widths(embeds[0], came, len(embeds)) == list(embeds):
        return float(came)
    return embeds[1] / embeds[0] if len(embeds) > 1 else 2.0


def _pooling(seen: Seen, stages: int) -> None:
    """Raises `Unsupported` unless 2x2 queries are pooled at the beginning of every stage but the first."""
    pools = seen.whole("num_query_pool", 3) if stages > 1 else 0
    if pools != stages - 1 or _square(seen, "query_stride") != 2:
        raise Unsupported(
            f"config.json has {stages} stages, num_query_pool={pools} and query_stride="
            f"{printable(repr(seen.config.get('query_stride')), 60)}; networks of wb pool 2x2 tokens between all stages"
        )


def _square(seen: Seen, key: str, least: int = 1) -> int:
    """The side of a square in config.json. Raises `Unsupported` for other rectangles, `BadArtefact` for no sizes."""
    given = seen.config.get(key)
    if least == 0 and given == [0, 0]:
        return 0
    sides = seen.sizes(key)
    if len(sides) != 2 or sides[0] != sides[1]:
        raise Unsupported(f"config.json has {key}={sides}; squares are read")
    return sides[0]


def _heads(a: Architecture, stage: int, title: str) -> int:
    """The heads of a stage: of its merge and of all mixers."""
    mixers = [block.mixer for block in a.stages[stage].blocks]
    parts = [part for part in (a.stages[stage].merge, *mixers) if part is not None]
    return same((getattr(part, "heads", 0) for part in parts), "heads in a stage", title)


def _patches(a: Architecture, title: str) -> dict[str, Any]:
    """The keys of config.json that say how images are cut."""
    if not isinstance(a.stem, PatchStem):
        raise Unsupported(f"{title} begins with one convolution, and this network with a {a.stem.title}")
    return {
        "patch_size": [a.stem.kernel or a.stem.patch] * 2,
        "patch_stride": [a.stem.patch] * 2,
        "patch_padding": [a.stem.padding] * 2,
    }

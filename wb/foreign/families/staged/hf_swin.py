"""Hugging Face's Swin.

Source: transformers, `SwinForImageClassification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported, printable
from wb.core.records import LayerNorm, Mlp
from wb.core.records.attention import Window
from wb.foreign.families.hf import BACK, HEAD, HEAD_BIAS, activation_name
from wb.foreign.families.staged.swin import Windowed, windowed
from wb.foreign.family import Family, Seen, hidden_ratio, labelled, same
from wb.foreign.rule import Rule, norm, pair, rule, within

BLOCK = (
    *norm("layernorm_before", "norm1"),
    *norm("layernorm_after", "norm2"),
    *pair("attention.self.query", "mixer.wq", "mixer.bq", HEAD, HEAD_BIAS),
    *pair("attention.self.key", "mixer.wk", "mixer.bk", HEAD, HEAD_BIAS),
    *pair("attention.self.value", "mixer.wv", "mixer.bv", HEAD, HEAD_BIAS),
    rule("attention.self.relative_position_bias_table", "mixer.table", "r c h -> (r c) h"),
    *pair("attention.output.dense", "mixer.wo", "mixer.bo", BACK),
    *pair("intermediate.dense", "ffn.up", "ffn.up_bias"),
    *pair("output.dense", "ffn.down", "ffn.down_bias"),
)
MERGE = (  # of four tokens, first the two of a column
    *pair("norm", "gain", "shift", "d i j -> (j i d)", "d i j -> (j i d)"),
    rule("reduction.weight", "merge", "e d i j -> e (j i d)"),
)
NEEDED = {"qkv_bias": True, "use_absolute_embeddings": False}  # other values no record has


class HfSwin(Family):
    """Windows and shifted windows in turn, and patch merging between stages."""

    name = "hf-swin"
    title = "Swin of transformers"
    library = "hf"
    ignored = (r"swin\.embeddings\.mask_token", r"swin\..*\.relative_position_index")

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "swin"

    def architecture(self, seen: Seen) -> Architecture:
        for key, needed in NEEDED.items():
            if seen.config.get(key, needed) != needed:
                given = printable(str(seen.config[key]), 60)
                raise Unsupported(f"config.json has {key}={given}; networks of wb have {needed}")
        depths, heads = seen.sizes("depths"), seen.sizes("num_heads")
        if len(depths) != len(heads):
            raise BadArtefact(f"config.json has depths of {len(depths)} stages and num_heads of {len(heads)}")
        embed, size, classes = (
            seen.whole("embed_dim"),
            seen.whole("image_size"),
            seen.classes("classifier"),
        )
        return windowed(
            Windowed(
                image=seen.image(seen.whole("num_channels", 3), size, size),
                patch=seen.whole("patch_size"),
                embed=embed,
                depths=depths,
                heads=heads,
                windows=[seen.whole("window_size")] * len(depths),
                mlps=[int(seen.number("mlp_ratio", 4.0) * embed * 2**i) for i in range(len(depths))],
                classes=classes,
                labels=seen.labels(classes),
                activation=seen.activation("hidden_act", "gelu"),
                eps=seen.number("layer_norm_eps", 1e-5),
            )
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield from pair("swin.embeddings.patch_embeddings.projection", "stem.patches", "stem.patches_bias")
        yield from norm("swin.embeddings.norm", "first")
        for i, stage in enumerate(a.stages):
            for j in range(len(stage.blocks)):
                yield from within(f"swin.encoder.layers.{i}.blocks.{j}.", f"stages.{i}.{j}.", BLOCK)
            yield from within(f"swin.encoder.layers.{i}.downsample.", f"merges.{i}.", MERGE)
        yield from norm("swin.layernorm", "norm")
        yield from pair("classifier", "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        mixers = [[m for b in stage.blocks if isinstance(m := b.mixer, Window)] for stage in a.stages]
        ffns = [(stage.embed, ffn) for _, stage, b in a.blocks() if isinstance(ffn := b.ffn, Mlp)]
        activation = same((ffn.activation for _, ffn in ffns), "activations", self.title)
        found = {
            "model_type": "swin",
            "architectures": ["SwinForImageClassification"],
            "embed_dim": a.stages[0].embed,
            "hidden_size": a.stages[-1].embed,
            "depths": [len(stage.blocks) for stage in a.stages],
            "num_heads": [same((m.heads for m in each), "heads in a stage", self.title) for each in mixers],
            "num_layers": len(a.stages),
            "window_size": same((m.window for each in mixers for m in each), "sides of windows", self.title),
            "mlp_ratio": hidden_ratio(((n, ffn.mlp) for n, ffn in ffns), self.title, config.get("mlp_ratio")),
            "hidden_act": activation_name(activation, config),
            "layer_norm_eps": a.norm.eps if isinstance(a.norm, LayerNorm) else None,
            "image_size": a.image.height,
            "patch_size": a.stem.patch,
            "num_channels": a.image.channels,
            **NEEDED,
            **labelled(a),
        }
        return {**{key: value for key, value in config.items() if key not in found}, **found}

"""What ViT and DeiT of transformers have in common: names of tensors, and keys of config.json."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.core.records import LayerNorm, Mlp, Softmax
from wb.foreign.families.vitlike import Plain, plain
from wb.foreign.family import ACTIVATIONS, Seen, labelled, same
from wb.foreign.rule import Rule, norm, pair, rule, within

HEAD, HEAD_BIAS, BACK = "h k d -> (h k) d", "h k -> (h k)", "d h v -> d (h v)"
BLOCK = (
    *norm("layernorm_before", "norm1"),
    *norm("layernorm_after", "norm2"),
    *pair("attention.attention.query", "mixer.wq", "mixer.bq", HEAD, HEAD_BIAS),
    *pair("attention.attention.key", "mixer.wk", "mixer.bk", HEAD, HEAD_BIAS),
    *pair("attention.attention.value", "mixer.wv", "mixer.bv", HEAD, HEAD_BIAS),
    *pair("attention.output.dense", "mixer.wo", "mixer.bo", BACK),
    *pair("intermediate.dense", "ffn.up", "ffn.up_bias"),
    *pair("output.dense", "ffn.down", "ffn.down_bias"),
)


def ends(prefix: str) -> Iterator[Rule]:
    """Rules of what stands before and behind the blocks, but for prefix tokens and classifiers."""
    yield rule(f"{prefix}embeddings.position_embeddings", "position", "n d -> 1 n d")
    yield from pair(f"{prefix}embeddings.patch_embeddings.projection", "stem.patches", "stem.patches_bias")
    yield from norm(f"{prefix}layernorm", "norm")


def block(a: Architecture, prefix: str) -> Iterator[Rule]:
    """Rules of all blocks."""
    for j in range(len(a.stages[0].blocks)):
        yield from within(f"{prefix}encoder.layer.{j}.", f"stages.0.{j}.", BLOCK)


def described(seen: Seen, *, prefix: int, pool: str, classifier: str) -> Architecture:
    """The architecture that a config.json says, with as many classes as the classifier's weight has rows."""
    embed, heads = seen.whole("hidden_size"), seen.whole("num_attention_heads")
    if embed % heads:
        raise BadArtefact(
            f"config.json has hidden_size={embed} and num_attention_heads={heads}; expected a divisor of it"
        )
    classes = seen.classes(classifier)
    size, patch = seen.whole("image_size", 224), seen.whole("patch_size", 16)
    return plain(
        Plain(
            image=seen.image(seen.whole("num_channels", 3), size, size),
            patch=patch,
            embed=embed,
            depth=seen.whole("num_hidden_layers"),
            heads=heads,
            channels=embed // heads,
            mlp=seen.whole("intermediate_size"),
            classes=classes,
            labels=seen.labels(classes),
            activation=seen.activation("hidden_act", "gelu"),
            eps=seen.number("layer_norm_eps", 1e-12),
            prefix=prefix,
            pool=pool,
            qkv_bias=seen.config.get("qkv_bias", True) is not False,
        )
    )


def configured(a: Architecture, config: Mapping[str, Any], kind: str, model: str, title: str) -> dict[str, Any]:
    """The config.json of an architecture, with the keys of `config` that are not of its sizes."""
    mixers = [mixer for _, _, block in a.blocks() if isinstance(mixer := block.mixer, Softmax)]
    ffns = [ffn for _, _, block in a.blocks() if isinstance(ffn := block.ffn, Mlp)]
    activation = same((ffn.activation for ffn in ffns), "activations", title)
    found = {
        "model_type": kind,
        "architectures": [model],
        "hidden_size": a.stages[0].embed,
        "num_hidden_layers": len(a.stages[0].blocks),
        "num_attention_heads": same((mixer.heads for mixer in mixers), "heads", title),
        "intermediate_size": same((ffn.mlp for ffn in ffns), "hidden units", title),
        "hidden_act": activation_name(activation, config),
        "layer_norm_eps": a.norm.eps if isinstance(a.norm, LayerNorm) else None,
        "image_size": a.image.height,
        "patch_size": a.stem.patch,
        "num_channels": a.image.channels,
        "qkv_bias": same((mixer.bias and mixer.qkv_bias for mixer in mixers), "biases", title),
        **labelled(a),
    }
    defaults = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    kept = {key: value for key, value in config.items() if key not in found}
    return {**(kept or defaults), **found}


def activation_name(activation: str, config: Mapping[str, Any], key: str = "hidden_act") -> str:
    """What transformers calls an activation: as `key` of `config` says if that is the same, else by its first name."""
    named = str(config.get(key))
    return (
        named
        if ACTIVATIONS.get(named) == activation
        else next(n for n, ours in ACTIVATIONS.items() if ours == activation)
    )

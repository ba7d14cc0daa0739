"""Decoders of Llama's layout: Llama, Qwen2 and Qwen3 of transformers, versions 4 and 5.

Source: transformers, `LlamaForCausalLM`, `Qwen2ForCausalLM`, `Qwen3ForCausalLM`; Touvron et al., "LLaMA: Open and Efficient
Foundation Language Models", 2023.
Limits: one set of gains for the queries of all heads, and one for the keys, is handed back, as Qwen3 has it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from torch import Tensor

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import EmbedStem, Language, Nowhere
from wb.core.records.attention import Rotary
from wb.core.records.ffns import Glu
from wb.core.records.norms import RmsNorm
from wb.foreign.families.hf import activation_name
from wb.foreign.families.texts.rope import rope_of, rope_settings
from wb.foreign.families.texts.settings import HOW_LONG, divided, places_of, plainly, text_input, tied
from wb.foreign.family import Family, Seen, same
from wb.foreign.rule import Rule, pair, rule, within

TABLE, HEAD = "model.embed_tokens.weight", "lm_head.weight"
BLOCK = (
    rule("input_layernorm.weight", "norm1.gain"),
    *pair("self_attn.q_proj", "mixer.gq", "mixer.gbq", "h q two k d -> (h q two k) d", "h q two k -> (h q two k)"),
    *pair("self_attn.k_proj", "mixer.gk", "mixer.gbk", "h two k d -> (h two k) d", "h two k -> (h two k)"),
    *pair("self_attn.v_proj", "mixer.gv", "mixer.gbv", "h v d -> (h v) d", "h v -> (h v)"),
    rule("self_attn.o_proj.weight", "mixer.go", "d h q v -> d (h q v)"),
    rule("self_attn.q_norm.weight", "mixer.q_gain", "h q two k -> (two k)"),
    rule("self_attn.k_norm.weight", "mixer.k_gain", "h two k -> (two k)"),
    rule("post_attention_layernorm.weight", "norm2.gain"),
    *pair("mlp.gate_proj", "ffn.gate", "ffn.gate_bias"),
    *pair("mlp.up_proj", "ffn.up", "ffn.up_bias"),
    *pair("mlp.down_proj", "ffn.down", "ffn.down_bias"),
)


class LlamaLike(Family):
    """Rotary positions, grouped queries, gated linear units and RMS norms; `rms` normalises queries and keys."""

    library = "hf"
    takes = "text"
    auto = "AutoModelForCausalLM"
    prefix = "model."
    ignored = (
        r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq",
    )  # of old versions: it follows from the base
    kind: ClassVar[str]
    model: ClassVar[str]
    rms: ClassVar[bool] = False
    biased: ClassVar[bool] = False  # queries, keys and values
    channels: ClassVar[int | None] = None  # of a head, where nothing says them and they are no share of the stream

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == self.kind

    def architecture(self, seen: Seen) -> Architecture:
        if "score.weight" in seen.shapes:
            raise Unsupported(
                f"it is a {self.title} that classifies by its last token, which no head of wb reads; save a {self.model}"
            )
        plainly(seen, {"use_sliding_window": (False,)}, "networks of wb see all tokens before, in every block")
        plainly(seen, {"attention_bias": (False, None)}, "no record has a bias on the output of rotary attention")
        embed, heads = seen.whole("hidden_size"), seen.whole("num_attention_heads")
        groups, places = seen.whole("num_key_value_heads", heads), seen.whole(HOW_LONG, 2048, 1 << 30)
        channels = seen.whole("head_dim", self.channels or divided(embed, heads, "hidden_size", "num_attention_heads"))
        planes, eps = (
            divided(channels, 2, "head_dim", "planes of two channels, each"),
            seen.number("rms_norm_eps", 1e-6),
        )
        rope = rope_of(seen.config, planes, places)
        mixer = Rotary(
            heads=groups,
            queries=divided(heads, groups, "num_attention_heads", "num_key_value_heads"),
            qk=planes,
            v=channels,
            base=rope.base,
            scale=None if rope.sharpness == 1.0 else rope.sharpness**2 * channels**-0.5,
            qkv_bias=self.biased,
            rms=self.rms,
            eps=eps if self.rms else Rotary.model_fields["eps"].default,
        )
        ffn = Glu(
            mlp=seen.whole("intermediate_size", most=1 << 16),
            activation=seen.activation("hidden_act", "silu"),
            bias=seen.config.get("mlp_bias", False) is True,
        )
        return Architecture(
            input=text_input(seen, places),
            stem=EmbedStem(),
            stages=(Stage(embed=embed, blocks=(Block(mixer=mixer, ffn=ffn),) * seen.whole("num_hidden_layers")),),
            head=Language(tied=tied(seen)),
            norm=RmsNorm(eps=eps),
            position=Nowhere(),
            last=RmsNorm(eps=eps),
            causal=True,
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule(TABLE, "stem.table")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"model.layers.{j}.", f"stages.0.{j}.", BLOCK)
        yield rule("model.norm.weight", "norm.gain")
        yield rule(HEAD, "head")

    def again(self, a: Architecture) -> Mapping[str, str]:
        return {HEAD: TABLE} if isinstance(a.head, Language) and a.head.tied else {}

    def made(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Tensor]:
        found = {}
        for j, block in enumerate(a.stages[0].blocks):
            if isinstance(block.mixer, Rotary):
                given = {"rope_theta": block.mixer.base, **config}
                rope = rope_of(given, block.mixer.qk, places_of(a.layout.tokens, config.get(HOW_LONG)))
                found[f"stages.0.{j}.mixer.frequencies"] = rope.frequencies.expand(block.mixer.heads, -1)
        return found

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        mixers = [mixer for _, _, block in a.blocks() if isinstance(mixer := block.mixer, Rotary)]
        ffns = [ffn for _, _, block in a.blocks() if isinstance(ffn := block.ffn, Glu)]
        groups = same((mixer.heads for mixer in mixers), "key/value heads", self.title)
        heads = groups * same((mixer.queries for mixer in mixers), "queries per key/value head", self.title)
        base = same((mixer.base for mixer in mixers), "bases of rotary positions", self.title)
        activation = same((ffn.activation for ffn in ffns), "activations", self.title)
        found = {
            "model_type": self.kind,
            "architectures": [self.model],
            "vocab_size": a.input.specs()[0].below,
            HOW_LONG: places_of(a.layout.tokens, config.get(HOW_LONG)),
            "hidden_size": a.stages[0].embed,
            "num_hidden_layers": len(a.stages[0].blocks),
            "num_attention_heads": heads,
            "num_key_value_heads": groups,
            "head_dim": 2 * same((mixer.qk for mixer in mixers), "planes of a head", self.title),
            "intermediate_size": same((ffn.mlp for ffn in ffns), "hidden units", self.title),
            "hidden_act": activation_name(activation, config),
            "rms_norm_eps": a.norm.eps if isinstance(a.norm, RmsNorm) else None,
            "tie_word_embeddings": isinstance(a.head, Language) and a.head.tied,
            "attention_bias": False,
            "mlp_bias": same((ffn.bias for ffn in ffns), "biases", self.title),
            **rope_settings(config, base),
        }
        return {**config, **found}


class Llama(LlamaLike):
    """No biases, no norms of queries and keys."""

    name = "llama"
    title = "Llama of transformers"
    kind = "llama"
    model = "LlamaForCausalLM"


class Qwen2(LlamaLike):
    """Biases of queries, keys and values."""

    name = "qwen2"
    title = "Qwen2 of transformers"
    kind = "qwen2"
    model = "Qwen2ForCausalLM"
    biased = True


class Qwen3(LlamaLike):
    """Norms of queries and keys, head by head."""

    name = "qwen3"
    title = "Qwen3 of transformers"
    kind = "qwen3"
    model = "Qwen3ForCausalLM"
    rms = True
    channels = 128

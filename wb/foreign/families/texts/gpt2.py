"""GPT-2 of transformers.

Source: transformers, `GPT2LMHeadModel`; Radford et al., "Language Models are Unsupervised Multitask Learners", 2019.
Differs: linear maps are stored with inputs as rows there, and as columns here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import EmbedStem, Language, LayerNorm, Mlp, Softmax
from wb.foreign.families.hf import activation_name
from wb.foreign.families.texts.settings import divided, places_of, plainly, text_input, tied
from wb.foreign.family import Family, Seen, same
from wb.foreign.rule import Rule, norm, pair, rule, within

TABLE, HEAD = "transformer.wte.weight", "lm_head.weight"
FUSED = ("mixer.wq", "mixer.wk", "mixer.wv")
BLOCK = (
    *norm("ln_1", "norm1"),
    Rule(("attn.c_attn.weight",), FUSED, "h k d -> d (h k)", along=1),
    rule("attn.c_attn.bias", "mixer.bq mixer.bk mixer.bv", "h k -> (h k)"),
    *pair("attn.c_proj", "mixer.wo", "mixer.bo", "d h v -> (h v) d"),
    *norm("ln_2", "norm2"),
    *pair("mlp.c_fc", "ffn.up", "ffn.up_bias", "m d -> d m"),
    *pair("mlp.c_proj", "ffn.down", "ffn.down_bias", "d m -> m d"),
)
BY_LAYER = "scale_attn_by_inverse_layer_idx"


class Gpt2(Family):
    """Learned positions, pre-norm, biases everywhere, and a head that usually reads the table of the embeddings."""

    name = "gpt2"
    title = "GPT-2 of transformers"
    library = "hf"
    takes = "text"
    auto = "AutoModelForCausalLM"
    prefix = "transformer."
    ignored = (r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias",)  # masks, of old versions

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == "gpt2"

    def architecture(self, seen: Seen) -> Architecture:
        if "score.weight" in seen.shapes:
            raise Unsupported(
                "it is a GPT-2 that classifies by its last token, which no head of wb reads; save a GPT2LMHeadModel"
            )
        plainly(seen, {"add_cross_attention": (False,)}, "networks of wb have one text, and no other beside it")
        embed, heads = seen.whole("n_embd"), seen.whole("n_head")
        channels, eps = divided(embed, heads, "n_embd", "n_head"), seen.number("layer_norm_epsilon", 1e-5)
        scaled, by_layer = seen.config.get("scale_attn_weights", True), seen.config.get(BY_LAYER, False)
        ffn = Mlp(mlp=seen.whole("n_inner", 4 * embed), activation=seen.activation("activation_function", "gelu_new"))
        blocks = []
        for j in range(seen.whole("n_layer")):
            scale = (channels**-0.5 if scaled else 1.0) / (j + 1 if by_layer else 1)
            mixer = Softmax(heads=heads, qk=channels, v=channels, scale=None if scale == channels**-0.5 else scale)
            blocks.append(Block(mixer=mixer, ffn=ffn))
        return Architecture(
            input=text_input(seen, seen.whole("n_positions", 1024)),
            stem=EmbedStem(),
            stages=(Stage(embed=embed, blocks=tuple(blocks)),),
            head=Language(tied=tied(seen)),
            norm=LayerNorm(eps=eps),
            last=LayerNorm(eps=eps),
            causal=True,
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        yield rule(TABLE, "stem.table")
        yield rule("transformer.wpe.weight", "position")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"transformer.h.{j}.", f"stages.0.{j}.", BLOCK)
        yield from norm("transformer.ln_f", "norm")
        yield rule(HEAD, "head")

    def again(self, a: Architecture) -> Mapping[str, str]:
        return {HEAD: TABLE} if isinstance(a.head, Language) and a.head.tied else {}

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        mixers = [mixer for _, _, block in a.blocks() if isinstance(mixer := block.mixer, Softmax)]
        ffns = [ffn for _, _, block in a.blocks() if isinstance(ffn := block.ffn, Mlp)]
        embed, mlp = a.stages[0].embed, same((ffn.mlp for ffn in ffns), "hidden units", self.title)
        activation = same((ffn.activation for ffn in ffns), "activations", self.title)
        found = {
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "vocab_size": a.input.specs()[0].below,
            "n_positions": places_of(a.layout.tokens, config.get("n_positions")),
            "n_embd": embed,
            "n_layer": len(a.stages[0].blocks),
            "n_head": same((mixer.heads for mixer in mixers), "heads", self.title),
            "n_inner": None if mlp == 4 * embed else mlp,
            "activation_function": activation_name(activation, config, "activation_function"),
            "layer_norm_epsilon": a.norm.eps if isinstance(a.norm, LayerNorm) else None,
            "tie_word_embeddings": isinstance(a.head, Language) and a.head.tied,
        }
        return {**config, **found}

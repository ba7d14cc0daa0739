"""Encoders of BERT's layout that classify texts: BERT, RoBERTa and DistilBERT of transformers.

Source: transformers, `BertForSequenceClassification`, `RobertaForSequenceClassification`,
`DistilBertForSequenceClassification`; Devlin et al., 2019; Liu et al., 2019; Sanh et al., 2019.
Limits: all tokens are of the first segment. Padding stands behind a text: BERT and DistilBERT count places from the first token,
be it padding, so that those whose tokenizer pads in front are refused. RoBERTa counts places without the tokens of padding:
where one of these stands within a text, it gives other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import Classify, EmbedStem, LayerNorm, Mlp, Post, Softmax
from wb.core.records.heads import Hidden
from wb.foreign.families.hf import BACK, HEAD, HEAD_BIAS, activation_name
from wb.foreign.families.texts.settings import HOW_LONG, divided, places_of, plainly, text_input
from wb.foreign.family import Family, Seen, labelled, same
from wb.foreign.rule import Rule, norm, pair, rule, within

BLOCK = (
    *pair("attention.self.query", "mixer.wq", "mixer.bq", HEAD, HEAD_BIAS),
    *pair("attention.self.key", "mixer.wk", "mixer.bk", HEAD, HEAD_BIAS),
    *pair("attention.self.value", "mixer.wv", "mixer.bv", HEAD, HEAD_BIAS),
    *pair("attention.output.dense", "mixer.wo", "mixer.bo", BACK),
    *norm("attention.output.LayerNorm", "norm1"),
    *pair("intermediate.dense", "ffn.up", "ffn.up_bias"),
    *pair("output.dense", "ffn.down", "ffn.down_bias"),
    *norm("output.LayerNorm", "norm2"),
)
DISTILLED = (
    *pair("attention.q_lin", "mixer.wq", "mixer.bq", HEAD, HEAD_BIAS),
    *pair("attention.k_lin", "mixer.wk", "mixer.bk", HEAD, HEAD_BIAS),
    *pair("attention.v_lin", "mixer.wv", "mixer.bv", HEAD, HEAD_BIAS),
    *pair("attention.out_lin", "mixer.wo", "mixer.bo", BACK),
    *norm("sa_layer_norm", "norm1"),
    *pair("ffn.lin1", "ffn.up", "ffn.up_bias"),
    *pair("ffn.lin2", "ffn.down", "ffn.down_bias"),
    *norm("output_layer_norm", "norm2"),
)


class BertLike(Family):
    """Post-norm behind a norm of the embeddings, and a classifier with a hidden layer on the first token."""

    library = "hf"
    takes = "text"
    counts_padding = True
    auto = "AutoModelForSequenceClassification"
    kind: ClassVar[str]
    model: ClassVar[str]
    classifier: ClassVar[tuple[str, str]]  # the hidden layer of the classifier, and its last
    unit: ClassVar[Literal["tanh", "relu"]] = "tanh"
    layers: ClassVar[str]  # what the names of blocks begin with
    block: ClassVar[tuple[Rule, ...]] = BLOCK
    offset: ClassVar[int] = 0  # rows of positions in front of the first place
    typed: ClassVar[bool] = True
    # What config.json calls the width, blocks, heads, hidden units and activation.
    keys: ClassVar[tuple[str, str, str, str, str]] = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act",
    )  # fmt: skip
    eps_key: ClassVar[str | None] = "layer_norm_eps"

    def recognises(self, seen: Seen) -> bool:
        return seen.config.get("model_type") == self.kind

    def architecture(self, seen: Seen) -> Architecture:
        hidden, last = self.classifier
        if f"{last}.weight" not in seen.shapes:
            raise Unsupported(f"it has no {last}.weight, so that it is no classifier of texts; save a {self.model}")
        plainly(seen, {"position_embedding_type": ("absolute",)}, "networks of wb have absolute positions there")
        one = (None, "single_label_classification")
        plainly(seen, {"problem_type": one}, "networks of wb name one class of several, each by its share of all")
        plainly(seen, {"is_decoder": (False,), "add_cross_attention": (False,)}, "an encoder of wb is none")
        width, depth, heads, mlp, activation = self.keys
        embed, count = seen.whole(width), seen.whole(heads)
        channels = divided(embed, count, width, heads)
        eps = 1e-12 if self.eps_key is None else seen.number(self.eps_key, 1e-12)
        classes = seen.shape(f"{last}.weight", 2)[0]
        if classes < 2:
            raise Unsupported(
                f"its classifier gives {classes} number, as for a regression; networks of wb name classes"
            )
        block = Block(
            mixer=Softmax(heads=count, qk=channels, v=channels),
            ffn=Mlp(mlp=seen.whole(mlp), activation=seen.activation(activation, "gelu")),
        )
        places = seen.whole(HOW_LONG, 512)
        if places <= self.offset:
            raise Unsupported(f"config.json has {HOW_LONG}={places}, of which {self.offset} are of no token")
        return Architecture(
            input=text_input(seen, places - self.offset),
            stem=EmbedStem(types=seen.whole("type_vocab_size", 2, 64) if self.typed else 0),
            stages=(Stage(embed=embed, blocks=(block,) * seen.whole(depth), wiring=Post()),),
            head=Classify(
                classes=classes,
                labels=seen.labels(classes),
                pool="first",
                hidden=Hidden(width=seen.shape(f"{hidden}.weight", 2)[0], activation=self.unit),
            ),
            norm=LayerNorm(eps=eps),
            first=LayerNorm(eps=eps),
            last=None,
        )

    def rules(self, a: Architecture) -> Iterator[Rule]:
        embeddings = f"{self.kind}.embeddings"
        yield rule(f"{embeddings}.word_embeddings.weight", "stem.table")
        yield Rule((f"{embeddings}.position_embeddings.weight",), ("position",), front=self.offset)
        yield rule(f"{embeddings}.token_type_embeddings.weight", "stem.types")
        yield from norm(f"{embeddings}.LayerNorm", "first")
        for j in range(len(a.stages[0].blocks)):
            yield from within(f"{self.layers}.{j}.", f"stages.0.{j}.", self.block)
        hidden, last = self.classifier
        yield from pair(hidden, "hidden", "hidden_bias")
        yield from pair(last, "head", "head_bias")

    def config(self, a: Architecture, config: Mapping[str, Any]) -> dict[str, Any]:
        mixers = [mixer for _, _, block in a.blocks() if isinstance(mixer := block.mixer, Softmax)]
        ffns = [ffn for _, _, block in a.blocks() if isinstance(ffn := block.ffn, Mlp)]
        width, depth, heads, mlp, activation = self.keys
        came = config.get(HOW_LONG)
        places = places_of(a.layout.tokens, came - self.offset if isinstance(came, int) else None) + self.offset
        named = same((ffn.activation for ffn in ffns), "activations", self.title)
        found = {
            "model_type": self.kind,
            "architectures": [self.model],
            "vocab_size": a.input.specs()[0].below,
            HOW_LONG: places,
            width: a.stages[0].embed,
            depth: len(a.stages[0].blocks),
            heads: same((mixer.heads for mixer in mixers), "heads", self.title),
            mlp: same((ffn.mlp for ffn in ffns), "hidden units", self.title),
            activation: activation_name(named, config, activation),
            **({} if self.eps_key is None or not isinstance(a.norm, LayerNorm) else {self.eps_key: a.norm.eps}),
            **({"type_vocab_size": a.stem.types} if self.typed and isinstance(a.stem, EmbedStem) else {}),
            **labelled(a),
        }
        return {**config, **found}


class Bert(BertLike):
    """The pooler and the classifier."""

    name = "bert"
    title = "BERT of transformers"
    kind = "bert"
    model = "BertForSequenceClassification"
    classifier = ("bert.pooler.dense", "classifier")
    layers = "bert.encoder.layer"
    ignored = (r"bert\.embeddings\.position_ids",)


class Roberta(BertLike):
    """Positions begin behind that of padding."""

    name = "roberta"
    title = "RoBERTa of transformers"
    kind = "roberta"
    model = "RobertaForSequenceClassification"
    classifier = ("classifier.dense", "classifier.out_proj")
    layers = "roberta.encoder.layer"
    counts_padding = False
    offset = 2
    ignored = (r"roberta\.embeddings\.position_ids", r"roberta\.pooler\.dense\.(weight|bias)")


class DistilBert(BertLike):
    """No types of segments, and a ReLU in the classifier."""

    name = "distilbert"
    title = "DistilBERT of transformers"
    kind = "distilbert"
    model = "DistilBertForSequenceClassification"
    classifier = ("pre_classifier", "classifier")
    unit = "relu"
    layers = "distilbert.transformer.layer"
    block = DISTILLED
    typed = False
    keys = ("dim", "n_layers", "n_heads", "hidden_dim", "activation")
    eps_key = None
    ignored = (r"distilbert\.embeddings\.position_ids",)

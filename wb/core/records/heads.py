"""What answers the task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from wb.core.records.base import Frozen, Group, HeadKept, Part, Width, is_fp32, is_none

Classes = Annotated[int, Field(ge=2, le=1_000_000)]


def is_of_tokens(normed: str) -> bool:
    """Whether it is left out of the JSON, as it was before there was a choice."""
    return normed == "tokens"


class Hidden(Frozen):
    """A layer between what is pooled and the classes: `width` units with an activation."""

    width: Width
    activation: Literal["tanh", "relu"] = "tanh"


class Classify(Part):
    """A linear map from the pooled tokens to one number per class. `labels` are the names of the classes, or none.

    `pool` "mean" is the mean of the tokens that have a place, "first" the first of those in front of them, a class token; of a
    text that has none in front it is its own first token. With `hidden` there is a layer in front of the linear map.
    "pair" are the first two of those, a class and a distillation token: each has a map of its own, and the answer is the mean.
    `normed` says what the network's last norm is applied to: "tokens", or the mean that is "pooled" of them.

    Source: Touvron et al., "Training data-efficient image transformers & distillation through attention" (DeiT), 2021 ("pair").
    """

    task: ClassVar[Literal["classes"]] = "classes"  # what the outputs are for (`wb.tasks`)
    foresees: ClassVar[bool] = False  # whether it answers what follows, which the network must not see
    module = "wb.models.heads.classify:Classify"
    example: ClassVar[Mapping[str, Any]] = {"classes": 3}
    title = "linear classifier"
    kind: Literal["classify"] = "classify"
    classes: Classes
    labels: tuple[str, ...] = ()
    pool: Literal["mean", "first", "pair"] = "mean"
    normed: Annotated[Literal["tokens", "pooled"], Field(exclude_if=is_of_tokens)] = "tokens"
    hidden: Annotated[Hidden | None, Field(exclude_if=is_none)] = None
    precision: HeadKept = "fp32"

    @property
    def pooling(self) -> str:
        """How tokens are pooled, and what is made of that, in a few words."""
        pooled = self.pool if self.normed == "tokens" else f"{self.pool}, then norm"
        return pooled if self.hidden is None else f"{pooled}, then {self.hidden.width} {self.hidden.activation} units"

    def named(self, labels: Sequence[str]) -> Self:
        """The same head with other names of its classes, or with none."""
        return self.model_copy(update={"labels": tuple(labels)})

    def answering(self, labels: Sequence[str]) -> Self:
        """A head like this for other classes, which are called so."""
        return self.model_copy(update={"classes": len(labels), "labels": tuple(labels)})

    @model_validator(mode="after")
    def _named(self) -> Self:
        if self.labels and len(self.labels) != self.classes:
            raise ValueError(f"{len(self.labels)} labels for {self.classes} classes; give one each, or none")
        if self.normed == "pooled" and self.pool != "mean":
            raise ValueError(
                f"pool={self.pool!r} takes tokens as they are; give normed='tokens', which is the same there"
            )
        if self.hidden is not None and self.pool == "pair":
            raise ValueError("pool='pair' has a linear map for each of two tokens, and no hidden layer; leave it out")
        return self


class Language(Part):
    """A score of every token of the vocabulary, for each token of the text: which one follows.

    What is `tied` reads the table of the stem and has no weights of its own.

    Source: Press and Wolf, "Using the Output Embedding to Improve Language Models", 2017 (tied).
    """

    task: ClassVar[Literal["next"]] = "next"
    foresees: ClassVar[bool] = True
    module = "wb.models.heads.language:Language"
    example: ClassVar[Mapping[str, Any]] = {"tied": False}
    title = "scores of the next token"
    classes: ClassVar[int] = 0  # the tokens of the vocabulary, which the input counts, are no classes with names
    labels: ClassVar[tuple[str, ...]] = ()
    pool: ClassVar[str] = "none"
    normed: ClassVar[str] = "tokens"
    pooling: ClassVar[str] = "no"
    hidden: ClassVar[Hidden | None] = None
    kind: Literal["language"] = "language"
    tied: bool = True
    precision: Annotated[Literal["int4", "int8", "fp32"], Field(exclude_if=is_fp32), Group()] = "fp32"

    def named(self, labels: Sequence[str]) -> Self:
        """Itself: it has no classes that could be named."""
        del labels
        return self

    def answering(self, labels: Sequence[str]) -> Self:
        """Itself: it has no classes."""
        del labels
        return self


Head = Annotated[Classify | Language, Field(discriminator="kind")]

"""Texts that parents write with other tokenizers than the anchor: tables of the vocabulary, brought to the anchor's tokens.

Tokens are matched by their text. A token that a parent has none of begins as the mean of the pieces that the parent writes its
text with, so that the parent can be run on the anchor's ids; in averages it does not count, and the others' rows stay.

Source: mergekit (Goddard et al., 2024, https://arxiv.org/abs/2403.13257), whose tables take a token's rows from the models that
have it; means of pieces as in Gee et al., "Fast Vocabulary Transfer for Language Model Compression", 2022,
https://arxiv.org/abs/2402.09977.
Limits: texts of tokens are compared as the tokenizers spell them, so that one of bytes ("Ġcard") and one of word pieces
("##card") have little in common. A parent that is run on ids of another tokenizer answers somewhat worse than on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported
from wb.models.files.history import tokenizer_of
from wb.models.heads.language import TABLE
from wb.models.model import Model
from wb.models.network import skeleton

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from wb.data.texts.vocabulary import Vocabulary

LEAST = 0.1  # of the anchor's tokens that a parent has to have


@dataclass(frozen=True, eq=False)
class Matched:
    """What a parent's tokenizer has for each row of the anchor's tables.

    `rows` (V,) are its ids of the same texts, -1 where it has none; `pieces` its ids for the texts of those, by row. `named`
    counts the rows that the anchor's tokenizer has a text for, `own` the texts of the parent's.
    """

    rows: Tensor
    pieces: Mapping[int, tuple[int, ...]]
    named: int
    own: int

    @property
    def known(self) -> Tensor:
        """(V,), true at rows of tokens that the parent has."""
        return self.rows >= 0

    @property
    def count(self) -> int:
        """How many of the anchor's tokens the parent has."""
        return int(self.known.sum())

    def table(self, given: Tensor) -> Tensor:
        """A table of the parent (its rows, D) with the anchor's rows (V, D); zero where nothing is known of a token."""
        found = given[self.rows.clamp(min=0)] * self.known[:, None].to(given)
        for row, ids in self.pieces.items():
            found[row] = given[list(ids)].mean(dim=0)
        return found


@lru_cache(maxsize=8)
def matched(own: str, wanted: str, rows: int, given: int) -> Matched:
    """Matches the tokens of the anchor's tokenizer `wanted`, whose tables have `rows`, with those of a parent's, both as JSON.

    Ids beyond the `given` rows of the parent's tables are none.
    """
    from wb.data.texts.vocabulary import Vocabulary  # imports a library that only texts need

    mine, theirs = Vocabulary(own, 1, 1), Vocabulary(wanted, 1, 1).tokenizer
    known = {text: id_ for text, id_ in mine.tokenizer.get_vocab(with_added_tokens=True).items() if id_ < given}
    texts = {id_: text for text, id_ in theirs.get_vocab(with_added_tokens=True).items() if id_ < rows}
    found, pieces = torch.full((rows,), -1), {}
    for row, text in texts.items():
        if text in known:
            found[row] = known[text]
        elif ids := _written(mine, theirs, row, given):
            pieces[row] = ids
    return Matched(found, pieces, len(texts), len(known))


def _written(mine: Vocabulary, theirs: Tokenizer, row: int, given: int) -> tuple[int, ...]:
    """The ids by which a parent writes the text of one of the anchor's tokens; none where it cannot."""
    text = theirs.decode([row], skip_special_tokens=False)
    with suppress(BadArtefact):  # of a tokenizer without a token for unknown words
        return tuple(one for one in mine.whole(text).tolist() if one < given) if text else ()
    return ()


def differ(own: str | None, wanted: str | None) -> bool:
    """Whether tokenizers are known and not the same."""
    return None not in (own, wanted) and own != wanted


def of(model: Architecture, own: str, to: Architecture, wanted: str) -> Matched:
    """What a parent has for the tokens of the anchor `to`."""
    return matched(own, wanted, _rows(to), _rows(model))


def check_words(
    given: Architecture, own: str, name: str, to: Architecture, wanted: str, anchor: str, number: int
) -> str:
    """What is to be said of a parent with another tokenizer than the anchor; `number` is its own, counted from 1.

    Raises:
        Unsupported: it has too few of the anchor's tokens, or no positions for the anchor's longest texts.
    """
    found = of(given, own, to, wanted)
    if found.count < LEAST * found.named:
        raise Unsupported(
            f"{name} and {anchor} write texts with other tokenizers, and of the {found.named:,} tokens of {anchor} {name} has "
            f"{found.count:,} spelt alike, too few to match them by; train both with one --tokenizer FILE"
        )
    longest, wished = (int(a.layout.shape[0]) for a in (given, to))
    if longest < wished and skeleton(given).positions.axes:
        raise Unsupported(
            f"{name} has positions for {longest} tokens, and {anchor} reads up to {wished}; take {name} as the anchor, with "
            f"--anchor {number}, or train both with --data csv,length=N:… of one length"
        )
    said = (
        f"{name} writes texts with another tokenizer than {anchor}: {found.count:,} of {found.named:,} tokens are matched by "
        "text"
    )
    if to.head.foresees:  # perplexities of other tokens do not compare
        said += f", and its readings are on the tokens of {anchor}, on which it was not trained"
    if found.count == found.named == found.own:
        return said
    lacking, more = found.named - found.count, found.own - found.count
    return (
        f"{said}; of {lacking:,} the fused model has the rows of {anchor} alone, and {more:,} tokens of {name} alone are left "
        "out"
    )


def rewritten(model: Model, to: Architecture, wanted: str | None) -> Model:
    """`model` with tables for the tokens of `wanted`, and positions for texts of `to`; itself with the same tokenizer."""
    own = tokenizer_of(model.history)
    if own is None or wanted is None or own == wanted:
        return model
    a, found = model.architecture, of(model.architecture, own, to, wanted)
    weights = {**model.weights, **{name: found.table(model.weights[name]) for name in tables(a)}}
    beyond = int(a.layout.shape[0]) - int(to.layout.shape[0])
    if beyond > 0:
        weights |= {name: weights[name][:-beyond] for name in skeleton(a).positions.axes}
    return replace(model, weights=weights)


def known_rows(model: Architecture, own: str | None, to: Architecture, wanted: str | None) -> dict[str, Tensor]:
    """Table -> (V,), true at rows of tokens that a parent has; nothing where it has all, with the same tokenizer."""
    if own is None or wanted is None or own == wanted:
        return {}
    return dict.fromkeys(tables(model), of(model, own, to, wanted).known)


def tables(architecture: Architecture) -> list[str]:
    """The parameters that have a row for each token: what is looked up, and a head of its own that foresees tokens."""
    heads = skeleton(architecture).answer.readers if architecture.head.foresees else {}
    return list(dict.fromkeys((TABLE, *heads)))


def _rows(architecture: Architecture) -> int:
    return int(architecture.input.specs()[0].below or 0)

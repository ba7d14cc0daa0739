"""Vocabularies of pieces with scores: written as llama2.c writes them, and read back."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest

from wb.core.errors import BadArtefact
from wb.data.texts.pieces import tokenizer_of_pieces
from wb.data.texts.vocabulary import Vocabulary

PATH = Path("tok300.json")
JOINED = ["he", " t", "th", " the", "in", "er", " a", "an", "nd", " and", "hé", "ing", "ng", " th"]
CHARACTERS = [*" abdeghinrt", "é"]


def listed(joined: list[str], characters: list[str]) -> str:
    """As llama2.c exports it: UTF-8 as characters, line breaks around the ends, scores that fall."""
    begun = [["<unk>", 0.0], ["\n<s>\n", 0.0], ["\n</s>\n", 0.0], *([f"<0x{byte:02X}>", 0.0] for byte in range(256))]
    pieces = [piece.encode().decode("latin-1") for piece in (*joined, *characters)]
    return json.dumps([*begun, *([piece, -float(i)] for i, piece in enumerate(pieces))])


def joined(text: str) -> list[int]:
    """The ids that llama2.c's `encode` gives, one join after the other."""
    pieces = {piece: 259 + i for i, piece in enumerate((*JOINED, *CHARACTERS))}
    parts: list[Any] = []
    for one in f" {text}":
        parts += [one] if one in pieces else list(one.encode())
    while True:
        found = [(pieces[a + b], i) for i, (a, b) in enumerate(pairwise(parts)) if known(a, b, pieces)]
        if not found:
            return [1, *(pieces[one] if isinstance(one, str) else one + 3 for one in parts)]
        _, i = min(found)
        parts[i : i + 2] = [f"{parts[i]}{parts[i + 1]}"]


def known(a: Any, b: Any, pieces: dict[str, int]) -> bool:
    return isinstance(a, str) and isinstance(b, str) and a + b in pieces


def test_texts_are_written_as_llama2_c_writes_them_and_read_back() -> None:
    vocabulary = Vocabulary(tokenizer_of_pieces(listed(JOINED, CHARACTERS), PATH), 999, 9)
    random = Random(0)
    for _ in range(60):
        text = "".join(random.choices([*JOINED, *CHARACTERS, "ñ", "q"], k=12)).strip() or "a"
        assert vocabulary.encoded([text]).ids.tolist() == joined(text)
        assert vocabulary.tokenizer.decode(vocabulary.whole(text).tolist()) == text
    assert vocabulary.front == (1,)


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "{}",
        "no",
        json.dumps([["<unk>", 0], ["<s>", 0], ["</s>", 0], ["a", 0], ["a", 1]]),
        json.dumps([["a", 0]] * 3),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadArtefact, match=r"tok300\.json (is no list of pieces|has \d pieces)"):
        tokenizer_of_pieces(text, PATH)

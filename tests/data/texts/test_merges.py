"""BPE-dropout: without any it is the tokenizer, with all of it characters, and always the same text."""

from __future__ import annotations

from random import Random

import pytest

from wb.data.texts.merges import Merges
from wb.data.texts.vocabulary import BPE, WORDS, Vocabulary, vocabulary_of

TEXTS = ["where is my new card", "my card is not here", "a new card, where?", "not my card"] * 4


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return vocabulary_of(TEXTS, BPE)


@pytest.fixture(scope="module")
def merges(vocabulary: Vocabulary) -> Merges:
    assert vocabulary.merges is not None
    return vocabulary.merges


def test_without_dropout_words_are_cut_as_the_tokenizer_does(vocabulary: Vocabulary, merges: Merges) -> None:
    texts = [*TEXTS[:4], "unheard-of words: zebra 7!", ""]
    found = merges.varied(merges.words(texts), 0.0, 0)
    assert found == [vocabulary.tokenizer.encode(text).ids for text in texts]


def test_with_all_merges_dropped_characters_are_left(merges: Merges) -> None:
    (word,) = merges.words(["card"])[0]
    assert merges.pieces(word, 1.0, Random(0)) == [merges.ids[letter] for letter in word]


def test_pieces_are_the_text_and_follow_from_the_seed(vocabulary: Vocabulary, merges: Merges) -> None:
    words = merges.words(TEXTS)
    found = merges.varied(words, 0.3, 7)
    assert found == merges.varied(words, 0.3, 7)
    assert found != merges.varied(words, 0.3, 8)
    names = {i: name for name, i in merges.ids.items()}
    for pieces, text in zip(found, words, strict=True):
        assert "".join(names[i] for i in pieces) == "".join(text)
    assert sum(map(len, found)) > sum(len(vocabulary.tokenizer.encode(text).ids) for text in TEXTS)


def test_there_are_no_merges_of_whole_words() -> None:
    assert vocabulary_of(TEXTS, WORDS).merges is None

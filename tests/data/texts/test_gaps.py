"""What networks do not see of texts is told of the vocabulary that they are read with, and of no other."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from wb.core.errors import BadData
from wb.data import load
from wb.data.texts.gaps import unknown_of
from wb.data.texts.vocabulary import WORDS, Vocabulary, vocabulary_of


def table(path: Path) -> Path:
    rows = (f"{'word ' * (1 + i % 9)}more,{'ab'[i % 2]}" for i in range(40))
    path.write_text("text,label\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_texts_that_a_model_cuts_are_counted_though_the_data_alone_cut_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = table(tmp_path / "a.csv")
    short = Vocabulary(vocabulary_of(["word more"], WORDS).text, 4, 4)
    with pytest.raises(
        BadData, match=r"texts for train and .* and 25 of 40 texts for test .*network that reads longer"
    ):
        load(f"csv:{path},{path}").written_by(short)
    data = load(f"csv,truncate=yes:{path},{path}")
    assert not any("cut" in note for note in data.notes)
    with caplog.at_level(logging.WARNING):
        found = data.written_by(short)
    told = "25 of 40 texts for test are longer than 4 tokens: the rest is cut"
    assert told in found.notes
    assert told in caplog.text


def test_texts_that_a_model_does_not_cut_are_not_said_to_be_cut(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv")
    data = load(f"csv,length=4:{path},{path}", own_words=False)
    assert data.train.vocabulary is not None
    assert "cut" not in "".join(data.written_by(Vocabulary(data.train.vocabulary.text, 16, 16)).notes)


def test_characters_are_unknown_to_a_tokenizer_and_not_to_a_text() -> None:
    bytes_, characters = (vocabulary_of(["abc"], kind, 8, prose=True) for kind in ("bytes", "characters"))
    assert unknown_of(bytes_, ["a", "é"]) == []
    assert unknown_of(characters, ["a", "é"]) == ["é"]


def test_what_is_left_behind_the_last_passage_is_told_where_it_is_much(tmp_path: Path) -> None:
    for name, count in (("train", 2_000), ("test", 90)):
        (tmp_path / name).write_text("".join("abcde"[i * i % 5] for i in range(count)), encoding="utf-8")
    files = f"{tmp_path / 'train'},{tmp_path / 'test'}"
    told = "the last 25 of 90 tokens for test are no whole passage and are left out"
    assert any(note.startswith(told) for note in load(f"lm,length=64:{files}").notes)
    assert not any("left out" in note for note in load(f"lm,length=89:{files}").notes if "for test" in note)

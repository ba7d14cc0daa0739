"""Texts for a network, given as they are or in a file, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wb.core.errors import BadData
from wb.data.texts.vocabulary import WORDS, vocabulary_of
from wb.jobs import inputs
from wb.jobs.verbs.predicting import Predictions
from wb.jobs.verbs.reader import Reader, texts_of
from wb.models.files.history import data_of
from wb.models.model import Step


def test_a_file_has_a_text_a_line_whatever_signs_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\u2028two\r\n\n three\x0b\x85\nfour".encode())
    assert texts_of([tmp_path / "a.txt", "five\nsix"]) == ["one\u2028two", " three\x0b\x85", "four", "five\nsix"]


def test_texts_that_are_cut_or_have_no_token_are_counted() -> None:
    chances = np.array([[0.7, 0.3], [0.5, 0.5]])
    found = Predictions(Path("m.pt"), ("a", "b"), ("long text", ""), chances, noun="text", cut=1, empty=1)
    assert found.table().lines == [
        "1 of 2 texts are longer than the network reads: the rest is cut",
        "1 of 2 texts have no token: their class says nothing of them",
    ]
    assert (found.content()["cut"], found.content()["empty"]) == (1, 1)
    reader = Reader.__new__(Reader)
    reader.vocabulary = vocabulary_of(["some words", "some words"], WORDS, length=2)
    with pytest.raises(BadData, match="1 of 2 texts are longer than the 2 tokens"):
        reader.cut(["some", "some words some"])
    assert reader.empty(["some", "", "other", " \n"]) == 2


def test_the_limit_of_texts_is_of_texts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    for spec, noun in ((f"lm:{tmp_path / 'a.txt'}", "passages"), ("listops", "texts"), ("digits", "images")):
        known = data_of([Step(name="train", arguments={"data": spec, "limit": 60}, version="1")])
        assert known is not None
        assert known.there
        said: list[str] = []
        monkeypatch.setattr(inputs, "need", lambda *_, **__: "model")
        monkeypatch.setattr(inputs, "_side", lambda *_: None)
        monkeypatch.setattr(inputs, "about", lambda _: (None, ()))
        monkeypatch.setattr(inputs, "_common", lambda _, known=known: known)
        inputs.choose([tmp_path / "m.pt"], None, None, say=said.append, needed=False, graphs=True)
        assert f", 60 training {noun}, as the history of" in said[0]

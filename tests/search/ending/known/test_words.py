"""What texts are worth without a network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wb.data import Dataset
from wb.data.texts.split import Texts
from wb.data.texts.tables import texts_of
from wb.data.texts.vocabulary import WORDS, vocabulary_of
from wb.search.ending.known.words import words_alone
from wb.tasks.classes import CLASSES

KINDS = ("card is", "loan was", "which rate")
LINES = [f"{kind} {word}" for word in ("late", "lost", "low", "old", "new", "due") for kind in KINDS]
LABELS = [i % 3 for i in range(len(LINES))]


def dataset(labels: list[int], classes: tuple[str, ...] = KINDS) -> Dataset:
    split = texts_of(LINES, labels, vocabulary_of(LINES, WORDS))
    return Dataset("d", "d", split, split, split, classes, "0")


@pytest.mark.parametrize(
    ("labels", "classes"), [(LABELS, KINDS), ([i % 2 for i in LABELS], KINDS[:2]), (LABELS, (*KINDS, "x"))]
)
def test_words_that_tell_classes_are_found(labels: list[int], classes: tuple[str, ...]) -> None:
    """Of three, of two, and with a class that no training text has."""
    found = words_alone(dataset(labels, classes), CLASSES, 0)
    assert found is not None
    assert not found.network
    assert found.values["acc"].value == 1
    assert found.test is not None
    assert (found.test.value, found.test.n) == (1, len(LINES))


def test_what_is_tested_learns_from_the_validation_texts_too_if_networks_do() -> None:
    """Training knows two of the words, and validation the others."""
    data = dataset(LABELS)
    data = replace(data, train=data.train.take(slice(0, 6)), validation=data.train.take(slice(6, None)))
    data = replace(data, test=data.validation, train=replace(data.train, labels=(data.train.labels + 1) % 3))
    once, again = (words_alone(data, CLASSES, 0, retrain=retrain) for retrain in (False, True))
    assert once is not None
    assert again is not None
    assert once.test is not None
    assert again.test is not None
    assert once.values == again.values
    assert once.test.value == 0 < again.test.value


def test_there_is_none_without_words() -> None:
    data = dataset(LABELS)
    train = data.train
    assert isinstance(train, Texts)
    signs = train.lines.copy()
    signs[:] = ["!", "?"] * (len(signs) // 2)
    assert words_alone(replace(data, train=replace(train, lines=signs)), CLASSES, 0) is None

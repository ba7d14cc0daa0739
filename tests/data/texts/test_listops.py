"""ListOps: expressions and their values."""

from __future__ import annotations

import numpy as np

from wb.data import load
from wb.data.texts.listops import OPERATIONS, SIZES


def value(tokens: list[str]) -> int:
    """The value of an expression, by a reader of its own."""
    token = tokens.pop(0)
    if not token.startswith("["):
        return int(token)
    values = []
    while tokens[0] != "]":
        values.append(value(tokens))
    tokens.pop(0)
    return OPERATIONS[token[1:]](values)


def test_labels_are_the_values_and_the_same_in_every_call() -> None:
    data = load("listops")
    assert {
        name: len(split) for name, split in zip(SIZES, (data.train, data.validation, data.test), strict=True)
    } == SIZES
    for i in range(200):
        assert value(data.test.line(i).split()) == data.test.labels[i]
    assert data.fingerprint == load("listops").fingerprint == "9b33bba0a9c8c22a"
    assert np.bincount(data.train.labels).min() > 200


def test_no_text_that_judges_was_seen_before() -> None:
    data = load("listops")
    train, validation, test = (
        [split.line(i) for i in range(len(split))] for split in (data.train, data.validation, data.test)
    )
    judging = validation + test
    assert len(set(judging)) == len(judging)
    assert not set(judging) & set(train)


def test_operations_are_those_of_the_paper() -> None:
    assert [OPERATIONS[name]([7, 2, 9, 4]) for name in ("MAX", "MIN", "MED", "SM")] == [9, 2, 4, 2]

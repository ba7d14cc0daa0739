from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from wb.core.layout import Layout, Supports

PICTURE, LINE = Layout((3, 4)), Layout((12,))
EVERYTHING = Supports(padded=True, causal="yes", dynamic=True)


@pytest.mark.parametrize(
    ("layout", "lacking", "words"),
    [
        (LINE, {"line": False}, "a line of tokens is not"),
        (PICTURE, {"grid": False}, "an image is not"),
        (PICTURE._replace(prefix=1), {"prefix": False}, "a class token has no place"),
        (LINE._replace(padded=True), {"padded": False}, "cannot leave out padding"),
        (LINE._replace(causal=True), {"causal": "no"}, "sees the tokens that follow"),
        (PICTURE, {"causal": "only"}, "sees no tokens that follow"),
        (LINE._replace(dynamic=True), {"dynamic": False}, "one number of tokens"),
    ],
)
def test_what_is_lacking_is_said_and_nothing_else_is(layout: Layout, lacking: Mapping[str, Any], words: str) -> None:
    assert layout.refused(EVERYTHING) is None
    found = layout.refused(EVERYTHING._replace(**lacking))
    assert found is not None
    assert words in found


def test_tokens_are_counted_with_those_in_front() -> None:
    assert (PICTURE.tokens, LINE.tokens, PICTURE._replace(prefix=2).tokens) == (12, 12, 14)

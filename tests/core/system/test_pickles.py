"""The scan against Python's own unpickler on what is harmless, and the bounds on what is not."""

from __future__ import annotations

import io
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import PICKLES
from wb.core.system import pickles
from wb.core.system.pickles import MAX_DEPTH, DamagedPickle, ForeignName, SuspiciousPickle, scan

SCALARS = st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text() | st.binary()
DATA = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text() | st.integers(0, 999), inner),
    max_leaves=20,
)


def look(content: bytes, **options: Any) -> io.BytesIO:
    stream = io.BytesIO(content)
    scan(stream, len(content), **options)
    return stream


@settings(max_examples=40)
@given(DATA, st.integers(0, 5))
def test_plain_data_pass_in_every_protocol_and_the_stream_is_left_behind_them(value: object, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    assert look(content + b"more").tell() == len(content)


@settings(max_examples=40)
@given(DATA, st.integers(0, 5), st.data())
def test_what_is_cut_off_is_damaged(value: object, protocol: int, data: st.DataObject) -> None:
    content = pickle.dumps(value, protocol)
    with pytest.raises(DamagedPickle):
        look(content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.parametrize(
    "name",
    sorted(PICKLES.keys() - {"large array", "call", "itself", "nothing", "surrogates"}),  # names, and what is harmless
)
def test_hostile_ones_are_refused(name: str) -> None:
    with pytest.raises(SuspiciousPickle) as caught:
        look(PICKLES[name])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrap", [lambda inner: (inner,), lambda inner: [inner], lambda inner: {"a": inner}])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_just_deep_enough_passes_and_one_more_does_not(wrap: Any, protocol: int) -> None:
    nested: Any = 0
    for _ in range(MAX_DEPTH - 1):
        nested = wrap(nested)
    look(pickle.dumps(nested, protocol))
    with pytest.raises(SuspiciousPickle, match=f"deeper than {MAX_DEPTH} levels"):
        look(pickle.dumps(wrap(nested), protocol))


def test_parts_that_are_shared_count_wherever_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_EXPANDED", 1000)
    shared: Any = (0, 1)
    for _ in range(7):
        shared = (shared, shared)  # 2 ** 9 - 1 objects in the end
    look(pickle.dumps(shared))
    with pytest.raises(SuspiciousPickle, match="more than 1,000 objects"):
        look(pickle.dumps([shared, shared]))


def test_no_more_instructions_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 100)
    with pytest.raises(SuspiciousPickle, match="more than 100 instructions"):
        look(pickle.dumps(list(range(200))))


@pytest.mark.parametrize("key", [(1, 2), 2**63, -(2**64)])
def test_keys_are_text_or_small_numbers(key: object) -> None:
    with pytest.raises(SuspiciousPickle, match="a key of one of its dictionaries is a"):
        look(pickle.dumps({"a": {key: 1}}))


def test_names_are_compared_with_those_that_are_allowed() -> None:
    content = pickle.dumps([complex(1, 2)], 2)
    look(content)
    look(content, names={"__builtin__.complex"})
    with pytest.raises(ForeignName, match=r"it asks for __builtin__\.complex"):
        look(content, names={"__builtin__.int"})

"""Whoever loses a process that itself has lost another one says the latter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.scale.joining import Board
from wb.scale.line import loss
from wb.scale.line.loss import Lost, naming
from wb.scale.line.places import Places
from wb.scale.team import ProcessLost


class Store:
    """What torch's store does."""

    def __init__(self) -> None:
        self.words = dict[str, str]()

    def set(self, name: str, word: str) -> None:
        self.words[name] = word

    def check(self, names: list[str]) -> bool:
        return names[0] in self.words

    def get(self, name: str) -> bytes:
        return self.words[name].encode()


class Gone(Store):
    """One whose process has ended."""

    def set(self, name: str, word: str) -> None:
        raise RuntimeError("broken pipe")

    def check(self, names: list[str]) -> bool:
        raise RuntimeError("broken pipe")


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss, "PATIENCE_S", 0.01)
    monkeypatch.setattr(loss, "_GLANCE_S", 0.001)


def named(store: Store | None, rank: int, *ranks: int) -> str:
    with pytest.raises(ProcessLost) as found, naming(rank, Board(store, 0), lambda one: f"process {one}"):
        raise Lost(ranks, RuntimeError("closed"))
    return str(found.value).partition(" has ended or does not answer (closed)")[0]


def test_the_first_loss_is_found_from_neighbour_to_neighbour() -> None:
    store = Store()
    assert named(store, 2, 3) == "process 3"  # 3 left no word
    assert named(store, 1, 2) == "process 3"
    assert named(store, 0, 0, 1) == "process 3"
    assert store.words == {"lost-2": "3", "lost-1": "2", "lost-0": "1"}


def test_of_several_the_silent_one_is_meant() -> None:
    store = Store()
    assert named(store, 2, 0, 1, 2) == "process 0 or process 1", "either may just be busy"
    store.words = {"lost-0": "1,2"}
    assert named(store, 2, 0, 1, 2) == "process 1"


def test_words_that_go_round_end() -> None:
    store = Store()
    store.words = {"lost-1": "0", "lost-2": "1"}
    assert named(store, 0, 2) == "process 1"  # nobody is silent; the search ends


def test_a_store_that_has_gone_leaves_the_neighbour() -> None:
    assert named(Gone(), 1, 0) == "process 0"
    assert named(None, 1, 0) == "process 0"


@given(st.integers(1, 5), st.integers(1, 4))
def test_places_are_a_line_of_shares(stages: int, shares: int) -> None:
    places = Places(stages, shares)
    places.check()
    for rank in range(places.count):
        after = places.behind(rank)
        assert (after is None) == (places.stage(rank) == stages - 1)
        if after is not None:
            assert places.before(after) == rank
            assert places.share(after) == places.share(rank)
    assert len({places.called(rank) for rank in range(places.count)}) == places.count
    assert (places.stage(places.answering), places.share(places.answering)) == (stages - 1, 0)


def test_fewer_than_one_are_refused() -> None:
    with pytest.raises(BadOption, match="--pipeline 0 is out of range"):
        Places(0, 1).check()
    with pytest.raises(BadOption, match="--tensor -1 is out of range"):
        Places(1, -1).check()

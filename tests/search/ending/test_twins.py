"""Which finalists have twins, and what those are called."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wb.models.model import Model
from wb.models.passes.mirror import Mirror
from wb.search.ending.twins import Made, ids, mirroring


@given(st.sets(st.integers(0, 10**6), min_size=1), st.integers(0, 10**6))
def test_no_twin_has_the_number_of_a_candidate(numbers: set[int], most: int) -> None:
    found = ids(numbers, most)
    assert found.keys() == numbers
    assert len(set(found.values())) == len(numbers)
    assert min(found.values()) > max(most, *numbers)


def test_they_are_told_from_their_finalists_by_a_digit() -> None:
    assert ids([0, 37], 60) == {0: 1000, 37: 1037}
    assert ids([5], 1234) == {5: 10005}


def test_those_trained_on_mirror_images_have_one(striped: Model, tmp_path: Path) -> None:
    seeing = Mirror()(striped)
    models = {3: striped, 4: striped, 5: seeing}
    made = {n: Made(n, one, tmp_path / f"{n}.onnx", one.architecture) for n, one in models.items()}
    found = dict(mirroring(made, flipped=[3, 5], most=60))
    assert {twin: (one.number, one.mirrored, one.low) for twin, one in found.items()} == {1003: (3, True, False)}
    assert found[1003].architecture == seeing.architecture
    assert found[1003].path.exists()

"""Calibration inputs in two parts: that they share nothing, are whole batches, and are as many as were asked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.ptq.holdout import READ, drawn, parted


def numbered(count: int) -> dict[str, np.ndarray]:
    return {"x": np.arange(count), "y": 2 * np.arange(count)}


@given(st.integers(1, 6), st.integers(1, 60), st.integers(0, 5), st.integers(1, 300), st.integers(0, 3))
def test_parts_are_apart_and_of_whole_batches(batch: int, whole: int, rest: int, more: int, seed: int) -> None:
    inputs, most = numbered(batch * whole + rest % batch), batch - 1 + more
    used, fresh = parted(inputs, most, batch, seed)
    assert (fresh is None) == (whole == 1)
    every = [used] if fresh is None else [used, fresh]
    rows = np.concatenate([part["x"] for part in every])
    assert len(set(rows)) == len(rows)
    assert set(rows) <= set(inputs["x"])
    for part in every:
        assert len(part["x"]) > 0
        assert len(part["x"]) % batch == 0
        assert np.array_equal(part["y"], 2 * part["x"])
    assert len(used["x"]) <= most
    again, _ = parted(inputs, most, batch, seed)
    assert np.array_equal(again["x"], used["x"])


def test_a_quarter_is_kept_out_where_there_are_no_more() -> None:
    for count, used, fresh in ((1, 1, 0), (2, 1, 1), (16, 12, 4), (128, 96, 32), (400, 128, READ), (136, 102, 34)):
        fitted, out = parted(numbered(count), 128, 1, 0)
        assert (len(fitted["x"]), 0 if out is None else len(out["x"])) == (used, fresh)


def test_sorted_inputs_are_mixed() -> None:
    """A folder of images comes class by class, so that the first ones are no sample."""
    some = drawn(numbered(1000), 100, 0)["x"]
    assert len(set(some)) == 100
    assert some.max() > 500
    assert len(drawn(numbered(5), 100, 0)["x"]) == 5

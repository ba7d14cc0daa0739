"""Runs under a limit of time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.export.foreign_graphs import linear, loop
from wb.core.errors import BadArtefact
from wb.hardware.device import Device, session
from wb.hardware.watch import Watch

X = np.ones((2, 4), np.float32)


def test_a_loop_without_end_is_stopped() -> None:
    loaded = session(loop(2**62).SerializeToString(), Device())
    before = threading.active_count()
    with (
        Watch(loaded, "a.onnx", 0.2) as watch,
        pytest.raises(BadArtefact, match=r"a.onnx ran for 0.2 s .* was stopped"),
    ):
        watch.run(["y"], {"x": X})
    assert threading.active_count() == before


def test_other_runs_give_what_they_give_and_fail_as_they_fail() -> None:
    loaded = session(linear().SerializeToString(), Device())
    with Watch(loaded, "a.onnx", 0.2) as watch:
        (given,) = watch.run(["y"], {"x": X})
        np.testing.assert_array_equal(given, np.full((2, 3), 4))
        with pytest.raises(Exception, match="INVALID_ARGUMENT") as caught:
            watch.run(["y"], {"x": X[:, :3]})
        assert not isinstance(caught.value, BadArtefact)
        (again,) = watch.run(["y"], {"x": X})
        np.testing.assert_array_equal(again, given)

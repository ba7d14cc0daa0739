"""What is said of a cluster of Ray that cannot be had; workers on one are in `tests/cli/test_joining.py`."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from wb.core.errors import StorageFailed
from wb.search.crew.on_ray import LOCAL, _connected


@pytest.mark.parametrize(
    ("address", "error", "said"),
    [
        (
            LOCAL,
            Exception("timed out during startup.\nMore."),
            r"could not be started on this machine \(timed out .*--ray out",
        ),
        (LOCAL, Exception(), r"on this machine \(Exception\)"),
        ("auto", ConnectionError("none is there"), r"no cluster of Ray answers at 'auto' \(none is there\)"),
    ],
)
def test_a_cluster_that_does_not_come_up_is_told(address: str, error: Exception, said: str) -> None:
    ended = list[str]()

    def init(**_: object) -> Callable[[], None]:
        raise error

    for theirs in (True, False):
        ray = SimpleNamespace(init=init, shutdown=lambda: ended.append("ended"), is_initialized=lambda it=theirs: it)
        with pytest.raises(StorageFailed, match=said):
            _connected(ray, address)
        assert ended == ([] if theirs else ["ended"]), "nothing of it is left behind, and nothing else ended"

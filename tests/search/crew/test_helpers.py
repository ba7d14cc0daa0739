"""Processes that help: what is told when one ends early, and that all of them end with the block."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from wb.search.beginning.config import SearchConfig
from wb.search.crew.helpers import Helpers


def test_helpers_that_end_early_are_told_of_with_their_reason(tmp_path: Path) -> None:
    """One is killed, one finds no data; whatever they do, the block goes on."""
    told: list[str] = []
    helpers = Helpers(SearchConfig(data=f"imagefolder:{tmp_path}/none"), tmp_path, 2, 3, told.append)
    with helpers:
        killed, failing = helpers._processes
        assert killed.pid is not None
        os.kill(killed.pid, signal.SIGKILL)
        deadline = time.monotonic() + 120
        while killed.is_alive() or failing.is_alive():
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert [line.startswith("a worker ended early (") for line in told] == [True, True]
    assert "exit code -9" in told[0]
    assert f"{tmp_path}/none" in told[1]


def test_helpers_end_with_the_block_whatever_ends_it(tmp_path: Path) -> None:
    helpers = Helpers(SearchConfig(), tmp_path, 1, 2, lambda text: None)
    try:
        with helpers:
            raise InterruptedError
    except InterruptedError:
        pass
    assert not any(process.is_alive() for process in helpers._processes)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "Ctrl-C is ours again"

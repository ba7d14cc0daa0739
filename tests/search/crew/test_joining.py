"""What a machine needs to join a run, found out before its data are read."""

from __future__ import annotations

import pytest

from wb.hardware.remote.profiles import add_profile
from wb.search.beginning.config import SearchConfig
from wb.search.crew.joining import OtherMachine, check_there


def test_a_device_that_is_not_known_here_is_named_with_what_to_do(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    there = SearchConfig(device="board7")
    with pytest.raises(OtherMachine, match=r"measures on board7, .*`wb device add board7 ADDRESS`.*--device"):
        check_there(there)
    metric = SearchConfig(objectives="acc,latency@board7,latency@cpu")
    with pytest.raises(OtherMachine, match=r"measures on board7, .*`wb device add board7 ADDRESS` or install") as error:
        check_there(metric)
    assert "--device" not in str(error.value)
    add_profile("board7", "local")
    check_there(there)
    check_there(metric)


def test_what_names_itself_is_left_to_what_comes_later() -> None:
    for device in ("cpu", "local", "local,cores=0", "ssh:me@board"):
        check_there(SearchConfig(device=device))

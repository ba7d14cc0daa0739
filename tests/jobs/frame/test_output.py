"""Options of a command as a configuration."""

from __future__ import annotations

import pytest

from wb.compress.prune.config import PruneConfig
from wb.core.errors import BadOption
from wb.jobs.frame.output import config_of


def test_a_fault_is_said_once_by_the_name_of_the_option() -> None:
    """Also where it is in two configurations, of which one is in the other."""
    given = {"learning_rate": 0, "settings": {"learning_rate": 0, "align": 0}}
    with pytest.raises(BadOption) as raised:
        config_of(PruneConfig, "prune nvit", given)
    faults = str(raised.value).removeprefix("wrong option: ").partition("; see ")[0].split("; ")
    assert sorted(fault.partition(":")[0] for fault in faults) == ["align", "learning-rate"]

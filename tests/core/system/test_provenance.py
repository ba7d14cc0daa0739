from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import numpy as np
import pytest
import torch

from wb.core.system import provenance


def test_versions_are_those_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    found = provenance.versions()
    assert found["numpy"] == np.__version__
    assert torch.__version__.startswith(found["torch"])
    assert found == {name: version(name) for name in provenance.PACKAGES}
    monkeypatch.setattr(provenance, "PACKAGES", ("numpy", "no-such-package"))
    assert provenance.versions() == {"numpy": np.__version__, "no-such-package": "not installed"}


def test_now_is_utc_to_the_second() -> None:
    before = datetime.now(UTC) - timedelta(seconds=1)
    moment = datetime.fromisoformat(provenance.now())
    assert moment.utcoffset() == timedelta(0)
    assert moment.microsecond == 0
    assert before <= moment <= datetime.now(UTC)


def test_the_machine_is_named() -> None:
    found = provenance.machine("cpu: any")
    assert found["device"] == "cpu: any"
    assert all(found.values())
    assert json.loads(json.dumps(found)) == found

"""Here timing itself is tested, so that it takes its time."""

from __future__ import annotations

from collections.abc import Mapping

import pytest


@pytest.fixture(autouse=True)
def _patient(hasty: Mapping[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in hasty.items():
        monkeypatch.setattr(f"wb.export.timing.measure.{name}", value)

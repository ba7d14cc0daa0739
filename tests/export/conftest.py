"""Here exports themselves are tested, so that every one is made."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.fixture(autouse=True)
def _anew(traced: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wb.export.graph.export_module", traced)

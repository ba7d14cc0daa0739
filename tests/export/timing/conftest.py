"""Here timing itself is tested, so that it takes its time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.haste import Attributes, changed


@pytest.fixture(autouse=True)
def _patient(hasty: Attributes) -> Iterator[None]:
    with changed(hasty):
        yield

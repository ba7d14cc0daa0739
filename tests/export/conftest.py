"""Here exports themselves are tested, so that every one is made."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.haste import Attributes, changed


@pytest.fixture(autouse=True)
def _anew(traced: Attributes) -> Iterator[None]:
    with changed(traced):
        yield

"""Jobs of commands leave empty pages, but for tests that ask for a `page`."""

from __future__ import annotations

import pytest


@pytest.fixture
def page() -> None:
    """For tests that want the report's page as it is."""


@pytest.fixture(autouse=True)
def _unpaged(request: pytest.FixtureRequest) -> None:
    if "page" not in request.fixturenames:
        request.getfixturevalue("unpaged")

"""Jobs of commands leave empty pages, but for tests that ask for a `page`, and searches are short."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module", autouse=True)
def _brief(brief: None) -> None:
    """For no test of a command asks how good that is which a search finds."""


@pytest.fixture
def page() -> None:
    """For tests that want the report's page as it is."""


@pytest.fixture(autouse=True)
def _unpaged(request: pytest.FixtureRequest) -> None:
    if "page" not in request.fixturenames:
        request.getfixturevalue("unpaged")

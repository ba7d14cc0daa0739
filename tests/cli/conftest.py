"""Jobs of commands leave empty pages, but for tests that ask for a `page`, and searches are short."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.haste import Attributes, changed, searching


@pytest.fixture(scope="module", autouse=True)
def brief() -> Iterator[Attributes]:
    """Searches in a moment, for no test asks how good that is which is found."""
    with changed(searching()) as before:
        yield before


@pytest.fixture
def page() -> None:
    """For tests that want the report's page as it is."""


@pytest.fixture(autouse=True)
def _unpaged(request: pytest.FixtureRequest) -> None:
    if "page" not in request.fixturenames:
        request.getfixturevalue("unpaged")

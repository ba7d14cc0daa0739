"""Architectures of every operator, stem, wiring and precision keep the JSON and the key that they had when these were written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wb.core.architecture import Architecture

KEYS = json.loads((Path(__file__).parent / "keys.json").read_text())


@pytest.mark.parametrize(("key", "content"), KEYS)
def test_keys_stay(key: str, content: dict[str, object]) -> None:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    a = Architecture.from_json(text)
    assert a.to_json() == text
    assert a.key == key

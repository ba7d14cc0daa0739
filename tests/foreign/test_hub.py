"""Names on the hub: fetched where the library is there, and what is said where it is not, or where it fails."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from wb.core.errors import BadArtefact, MissingExtra
from wb.foreign.hub import FILES, fetched

NAME = Path("owner/vit-tiny")


def test_what_is_there_or_is_no_name_stays_as_it_is(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing", Path("a/b/c"), Path("model.pt")):
        assert fetched(path) == path


def test_without_the_library_the_way_to_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"no file or folder owner/vit-tiny; .*pip install 'wb\[hf\]'"):
        fetched(NAME)


def test_only_what_is_read_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        if len(asked) > 1:
            raise OSError("no route to host\nat all")
        return str(tmp_path)

    hub = ModuleType("huggingface_hub")
    vars(hub)["snapshot_download"] = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: hub)
    assert fetched(NAME) == tmp_path
    assert asked == [("owner/vit-tiny", FILES)]
    with pytest.raises(BadArtefact, match=r"does not give a model of that name \(no route to host\); check the name"):
        fetched(NAME)

"""Results come to their places whole, and never over what is somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from wb.compress.finish import place
from wb.core.errors import BadOption


def test_files_come_to_their_places(tmp_path: Path) -> None:
    source, path = tmp_path / "source", tmp_path / "sub" / "path"
    source.write_bytes(b"new")
    place(source, path, force=False)
    assert path.read_bytes() == source.read_bytes() == b"new"
    place(source, path, force=False)  # it is there already: an interruption came between this and the next
    path.write_bytes(b"theirs")
    with pytest.raises(BadOption, match="exists already"):
        place(source, path, force=False)
    assert path.read_bytes() == b"theirs"
    place(source, path, force=True)
    assert path.read_bytes() == b"new"
    assert {p.name for p in tmp_path.rglob("*")} == {"source", "sub", "path"}


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(b"new")
    (tmp_path / "path").mkdir()
    with pytest.raises(BadOption, match="exists already"):
        place(tmp_path / "source", tmp_path / "path", force=False)

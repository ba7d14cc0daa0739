"""Texts for a network, given as they are or in a file."""

from __future__ import annotations

from pathlib import Path

from wb.jobs.verbs.reader import texts_of


def test_a_file_has_a_text_a_line_whatever_signs_are_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("one\u2028two\r\n\n three\x0b\x85\nfour".encode())
    assert texts_of([tmp_path / "a.txt", "five\nsix"]) == ["one\u2028two", " three\x0b\x85", "four", "five\nsix"]

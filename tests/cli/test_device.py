"""`wb device`: tables as devices, and what cannot be recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.commands import succeeded, wb
from tests.hardware.test_tables import PHONE, written
from wb.hardware.remote import profiles


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "user_config_dir", lambda _: str(tmp_path))


def test_a_table_is_kept_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "p.json", PHONE)
    monkeypatch.chdir(tmp_path)
    succeeded("device", "add", "phone", "table:p.json")
    assert json.loads(succeeded("device", "list", "--json").stdout) == {"phone": f"table:{tmp_path / 'p.json'}"}


def test_what_cannot_be_recorded_is_said(tmp_path: Path) -> None:
    nothing = wb("device", "record", "cpu", "-o", tmp_path / "own.json")
    there = wb("device", "record", "cpu", "-o", written(tmp_path / "own.json", "{}"))
    assert (nothing.exit_code, there.exit_code) == (2, 2)
    assert "no blocks to time" in " ".join(nothing.output.split())
    assert "exists; choose another file" in " ".join(there.output.split())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--soc", "sm8550"), "--soc is of no use without --npu"),
        (("-o", "c.onnx"), "--out is of no use without --npu"),
        (("--npu", "qnn", "--seconds", "1"), "--seconds is for devices"),
        (("--npu", "qnn", "--soc", "pentium"), "sm8650 (Snapdragon 8 Gen 3)"),
    ],
)
def test_options_of_one_check_are_not_of_the_other(options: tuple[str, ...], words: str) -> None:
    found = wb("device", "check", "a.onnx", *options)
    assert found.exit_code == 2
    assert words in " ".join(found.output.split())

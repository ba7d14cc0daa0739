"""Damaged and hostile files: every reader gives a result or one paragraph. The same, by the thousand, in `benchmarks/`."""

from __future__ import annotations

import logging
from pathlib import Path
from random import Random

import pytest

from tests.fuzz.mutate import outcome
from tests.fuzz.subjects import SUBJECTS

COUNT = 32


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_damaged_file_gives_a_result_or_one_paragraph(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "wb.data")  # until the test ends
    subject = SUBJECTS[name]
    path = subject.make(tmp_path)
    good = path.read_bytes()
    assert outcome(lambda: subject.read(path)) == "read"
    refused = 0
    for what, content in subject.mutants(good, Random(f"{name} 1"), COUNT):
        path.write_bytes(content)
        try:
            refused += outcome(lambda: subject.read(path)) != "read"
        except Exception as error:
            raise AssertionError(f"{name}, {what}: {type(error).__name__}: {error}") from error
    assert refused > COUNT / 4  # else the mutations are none

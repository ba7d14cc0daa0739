"""The folder of what is done: whose it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from wb.compress.prune.folder import interrupted
from wb.compress.prune.record import Config
from wb.core.errors import BadArtefact
from wb.jobs.work import LOCK, work_of


def test_nothing_there_is_nothing_to_continue(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    assert interrupted(out, Config(), "key", "data") is None
    assert not work_of(out).exists()
    work_of(out).mkdir()
    assert interrupted(out, Config(), "key", "data") is None, "an empty one"
    (work_of(out) / LOCK).touch()
    assert interrupted(out, Config(), "key", "data") is None, "one that was just made"


@pytest.mark.parametrize("name", ["a.partial", "a.partial/notes.txt", "a.partial/sub/notes.txt"])
def test_what_is_not_ours_is_refused(tmp_path: Path, name: str) -> None:
    theirs = tmp_path / name
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_text("mine")
    with pytest.raises(BadArtefact, match=r"a\.partial is no folder of an interrupted pruning; move it away"):
        interrupted(tmp_path / "a.pt", Config(), "key", "data")
    assert theirs.read_text() == "mine"


def test_a_record_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.partial").mkdir()
    (tmp_path / "a.partial" / "record.json").write_text("{}")
    with pytest.raises(BadArtefact, match=r"record\.json is damaged or no record of a pruning"):
        interrupted(tmp_path / "a.pt", Config(), "key", "data")

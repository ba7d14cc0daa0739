"""The folder of what is done: whose it is, and that only one process works in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wb.compress.folder import LOCK, interrupted, locked, work_of
from wb.compress.record import Config
from wb.core.errors import BadArtefact, BadOption

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_nothing_there_is_nothing_to_continue(tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    assert work_of(out) == tmp_path / "a.partial"
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


def test_one_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / LOCK)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BadOption, match="another process is at work in"), locked(tmp_path):
            pytest.fail("both are in")
        assert other.stdin is not None
        other.stdin.close()
        other.wait()
    with locked(tmp_path), pytest.raises(BadOption, match="another process"), locked(tmp_path):
        pytest.fail("both are in")
    with locked(tmp_path):
        pass


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    with locked(tmp_path):
        pass

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.jobs.frame.work import LOCK, locked, work_of

HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_the_folder_lies_beside_the_output(tmp_path: Path) -> None:
    assert work_of(tmp_path / "a.safetensors") == tmp_path / "a.partial"
    assert list(tmp_path.iterdir()) == []


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

"""How commands end: interrupted, terminated, unread, without memory. The last words say how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.processes import Command
from wb.cli.frame import output
from wb.cli.frame.errors import MEMORY, Terminated, ending
from wb.cli.main import app
from wb.core.errors import BadArtefact, BudgetMissed
from wb.jobs.frame.work import resumable

WB = [sys.executable, "-m", "wb.cli.main"]


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (KeyboardInterrupt(), "interrupted: nothing was written; the same command starts over", 130),
        (Terminated(signal.SIGTERM), "terminated: nothing was written; the same command starts over", 143),
        (BudgetMissed("too slow"), "error: too slow", 3),
        (MemoryError(), f"error: {MEMORY}", 1),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"), MEMORY, 1),
        (ImportError("libtorch.so: failed to map segment from shared object"), MEMORY, 1),
        (RuntimeError("std::bad_alloc"), MEMORY, 1),
        (RuntimeError("Symlink loop from '/a/b'"), "a symbolic link leads back to itself: '/a/b'", 1),
        (RuntimeError("Could not determine home directory."), "the name of a user that does not exist", 1),
        (OSError(28, "No space left on device"), "check the path, the permissions and the space on the disk", 1),
        (BrokenPipeError(32, "Broken pipe"), "check the path, the permissions", 1),  # of a database, not of the output
        (ZeroDivisionError("x"), "error: ZeroDivisionError: x. This is a mistake of wb's", 1),
    ],
)
def test_every_end_is_one_paragraph_with_its_code(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("wb.spaces.columnar.presets.preset", fail)
    result = CliRunner().invoke(app, ["spaces", "tiny"])
    assert result.exit_code == code
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_lack_of_memory_is_said_where_an_error_has_it_as_cause() -> None:
    error = BadArtefact("x.onnx fails on images")
    assert ending(error).text == "x.onnx fails on images"
    error.__cause__ = RuntimeError("BFCArena: Failed to allocate memory for requested buffer of size 1048576")
    assert ending(error).text == MEMORY


@pytest.mark.parametrize(
    ("error", "first"), [(KeyboardInterrupt(), "interrupted: "), (BadArtefact("bad"), "error: bad\n")]
)
def test_the_last_words_say_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, first: str
) -> None:
    out, work = tmp_path / "a b.pt", tmp_path / "a b.partial"

    def fail(*_: object) -> None:
        with resumable(work, output.continues(work, out)):
            work.mkdir()
            raise error

    monkeypatch.setattr("wb.spaces.columnar.presets.preset", fail)
    result = CliRunner().invoke(app, ["spaces", "tiny"])
    assert result.stderr == f"{first}what is done is in {work}; the same command with -o '{out}' continues\n"


def test_a_signal_ends_a_training_with_how_to_continue(tmp_path: Path) -> None:
    out, checkpoint = tmp_path / "m.pt", tmp_path / "m.pt.checkpoint"
    training = Command("train", "--epochs", 5000, "--limit", 32, "-o", out).until(checkpoint.exists)
    code, said, errors = training.send(signal.SIGTERM).end()
    assert code == 143, errors
    assert said == ""
    lines = errors.splitlines()
    assert lines[0] == "reading the data", "and so on, while it works"
    assert lines[-1] == f"terminated: what is done is in {checkpoint}; the same command with -o {out} continues"
    assert checkpoint.exists()


def unread(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A command whose output nobody reads."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        return subprocess.run([*WB, *arguments], stdout=closed, stderr=subprocess.PIPE, text=True, check=False)


@pytest.mark.parametrize(
    "arguments", [("spaces",), ("spaces", "--json"), ("prune", "nvit", "--help"), ("--help",), ("--version",)]
)
def test_an_output_that_nobody_reads_is_no_failure(arguments: tuple[str, ...]) -> None:
    done = unread(*arguments)
    assert (done.stderr, done.returncode) == ("", 141)


def test_an_output_without_space_is_said_once() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    for argument in ("spaces", "--version"):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run([*WB, argument], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: [Errno 28] No space left on device; check")
        assert len(done.stderr.splitlines()) == 1


def test_warnings_of_libraries_are_for_debugging() -> None:
    code = (
        "import warnings, wb.spaces.columnar.presets as p\n"
        "def preset(name): warnings.warn('deprecated', stacklevel=1); raise OSError('gone')\n"
        "p.preset = preset"
    )
    for arguments, warned in (((), False), (("--debug",), True)):
        done = Command("spaces", "tiny", *arguments, first=code).end()
        assert done.returncode == 1
        assert ("deprecated" in done.stderr) is warned
        assert "error: gone" in done.stderr

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from wb.core.errors import BadArtefact, BadOption, StorageFailed
from wb.core.system import files
from wb.core.system.files import (
    absolute,
    clear,
    irregular,
    place,
    read_text,
    regular,
    replacing,
    scratch,
    sweep,
    write_text,
)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever for somebody to write."""
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "to pipe").symlink_to("pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "lost").symlink_to("nothing")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    expected = {
        "file": None,
        "link": None,
        "folder": "is a folder",
        "pipe": "is a named pipe",
        "to pipe": "is a named pipe",
        "loop": "is a symbolic link that leads back to itself",
        "lost": "leads to nothing",
        "socket": "is a socket",
        "none": "does not exist",
        "a\0b": "is no name of a file",
        "x" * 300: "cannot be read (File name too long)",
    }
    assert {name: irregular(tmp_path / name) for name in expected} == expected
    assert irregular(Path("/dev/null")) == "is a device"
    assert regular(tmp_path / "link", "a text") == tmp_path / "link"
    for name, why in expected.items():
        if why is not None:
            with pytest.raises(BadArtefact, match="; expected a text"):
                read_text(tmp_path / name, "a text")


def test_text_is_utf8_and_of_a_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_TEXT", 8)
    (tmp_path / "a").write_bytes("schön".encode())
    assert read_text(tmp_path / "a", "a text") == "schön"
    (tmp_path / "a").write_bytes("schön".encode("latin1"))
    with pytest.raises(BadArtefact, match=r"cannot be read.*utf-8.*; expected a text"):
        read_text(tmp_path / "a", "a text")
    (tmp_path / "a").write_text("long enough")
    with pytest.raises(BadArtefact, match="has 11 bytes, and at most 8 are read"):
        read_text(tmp_path / "a", "a text")


def test_paths_are_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert absolute("~/a/../b") == tmp_path / "b"
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(BadOption, match="leads back to itself"):
        absolute(tmp_path / "loop")
    with pytest.raises(BadOption, match="the name of a user that does not exist"):
        absolute("~nosuchuser")


def test_a_failure_in_the_middle_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with (
        pytest.raises(StorageFailed, match=r"could not write .*a\.txt: No space left.*free some space"),
        replacing(path),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert path.read_text() == "old"


def test_what_exists_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(BadOption, match="exists already; choose another name or say --force"):
        write_text(path, "new", force=False)
    write_text(path, "new", force=True)
    assert path.read_text() == "new"


def test_folders_are_made_and_a_file_in_their_place_is_an_error(tmp_path: Path) -> None:
    write_text(tmp_path / "b/c/d.txt", "x")
    assert (tmp_path / "b/c/d.txt").read_text() == "x"
    with pytest.raises(StorageFailed, match="could not write"):
        write_text(tmp_path / "b/c/d.txt/e.txt", "x")


def test_files_come_to_their_places(tmp_path: Path) -> None:
    """Whole, and never over what is somebody else's."""
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


def test_a_scratch_folder_is_there_and_then_gone() -> None:
    with scratch() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.is_dir()
    assert not folder.exists()


def test_a_scratch_folder_is_gone_after_an_interruption() -> None:
    with pytest.raises(KeyboardInterrupt), scratch() as folder:
        raise KeyboardInterrupt
    assert not folder.exists()


KILLED = """
import os, sys, time
from wb.core.system.files import scratch
with scratch() as folder:
    (folder / "weights").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def left_by(root: Path, *, kill: bool) -> tuple[Path, subprocess.Popen[str]]:
    """The scratch folder of another process, which is killed or lives on."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(root)},
    )  # fmt: skip
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    if kill:
        process.kill()
        process.communicate()
    return folder, process


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    alive, process = left_by(tmp_path, kill=False)
    dead, _ = left_by(tmp_path, kill=True)
    try:
        others = [tmp_path / "wb-mine", tmp_path / "wb-file", tmp_path / "other"]
        others[0].mkdir()
        (others[0] / "precious").write_bytes(b"x")
        others[1].write_bytes(b"x")
        others[2].mkdir()
        (others[2] / ".in-use").touch()
        (others[2] / "precious").write_bytes(b"x")
        (tmp_path / "wb-link").symlink_to(others[2])
        fake = tmp_path / "wb-fake"
        fake.mkdir()
        (fake / ".in-use").symlink_to(others[1])
        assert dead.is_dir()
        sweep(tmp_path)
        assert not dead.exists()
        assert (alive / "weights").exists(), "its process lives"
        assert (others[0] / "precious").exists(), "no folder of ours"
        assert (others[2] / "precious").exists(), "links are not followed"
        assert others[1].read_bytes() == b"x"
        assert fake.exists()
    finally:
        process.communicate("")
    assert not alive.exists(), "its process took it away"


def test_what_a_killed_process_left_half_written_is_cleared_when_the_file_is_written_again(tmp_path: Path) -> None:
    old, new, other = (
        tmp_path / name for name in (".a.txt.abcdefgh.txt", ".a.txt.ijklmnop.txt", ".b.txt.abcdefgh.txt")
    )
    for path in (old, new, other):
        path.write_text("half")
    for path in (old, other):
        os.utime(path, (0, 0))
    write_text(tmp_path / "a.txt", "whole")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", new, other}, "another process may be at the newer one"
    clear(tmp_path / "a.txt")
    assert set(tmp_path.iterdir()) == {tmp_path / "a.txt", other}, "but not where there is no other"
    clear(tmp_path / "none" / "a.txt")

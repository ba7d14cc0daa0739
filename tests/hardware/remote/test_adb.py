"""Devices behind adb: what is timed through a stand-in for it, and what is said where there is none."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wb.core.errors import BadOption
from wb.export.timing.measure import measure_latency
from wb.export.timing.reference import transformer_graph
from wb.hardware.device import parse_device
from wb.hardware.remote.address import Address, greeting, link_to
from wb.hardware.remote.link import DeviceLost, Link

# As adb 29 and 34 say it.
_ADB = """#!/bin/sh
echo "$@" >> "{folder}/asked"
[ "$1 $3 $4" = "-s shell -T" ] || {{ echo "adb: unknown command $3" >&2; exit 1; }}
case $2 in
  none) echo "error: device 'none' not found" >&2; exit 1 ;;
  gone) echo "adb: device 'gone' not found" >&2; exit 1 ;;
  strange) printf 'error: device unauthorized.\\nOtherwise check for a confirmation dialog.\\n' >&2; exit 1 ;;
  asleep) echo "error: device offline" >&2; exit 1 ;;
  locked) echo "error: insufficient permissions for device: user in plugdev group" >&2; exit 1 ;;
  old) echo "error: target doesn't support PTY args -Tt" >&2; exit 1 ;;
  phone) echo "/system/bin/sh: python3: inaccessible or not found" >&2; exit 127 ;;
esac
PATH="{folder}/there:$PATH" exec sh -c "$5"
"""


@pytest.fixture
def adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a program that passes for adb; it runs what it is given here."""
    program, python = tmp_path / "adb", tmp_path / "there" / "python3"
    program.write_text(_ADB.format(folder=tmp_path))
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    for one in (program, python):
        one.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    yield tmp_path
    link_to.cache_clear()
    greeting.cache_clear()


def test_graphs_are_timed_there(adb: Path) -> None:
    device = parse_device("adb:board:5555")
    try:
        graph = transformer_graph(4, 8, 1)
        found = measure_latency({"a": graph}, device, cap_s=0.2)["a"].reading
        assert found.value > 0
        assert str(found.device).endswith(", at adb:board:5555")
    finally:
        link_to("adb:board:5555").close()
    (asked,) = (adb / "asked").read_text().splitlines()  # one channel, and no file that is left
    assert asked.startswith("-s board:5555 shell -T exec python3 -u -c ")


@pytest.mark.parametrize(
    ("serial", "words"),
    [
        ("none", r"device 'none' not found\); adb sees no device of that serial number: adb devices lists them"),
        ("gone", r"device 'gone' not found\); adb sees no device"),
        ("strange", "it does not trust this machine yet: allow USB debugging"),
        ("asleep", r"device offline\); adb sees it, but has no connection"),
        ("locked", "adb may not open it: udev"),
        ("old", "Android 7 or later"),
        ("phone", r"Android brings none: name one .* ,python=.* wb bundle MODEL -o FOLDER --runtimes litert"),
    ],
)
def test_what_adb_says_is_told_with_the_next_step(adb: Path, serial: str, words: str) -> None:
    link = Link(f"adb:{serial}", Address.parse(f"adb:{serial}").argv())
    with pytest.raises(DeviceLost, match=f"adb:{serial} does not answer: .*{words}"):
        link.ask("hello")


def test_another_python_and_cores_are_named(adb: Path) -> None:
    argv = Address.parse("adb:0123,python=/data/local/tmp/my python,cores=big").argv()
    assert argv[:5] == ["adb", "-s", "0123", "shell", "-T"]
    assert argv[5].startswith("exec '/data/local/tmp/my python' -u -c ")


def test_no_adb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeviceLost, match=r"adb:x cannot be reached: adb: No such file.*; install it \(apt install adb"):
        Link("adb:x", Address.parse("adb:x").argv()).ask("hello")


@pytest.mark.parametrize("text", ["adb", "adb:", "adb:-s", "adb:a b", "adb:x;reboot", "adb:x,folder=/y"])
def test_what_is_no_serial_number(text: str) -> None:
    with pytest.raises(BadOption):
        Address.parse(text)

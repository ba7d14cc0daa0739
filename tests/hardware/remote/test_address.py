"""Addresses, profiles, and devices that they name."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from wb.core.errors import BadArtefact, BadOption, Unsupported
from wb.hardware.device import Device, parse_device
from wb.hardware.remote import address as module
from wb.hardware.remote import elsewhere as there
from wb.hardware.remote import profiles
from wb.hardware.remote.address import Address, Greeting, checked, cores_of, starts_commands
from wb.hardware.remote.elsewhere import ours_there, runtime_of
from wb.hardware.remote.link import DeviceLost, Link
from wb.hardware.remote.profiles import add_profile, read_profiles, remove_profile
from wb.hardware.remote.runner import hello
from wb.hardware.runtimes.known import way_of

PI: dict[str, Any] = {
    **hello(),
    "processor": "Raspberry Pi 5",
    "onnxruntime": "1.20.0",
    "openvino": None,
    "litert": None,
    "providers": ["CPUExecutionProvider"],
    "cores": {str(core): {"capacity": 1024 if core > 3 else 400, "max_khz": 0} for core in range(6)},
}


@pytest.fixture(autouse=True)
def _own_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "user_config_dir", lambda _: str(tmp_path))


@pytest.fixture
def greeted(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A board with two classes of cores; changes to it are what it says."""
    about = dict(PI)
    for place in (module, there):
        monkeypatch.setattr(place, "greeting", lambda _: Greeting.model_validate(about))
    return about


def test_ssh_asks_for_no_password_and_starts_the_python_there() -> None:
    argv = Address.parse("ssh:pi@host:2222,python=/opt/my venv/python,cores=big").argv()
    assert argv[0] == "ssh"
    assert "BatchMode=yes" in argv
    assert argv[-5:-1] == ["-p", "2222", "--", "pi@host"]
    assert argv[-1].startswith("exec '/opt/my venv/python' -u -c ")
    assert Address.parse("ssh:pi").argv()[-3:-1] == ["--", "pi"]
    assert Address.parse("run:qemu-aarch64 -L root python3").argv()[:4] == ["qemu-aarch64", "-L", "root", "python3"]


@pytest.mark.parametrize(
    "text",
    [
        *(
            "pi",
            "telnet:pi",
            "ssh:",
            "ssh:-oProxyCommand=evil",
            "ssh::22",
            "ssh:a b",
            "ssh:pi\n",
            "run: ",
            'run:python "',
        ),
        *("local,cores", "local,colour=red", "local:x", "local,cores=huge", "local,runtime=tvm", "ssh:pi,cores=1+"),
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadOption, match="device"):
        Address.parse(text)


def test_profiles_are_kept(tmp_path: Path) -> None:
    assert read_profiles() == {}
    add_profile("pi4", "ssh:pi@four")
    add_profile("pi5", "ssh:pi@five,cores=big")
    add_profile("pi4", "ssh:pi@4")
    assert read_profiles() == {"pi4": "ssh:pi@4", "pi5": "ssh:pi@five,cores=big"}
    remove_profile("pi4")
    assert [*read_profiles()] == ["pi5"]
    with pytest.raises(BadOption, match="no profile 'pi4'; there are pi5"):
        remove_profile("pi4")
    (tmp_path / "devices.json").write_text("[1")
    with pytest.raises(BadArtefact, match="is damaged"):
        read_profiles()


@pytest.mark.parametrize(("name", "address"), [("cpu", "local"), ("a:b", "local"), ("", "local"), ("pi", "host")])
def test_profiles_have_names_of_their_own_and_addresses(name: str, address: str) -> None:
    with pytest.raises(BadOption):
        add_profile(name, address)
    assert read_profiles() == {}


@pytest.mark.parametrize(("cores", "found"), [("big", (4, 5)), ("little", (0, 1, 2, 3)), ("1+0", (0, 1))])
def test_cores_by_class(greeted: dict[str, Any], cores: str, found: tuple[int, ...]) -> None:
    assert cores_of(f"ssh:pi,cores={cores}") == found
    assert cores_of("ssh:pi") is None


@pytest.mark.parametrize("cores", ["9", "0+9"])
def test_cores_that_are_not_there(greeted: dict[str, Any], cores: str) -> None:
    with pytest.raises(BadOption, match="not all there"):
        cores_of(f"ssh:pi,cores={cores}")


def test_a_device_elsewhere_is_what_it_says_it_is(greeted: dict[str, Any]) -> None:
    add_profile("pi5", "ssh:pi@five,cores=big")
    device = parse_device("pi5", threads=2)
    assert (device.processor, device.version, device.cores) == ("Raspberry Pi 5", "1.20.0", (4, 5))
    assert "at ssh:pi@five" in device.text
    assert device.here.address is None
    keys = {parse_device(name).key for name in ("pi5", "ssh:pi@other,cores=big", "ssh:pi@five,cores=little", "ssh:pi")}
    assert len(keys) == 3  # two are equal boards
    with pytest.raises(BadOption, match=r"threads=3 on pi5, which may use 1\.\.2 cores"):
        parse_device("pi5", threads=3)
    greeted["onnxruntime"] = "1.99"
    assert parse_device("pi5", threads=2).key != device.key
    greeted["providers"] = ["WebExecutionProvider"]
    with pytest.raises(BadOption, match="without a CPU provider"):
        parse_device("pi5")


def test_a_python_without_the_runtime_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unsupported, match="pip install onnxruntime numpy"):
        parse_device(f"run:{sys.executable} -S")


def test_unknown_names_list_the_known() -> None:
    add_profile("pi5", "ssh:pi@five")
    with pytest.raises(BadOption, match="profiles are pi5; an address is local"):
        parse_device("pi4")


def test_addresses_that_name_what_is_run_are_known_for_it() -> None:
    assert starts_commands("run:python3")
    assert starts_commands("ssh:pi,python=/tmp/x")
    assert not any(map(starts_commands, ("ssh:pi,cores=big", "local", "cpu", "pi5")))


@pytest.mark.parametrize(
    "change",
    [
        {"processor": 7},
        {"providers": None},
        {"cores": {}},
        {"cores": {"a": {"capacity": 0, "max_khz": 0}}},
        {"clocks": {}},
        {"state": None},
    ],
)
def test_a_greeting_that_is_none_is_refused(change: dict[str, Any]) -> None:
    link = Link("it", [])
    with pytest.raises(DeviceLost, match="it answers nonsense"):
        checked(Greeting, {**PI, **change}, link)
    assert "\x1b" not in checked(Greeting, {**PI, "processor": "a\x1b[31mb\nc"}, link).processor


def test_a_runtime_elsewhere_is_named_in_the_address(greeted: dict[str, Any]) -> None:
    address = "ssh:pi@five,runtime=openvino"
    with pytest.raises(Unsupported, match="has no openvino; install it there"):
        parse_device(address)
    ours, greeted["openvino"] = parse_device("ssh:pi@five"), "2026.4"
    device = parse_device(address)
    assert (device.name, device.runtime, device.version, device.address) == ("openvino", "openvino", "2026.4", address)
    assert (device.here, ours_there(device)) == (Device(), ours.model_copy(update={"address": address}))
    assert device.key != ours.key
    add_profile("pi5", address)
    assert [runtime_of(spec) for spec in ("pi5", address, "ssh:pi@five", "openvino", "cpu")] == [
        *(2 * ["openvino"]),
        *("onnxruntime", "openvino", "cpu"),
    ]
    assert [way_of(runtime_of(spec), "int8") for spec in ("pi5", "ssh:pi@five", "cpu")] == [
        "static",
        "dynamic",
        "dynamic",
    ]

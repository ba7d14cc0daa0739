"""A device is looked at before it is used."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from wb.core.errors import BadOption
from wb.export.timing.checkup import ALIKE, Checkup, _plugins, checkup
from wb.hardware.remote.address import Greeting
from wb.hardware.remote.link import DeviceLost, Refused


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Checkup:
    """Of a process here that has a plugin whose library is not there."""
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "onnxruntime_ep_acme.py").write_text(
        "get_ep_names = lambda: ['Acme']\nget_library_path = lambda: '/none.so'\n"
    )
    return checkup(f"run:env PYTHONPATH={folder} {sys.executable}", 1, 0.1, lambda *_: None)


def test_a_device_like_this_machine_needs_no_advice_of_ours(found: Checkup) -> None:
    assert found.difference <= ALIKE
    assert found.opset >= 20
    assert json.loads(json.dumps(found.content())) == found.content()
    text = " ".join(f"{what} {value}" for what, value in found.rows())
    assert found.about.processor in text
    assert found.noise.verdict in text
    (plugin,) = [one for one in found.plugins or () if "acme" in one]
    assert plugin in text
    assert "/none.so" in plugin


@pytest.mark.parametrize("why", [Refused("no onnxruntime of a kind", "AttributeError"), DeviceLost("it ended")])
def test_plugins_that_cannot_be_asked_cost_nothing_that_was_measured(why: Exception, found: Checkup) -> None:
    asked = []

    def learn(module: object) -> None:
        asked.append(module)
        raise why

    told = replace(found, plugins=_plugins(SimpleNamespace(learn=learn)))  # type: ignore[arg-type]  # a bench that fails
    assert dict(told.rows())["plugins"] == "not told"
    assert told.content()["plugins"] is None
    assert len(asked) == 1


def test_what_is_wrong_is_said_with_what_to_do(found: Checkup) -> None:
    cores = {str(core): {"capacity": 1024 if core > 3 else 400, "max_khz": 1_800_000} for core in range(8)}
    state = {"governors": ["schedutil"], "khz": [], "celsius": [84.5], "throttled": True, "load": 0.1}
    about = Greeting.model_validate({**found.about.model_dump(), "cores": cores, "state": state})
    bad = Checkup(found.device, about, found.noise, 17, 0.3)
    assert [line.split()[1] for line in bad.advice()] == ["reads", "clock", "is", "cores", "computes"]
    assert "8 of up to 1.80 GHz in 2 classes (4, 4)" in dict(bad.rows())["cores"]
    assert dict(bad.rows())["temperature, degrees"] == "84"


def test_this_machine_is_no_device_elsewhere() -> None:
    with pytest.raises(BadOption, match="wb doctor"):
        checkup("cpu", 1, 0.1, lambda *_: None)

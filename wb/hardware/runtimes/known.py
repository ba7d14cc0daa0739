"""The runtimes there are, and which device belongs to which."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import cast

from wb.core.errors import MissingExtra
from wb.core.records import Precision
from wb.hardware.runtimes.base import Runtime, Way

OURS = "onnxruntime"  # which scores and compares, and has the reference graph
PLUGGED, PLUGIN = "onnxruntime-ep", "ep-"  # with a provider of a plugin, and how the names of its devices begin
WEB = "web"  # in a process of its own
RUNTIMES: Mapping[str, str] = {  # its own devices first; imported when one is asked for
    OURS: "wb.hardware.runtimes.ort:OnnxRuntime",
    "openvino": "wb.hardware.runtimes.ov:OpenVino",
    PLUGGED: "wb.hardware.runtimes.plugged:Plugged",
    WEB: "wb.hardware.runtimes.web.runtime:Web",
    "litert": "wb.hardware.runtimes.litert:LiteRt",
    "litert-int8": "wb.hardware.runtimes.litert:LiteRtInt8",
}


@cache
def runtime(name: str) -> Runtime:
    """The runtime of that name."""
    module, _, kind = RUNTIMES[name].partition(":")
    return cast(Runtime, getattr(import_module(module), kind)())


def offered() -> dict[str, str]:
    """Name of a device of this machine -> the runtime that it belongs to, of all that are installed."""
    return {device: name for name in RUNTIMES for device in runtime(name).devices()}


def runtime_with(device: str) -> str | None:
    """The runtime that a device of this machine belongs to; None for any other name. Plugins are asked for theirs only."""
    asked = (name for name in RUNTIMES if name != PLUGGED or device.startswith(PLUGIN))
    return next((name for name in asked if device in runtime(name).devices()), None)


def address_of(device: str) -> str | None:
    """The address of a runtime, by its name, that has an environment of its own on this machine; None for any other device."""
    return runtime(device).address if device in RUNTIMES else None


def way_of(device: str, precision: Precision) -> Way:
    """How the runtime of a device, by its name, wants activations quantized for such weights; elsewhere that is ours."""
    return runtime(device if device in RUNTIMES else runtime_with(device) or OURS).kinds.get(precision, "dynamic")


def check_installed(device: str) -> None:
    """Raises `MissingExtra` where the name is that of a runtime of this process which is not installed."""
    here = device in RUNTIMES and device not in (OURS, PLUGGED) and address_of(device) is None
    if here and runtime_with(device) is None:
        raise MissingExtra(f"--device {device} needs what is not installed: {runtime(device).how()}")

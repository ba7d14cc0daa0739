"""Plugins of ONNX Runtime: packages that bring an execution provider beside the plain one. Is sent to devices too.

A plugin is a module that tells where its library is. Once that is registered, it offers devices of its machine, or none.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

PREFIX, SIMULATOR = "onnxruntime_ep_", "onnxruntime_qnn"


class Plugin(NamedTuple):
    """A plugin that is installed: its package, its provider, and its `devices`, kind -> which one, or why there are none."""

    package: str
    version: str
    provider: str
    devices: dict[str, str]
    why: str = ""

    @property
    def text(self) -> str:
        """What it is, in words."""
        kinds = ", ".join(f"{kind} of {which}" for kind, which in self.devices.items())
        return f"{self.package} {self.version}: {kinds or self.why}"

    @property
    def simulates(self) -> bool:
        """Whether it is Qualcomm's compiler and simulator, which is not registered and offers no device to time on."""
        return self.package == SIMULATOR.replace("_", "-")

    @property
    def names(self) -> dict[str, str]:
        """Name of a device -> its place (`offered_by`): `ep-webgpu`, or, where it has several kinds, `ep-openvino-npu`."""
        module, short = self.package.replace("-", "_"), self.package.removeprefix("onnxruntime-")
        several = len(self.devices) > 1
        return {
            f"{short}-{kind.lower()}" if several else short: f"{module}:{kind}:{self.provider}" for kind in self.devices
        }


@cache
def plugins() -> tuple[Plugin, ...]:
    """Those that are installed, each registered, so that drivers may start: ask only where a device of theirs is meant.

    But for Qualcomm's, whose libraries print to standard output and may end the process (`wb.export.npu.simulator`).
    """
    found = {one.name for one in pkgutil.iter_modules() if one.name.startswith(PREFIX) or one.name == SIMULATOR}
    return tuple(_simulator(module) if module == SIMULATOR else _registered(module) for module in sorted(found))


def registered() -> set[str]:
    """The providers that were registered so far; nothing is registered for the answer."""
    return {one.provider for one in plugins()} if plugins.cache_info().currsize else set()


def offered_by(place: str) -> Any:
    """The device of ONNX Runtime at a place `module:KIND:Provider`, the first of its kind."""
    import onnxruntime

    plugins()
    _, kind, provider = place.split(":")
    return next(one for one in onnxruntime.get_ep_devices() if one.ep_name == provider and one.device.type.name == kind)


def _simulator(module: str) -> Plugin:
    return Plugin(*_named(module), "", {}, "compiles for NPUs of Qualcomm, and simulates them on x86 processors")


def _named(module: str) -> tuple[str, str]:
    """The package and its version."""
    package = module.replace("_", "-")
    try:
        return package, version(package)
    except PackageNotFoundError:  # it lies on the path without being installed
        return package, "of unknown version"


def _registered(module: str) -> Plugin:
    import onnxruntime

    package, release = _named(module)
    try:
        plugin = importlib.import_module(module)
        (provider, *_) = plugin.get_ep_names()
        onnxruntime.register_execution_provider_library(provider, plugin.get_library_path())
        mine = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    except Exception as error:  # of another version, or a library that is missing; others are of use all the same
        return Plugin(package, release, "", {}, (str(error).strip() or type(error).__name__).splitlines()[0])
    kinds: dict[str, str] = {}
    for one in mine:
        kinds.setdefault(one.device.type.name, _which(one.device))
    return Plugin(package, release, provider, kinds, "" if kinds else "it finds no device on this machine")


def _which(device: Any) -> str:
    """What tells a device from others of its kind: vendor, model, and its name where the runtime knows that (on Windows).

    Other metadata are places, such as a slot, which differ between equal devices and may between two starts of the machine.
    """
    vendor = device.vendor or (f"vendor {device.vendor_id:#06x}" if device.vendor_id else "an unknown vendor")
    model = f"device {device.device_id:#06x}" if device.device_id else ""
    told = ", ".join(filter(None, (device.metadata.get("Description", ""), model)))
    return f"{vendor} ({told})" if told else str(vendor)


def on_plugins(_: Any, __: Mapping[str, Any], ___: bytes) -> dict[str, Any]:
    """What `plugins` finds."""
    return {"plugins": [one._asdict() for one in plugins()]}


OPERATIONS = {"on_plugins": on_plugins}

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
    """A plugin that is installed: its package, its provider, and its `devices`, kind -> vendor, or why there are none."""

    package: str
    version: str
    provider: str
    devices: dict[str, str]
    why: str = ""

    @property
    def text(self) -> str:
        """What it is, in words."""
        kinds = ", ".join(f"{kind} of {vendor}" for kind, vendor in self.devices.items())
        simulates = bool(kinds) and self.simulates
        return f"{self.package} {self.version}: {'simulates NPUs of Qualcomm' if simulates else kinds or self.why}"

    @property
    def simulates(self) -> bool:
        """Whether it is Qualcomm's, which on the machines that it was tried on is a simulator."""
        return self.package == SIMULATOR.replace("_", "-")

    @property
    def names(self) -> dict[str, str]:
        """Name of a device -> its place (`offered_by`): `ep-webgpu`, or, where it has several kinds, `ep-openvino-npu`."""
        if self.simulates:
            return {}
        module, short = self.package.replace("-", "_"), self.package.removeprefix("onnxruntime-")
        several = len(self.devices) > 1
        return {
            f"{short}-{kind.lower()}" if several else short: f"{module}:{kind}:{self.provider}" for kind in self.devices
        }


@cache
def plugins() -> tuple[Plugin, ...]:
    """Those that are installed, each registered."""
    found = {one.name for one in pkgutil.iter_modules() if one.name.startswith(PREFIX) or one.name == SIMULATOR}
    return tuple(_registered(module) for module in sorted(found))


def offered_by(place: str) -> Any:
    """The device of ONNX Runtime at a place `module:KIND:Provider`, the first of its kind."""
    import onnxruntime

    plugins()
    _, kind, provider = place.split(":")
    return next(one for one in onnxruntime.get_ep_devices() if one.ep_name == provider and one.device.type.name == kind)


def _registered(module: str) -> Plugin:
    import onnxruntime

    package = module.replace("_", "-")
    try:
        release = version(package)
    except PackageNotFoundError:  # it lies on the path without being installed
        release = "of unknown version"
    try:
        plugin = importlib.import_module(module)
        (provider, *_) = plugin.get_ep_names()
        onnxruntime.register_execution_provider_library(provider, plugin.get_library_path())
        mine = [one for one in onnxruntime.get_ep_devices() if one.ep_name == provider]
    except Exception as error:  # of another version, or a library that is missing; others are of use all the same
        return Plugin(package, release, "", {}, (str(error).strip() or type(error).__name__).splitlines()[0])
    kinds: dict[str, str] = {}
    for one in mine:
        kinds.setdefault(one.device.type.name, one.device.vendor or "an unknown vendor")
    return Plugin(package, release, provider, kinds, "" if kinds else "it finds no device on this machine")


def on_plugins(_: Any, __: Mapping[str, Any], ___: bytes) -> dict[str, Any]:
    """What `plugins` finds."""
    return {"plugins": [one._asdict() for one in plugins()]}


OPERATIONS = {"on_plugins": on_plugins}

"""Provenance of numbers: the machine, the versions of libraries, the time."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "onnx", "onnxruntime", "optuna", "pymoo", "pot", "scikit-learn", "numpy")


def machine(device: str) -> dict[str, str]:
    """The device, operating system and Python version that numbers are obtained on."""
    return {"device": device, "system": platform.platform(), "python": sys.version.split()[0]}


def versions() -> dict[str, str]:
    """Installed versions of the libraries that affect the numbers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def now() -> str:
    """The current time in UTC, to the second, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")

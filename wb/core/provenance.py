"""Where and when numbers were obtained: the machine, the versions of libraries, the time."""

from __future__ import annotations

import platform
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "onnx", "onnxruntime", "optuna", "pymoo", "pot", "scikit-learn", "numpy")


def machine(device: str) -> dict[str, str]:
    """What the numbers were obtained on."""
    return {"device": device, "system": platform.platform(), "python": sys.version.split()[0]}


def versions() -> dict[str, str]:
    """The installed versions of the libraries that shape the numbers."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def now() -> str:
    """UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")

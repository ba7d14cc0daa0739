"""The checks of `wb doctor`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from typing import NamedTuple

from packaging.requirements import Requirement


class Check(NamedTuple):
    """One check: whether it passed, its subject, what was found, and advice."""

    ok: bool
    what: str
    found: str
    advice: str = ""


def checks(tell: Callable[[str], None]) -> Iterator[Check]:
    """All checks, one after the other; `tell` is called with what is being checked."""
    yield Check(sys.version_info >= (3, 11), "Python", sys.version.split()[0])
    tell("comparing versions")
    yield from _packages()
    tell("looking for runtimes")
    yield from _runtimes()
    tell("exporting and running a graph")
    yield _round_trip()
    tell("listening to the clock")
    yield _clock()


def _packages() -> Iterator[Check]:
    for line in requires("wb") or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        advice = f"pip install '{requirement}'"
        try:
            found = version(requirement.name)
        except PackageNotFoundError:
            yield Check(False, requirement.name, "not installed", advice)
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield Check(fits, requirement.name, f"{found} (wanted {requirement.specifier})", "" if fits else advice)
    if find_spec("torchvision") is not None:
        try:
            importlib.import_module("torchvision")
        except Exception as error:  # a mismatched binary may raise anything
            yield Check(
                False,
                "torchvision",
                f"installed, but broken: {error}",
                "pip uninstall torchvision; wb does not need it",
            )


def _runtimes() -> Iterator[Check]:
    import onnxruntime
    import torch

    from wb.hardware.remote.plugins import plugins

    yield Check(True, "ONNX Runtime providers", ", ".join(onnxruntime.get_available_providers()))
    for plugin in plugins():
        uses = [f"--device {name}" for name in plugin.names]
        uses += ["wb device check --npu qnn MODEL"] if plugin.simulates else []
        works = bool(plugin.provider) or plugin.simulates
        advice = ", ".join(uses) if works else "update it and onnxruntime"
        yield Check(works, "plugin of ONNX Runtime", plugin.text, advice)
    training = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    yield Check(
        True, "training device", f"{training}, {torch.get_num_threads()} threads by default, wb takes 1 (--threads)"
    )


def _round_trip() -> Check:
    """Exports and runs a small network, with the check of parity."""

    from wb.core.records import ImageInput
    from wb.core.system.files import scratch
    from wb.export.graph import export
    from wb.models.model import from_network
    from wb.models.network import build
    from wb.spaces.columnar.presets import TINY
    from wb.spaces.columnar.space import Vit

    image = ImageInput(channels=1, height=8, width=8, mean=(0.0,), std=(1.0,))
    architecture = Vit(TINY, image, 2).largest()
    network = build(architecture)
    network.reset()
    try:
        with scratch() as folder:
            parity = export(from_network(architecture, network), folder / "x.onnx")
    except Exception as error:  # the point of a doctor is to find what raises
        return Check(False, "export and run", f"{type(error).__name__}: {error}", "install the versions above")
    return Check(True, "export and run", f"largest difference {parity.value:.1g}")


def _clock() -> Check:
    from wb.export.timing.clock import noise

    found = noise()
    return Check(True, "clock", found.verdict)

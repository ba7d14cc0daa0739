"""What there is to know of a device elsewhere before a search begins there."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from wb.core.commands.progress import Progress
from wb.core.errors import BadOption
from wb.export.graph import OPSET
from wb.export.run import Runner
from wb.export.timing import clock
from wb.export.timing.bench import There
from wb.export.timing.clock import Noise, Sample, describe
from wb.export.timing.reference import REFERENCE, overhead_graph, reference_graph
from wb.hardware.device import Device, parse_device
from wb.hardware.remote import plugins
from wb.hardware.remote.address import Greeting, Text, ask_hello, checked, greeting, link_to
from wb.hardware.remote.elsewhere import ours_there
from wb.hardware.remote.link import DeviceLost, Refused
from wb.hardware.remote.plugins import Plugin
from wb.hardware.remote.session import Remote
from wb.hardware.runtimes.known import runtime, runtime_with

OPSETS = range(17, 25)
ALIKE = 1e-4  # of the largest output: two processors add in other orders
PERFORMANCE = ("performance", "")


@dataclass(frozen=True)
class Checkup:
    """A device, what it says of itself (`wb.hardware.remote.runner.hello`), and what was tried on it.

    `opset` is the newest that its runtime reads, 0 for none of those tried; `difference` is between its outputs and this
    machine's for the reference graph, relative to the largest. `plugins` is None where it could not say.
    """

    device: Device
    about: Greeting
    noise: Noise
    opset: int
    difference: float
    plugins: tuple[str, ...] | None = ()

    def rows(self) -> list[tuple[str, str]]:
        """What was found, in words."""
        about, noise, state = self.about, self.noise, self.about.state
        largest = max((core.max_khz for core in about.cores.values()), default=0)
        clock_text = f" of up to {largest / 1e6:.2f} GHz" if largest else ""
        spread = "unknown" if noise.cv_clean is None else f"{100 * noise.cv_clean:.1f} %"
        other = "".join(f", {name} {found}" for name in ("openvino", "litert") if (found := about.version_of(name)))
        heat = ", ".join(f"{one:.0f}" for one in state.celsius) or "not told"
        return [
            ("processor", about.processor),
            ("system", f"{about.system}, {about.machine}"),
            ("runtime", f"onnxruntime {about.onnxruntime}{other}, numpy {about.numpy}, Python {about.python}"),
            ("providers", ", ".join(about.providers)),
            ("plugins", "not told" if self.plugins is None else "; ".join(self.plugins) or "none"),
            ("cores", f"{len(about.cores)}{clock_text}{self._classes()}"),
            ("memory", f"{about.memory / 2**30:.1f} GiB" if about.memory else "not told"),
            ("governor", ", ".join(state.governors) or "not told"),
            ("temperature, degrees", heat),
            ("throttled", "yes" if state.throttled else "no"),
            ("newest opset", str(self.opset) if self.opset else f"none of {OPSETS[0]} to {OPSETS[-1]}"),
            (
                "reference graph",
                f"{noise.reference_ms:.4g} ms; {noise.samples} samples, {100 * noise.disturbed:.0f} % disturbed",
            ),
            ("spread of clean samples", spread),
            ("differs from this machine", f"{self.difference:.2g} of the largest output"),
            ("clock", noise.verdict),
        ]

    def advice(self) -> list[str]:
        """What to do about it, if anything."""
        state, found = self.about.state, []
        if self.opset < OPSET:
            found.append(
                f"it reads no opset {OPSET}, which wb writes: update onnxruntime there, or export with --opset {self.opset}"
            )
        if any(governor not in PERFORMANCE for governor in state.governors):
            found.append(
                "its clock follows the load: set the governor to performance while you measure "
                "(echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor)"
            )
        if state.throttled:
            found.append("it is throttled: let it cool, or measure what it does for long with that in mind")
        if self._classes():
            found.append("its cores differ: say which are meant with ,cores=big or ,cores=little in its address")
        if self.difference > ALIKE:
            found.append("it computes something else than this machine: do not trust it before you know why")
        return found

    def content(self) -> dict[str, Any]:
        """The same as JSON."""
        return {
            "device": self.device.text,
            "key": self.device.key,
            "about": self.about.model_dump(mode="json"),
            "noise": self.noise.model_dump(),
            "opset": self.opset,
            "difference": self.difference,
            "plugins": None if self.plugins is None else list(self.plugins),
            "advice": self.advice(),
        }

    def _classes(self) -> str:
        """The classes of cores, where there are several."""
        ranks = [core.capacity or core.max_khz for core in self.about.cores.values()]
        kinds = {rank: ranks.count(rank) for rank in sorted(set(ranks), reverse=True)}
        return "" if len(kinds) < 2 else f" in {len(kinds)} classes ({', '.join(map(str, kinds.values()))})"


def checkup(spec: str, threads: int, seconds: float, progress: Progress) -> Checkup:
    """Looks at the device `spec`, and samples the reference graph there for `seconds`, by ONNX Runtime if another one is slow.

    Raises:
        BadOption: it is this machine's own, or no address.
        DeviceLost: it does not answer.
        Unsupported: it cannot run the reference graph.
    """
    if runtime_with(spec) is not None:
        raise BadOption(
            f"{spec!r} is this machine itself, which wb doctor looks at; 'local' is a process of its own on it"
        )
    device = parse_device(spec, threads, finished=True)
    about = greeting(str(device.address))
    if runtime(device.runtime).slow is not None:
        device = ours_there(device)
    progress("trying opsets", 0, 0)
    opset = max(_read(device), default=0)
    progress("timing the reference graph", 0, 0)
    bench = There({"again": reference_graph()}, device, 1, 0)
    samples: list[Sample] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(samples) < 10:
        samples += bench.run(["again"] * 4)
    judged = about.clocks.get("thread_time", 1.0) < clock.SAMPLE_S / 50
    told = {"load": about.state.load, "cores": len(about.cores)}
    clocks = {
        "wall_resolution_s": about.clocks.get("perf_counter", 1.0),
        "cpu_resolution_s": about.clocks.get("thread_time", 1.0),
    }
    noise = describe(samples, device, judged).model_copy(update={**told, **clocks})
    found = ask_hello(link_to(str(device.address)))  # its state after it was busy
    progress("comparing outputs", 0, 0)
    difference = _difference(device)
    return Checkup(device, found, noise, opset, difference, _plugins(bench))


def _plugins(bench: There) -> tuple[str, ...] | None:
    """What plugins of ONNX Runtime there are; None where that fails, for a library of theirs may end the runner.

    It is asked once, and last: nothing that was measured depends on it.
    """
    try:
        bench.learn(plugins)
        found = checked(_Found, bench.link.ask("plugins"), bench.link).plugins
    except (Refused, DeviceLost):
        return None
    return tuple(Plugin(**one.model_dump()).text for one in found)


class _Plugin(BaseModel):
    package: Text
    version: Text
    provider: Text
    devices: dict[Text, Text]
    why: Text


class _Found(BaseModel):
    plugins: list[_Plugin]


def _read(device: Device) -> Iterator[int]:
    """The opsets that its runtime reads."""
    import onnx

    link = link_to(str(device.address))
    link.loaded = None
    for opset in OPSETS:
        graph = onnx.load_from_string(overhead_graph())
        graph.opset_import[0].version = opset
        content = graph.SerializeToString()
        sha = hashlib.sha256(content).hexdigest()
        link.ask("put", content, sha=sha)
        try:
            link.ask("load", name="tried", sha=sha, threads=1, provider="CPUExecutionProvider", cores=None)
        except Refused:
            continue
        yield opset


def _difference(device: Device) -> float:
    """The largest difference between its outputs and this machine's for the reference graph, relative to the largest."""
    tokens, embed, _ = REFERENCE
    inputs = {"x": np.random.default_rng(0).random((1, tokens, embed), dtype=np.float32)}
    there = Remote(reference_graph(), "the reference graph", device).run(None, inputs)[0]
    import onnx

    here = Runner(onnx.load_from_string(reference_graph()), Device())(inputs)
    return float(np.abs(here - there).max() / np.abs(here).max())

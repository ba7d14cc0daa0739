"""Who has graphs loaded in a runner elsewhere: one at a time, and again after the channel was lost."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from wb.core.errors import BadArtefact, BadOption
from wb.hardware.remote import lt_session, ov_session
from wb.hardware.remote.address import LOCAL, Address, ask_hello, checked, greeting, link_to
from wb.hardware.remote.link import DeviceLost, Link, Refused
from wb.hardware.runtimes.failures import why_not_loaded
from wb.hardware.runtimes.known import OURS, WEB
from wb.hardware.runtimes.ort import providers
from wb.hardware.runtimes.web import web_session
from wb.hardware.runtimes.web.place import folder

if TYPE_CHECKING:
    from wb.hardware.device import Device

ATTEMPTS = 3  # at one piece of work, where the channel is lost each time
NOT_THE_GRAPH = ("MemoryError", "OSError", "KeyError")  # errors there for which no other graph would help
LOAD_S = 120.0  # at most, for a graph or for a batch of samples
# Another runtime than ours -> its module for a runner, and what it calls the processor (`footprint.py` tells them by it).
SESSIONS: Mapping[str, tuple[ModuleType, str]] = {
    "openvino": (ov_session, "CPU"),
    "litert": (lt_session, "LiteRT"),
    "litert-int8": (lt_session, "LiteRT"),
    WEB: (web_session, "Web"),
}
T = TypeVar("T")


class Tenant(ABC):
    """Graphs that are loaded on a device elsewhere, for as long as nobody else loads others there.

    Raises:
        BadOption: another device answers at its address now.
        DeviceLost: it does not answer, and has not come back.
    """

    def __init__(self, device: Device) -> None:
        self.device, self.link = device, link_to(str(device.address))
        self._identity = greeting(str(device.address)).identity

    @abstractmethod
    def load(self) -> None:
        """Sends what is missing there, and makes everything ready."""

    def persistently(self, work: Callable[[], T]) -> T:
        """Does `work`, with everything loaded; where the channel is lost, once more, on everything loaded anew."""
        for left in reversed(range(ATTEMPTS)):
            try:
                if self.link.loaded is not self:  # another runner, or other graphs in it
                    self._move_in()
                return work()
            except DeviceLost:
                if not left:
                    raise
                self.link.again()
        raise AssertionError("unreachable")  # the last attempt returns or raises

    def send(self, contents: Iterable[bytes]) -> None:
        """Sends those files that the runner has not."""
        files = {hash_of(content): content for content in contents}
        missing = checked(_Have, self.link.ask("have", shas=sorted(files)), self.link).missing
        for sha in files.keys() & set(missing):
            self.link.ask("put", files[sha], sha=sha)

    def learn(self, module: Any) -> None:
        """Sends a module of operations, or of a runtime, once: what it keeps is kept."""
        teach(self.link, module)

    def asked(self, op: str, name: str, content: bytes, what: str, *, ours: bool = False) -> dict[str, Any]:
        """The answer to `load` or `open` of a graph that was sent, by the device's runtime, or by `ours` there.

        Raises:
            BadArtefact: the runtime there lacks something of it.
        """
        device, options = self.device, dict[str, Any]()
        options["provider"] = provider_of(device, ours=ours)
        if device.runtime != OURS and not ours:
            options["runtime"] = _short(SESSIONS[device.runtime][0])
        options |= {"sha": hash_of(content), "name": name, "threads": device.threads, "cores": device.cores}
        try:
            return self.link.ask(op, seconds=LOAD_S, **options)
        except Refused as error:
            if error.kind in NOT_THE_GRAPH:
                raise self.link.nonsense(f"{what} could not be loaded: {error}") from error
            known = f"{device.runtime} {device.version}"
            raise BadArtefact(why_not_loaded(what, str(error), known, device.name, content)) from error

    def _move_in(self) -> None:
        self.link.loaded = None
        if ask_hello(self.link).identity != self._identity:
            raise BadOption(
                f"another device, or another runtime, answers at {self.device.address} now; what was measured before is of "
                f"{self.device.text}. Begin again"
            )
        try:
            if self.device.runtime != OURS:
                self.learn(SESSIONS[self.device.runtime][0])
            self.load()
        except Refused as error:  # no room for what is sent, or it did not arrive whole
            raise self.link.nonsense(f"what was sent could not be taken: {error}") from error
        self.link.loaded = self


def teach(link: Link, module: Any) -> None:
    """Sends a module to the runner that answers now, once."""
    name = _short(module)
    if name not in link.learned:
        link.ask("learn", Path(module.__file__).read_bytes(), name=name)
        link.learned.add(name)


def _short(module: Any) -> str:
    return str(module.__name__).rpartition(".")[2]


def provider_of(device: Device, *, ours: bool = False) -> str:
    """What runs the graphs, in the words of the device's runtime; of `ours` its processor where that is another one."""
    if device.runtime == WEB and not ours:
        return f"{SESSIONS[WEB][1]} {web_folder(str(device.address))}"
    if device.runtime != OURS:
        return "CPUExecutionProvider" if ours else SESSIONS[device.runtime][1]
    return providers().get(device.name, f"{device.name.upper()}ExecutionProvider")


def web_folder(address: str) -> str:
    """The folder of ONNX Runtime Web that an address names; where it names none, the usual one here, and none elsewhere."""
    parsed = Address.parse(address)
    return parsed.folder or (str(folder()) if parsed.form == LOCAL else "")


def hash_of(content: bytes) -> str:
    """The name of a file on a device."""
    return hashlib.sha256(content).hexdigest()


def content_of(graph: Path | bytes) -> bytes:
    """What is sent of a graph. Raises `BadArtefact` if its file is none."""
    if isinstance(graph, bytes):
        return graph
    if not graph.is_file():
        raise BadArtefact(f"{graph} is not a file; give an ONNX file, such as `wb export` writes")
    return graph.read_bytes()


class _Have(BaseModel):
    missing: list[str]

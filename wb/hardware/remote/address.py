"""Addresses of devices: `local`, `ssh:user@host`, `adb:SERIAL`, `run:COMMAND`, with options; and the channels to them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from wb.core.errors import BadOption, Unsupported, printable
from wb.hardware.remote.link import RUNNER, Link, Refused
from wb.hardware.runtimes.environment import clean, litert_python
from wb.hardware.runtimes.known import WEB

FORMS = (
    "local, ssh:USER@HOST[:PORT] or adb:SERIAL, with ,runtime=openvino|litert|litert-int8|web, ,cores=big|little|0+1, "
    ",python=PATH and, for web, ,folder=PATH, or run:COMMAND"
)
# The runtimes besides ONNX Runtime that a device elsewhere may have -> the packages that they are installed from.
OTHERS = {"openvino": "openvino", "litert": "ai-edge-litert", "litert-int8": "ai-edge-litert", WEB: "onnxruntime-web"}
_HOST = re.compile(r"(?:\w[\w.+-]*@)?\w[\w.-]*(?::\d{1,5})?|(?:[\w.+-]+@)?\[[0-9a-fA-F:]+\]")
_SERIAL = re.compile(r"\w[\w.:-]*")  # also HOST:PORT, of one that is reached without a cable
_CORES = re.compile(r"big|little|\d{1,4}(?:\+\d{1,4})*")
Text = Annotated[str, AfterValidator(printable)]  # it ends up in records, on pages and in terminals
Finite = Annotated[float, Field(allow_inf_nan=False)]
Answer = TypeVar("Answer", bound=BaseModel)
OPTIONS = ("cores", "python", "runtime", "folder")
LOCAL, SSH, ADB, RUN = "local", "ssh", "adb", "run"
SSH_COMMAND = (
    *("ssh", "-T"),
    *("-o", "BatchMode=yes"),  # asks for no password, and accepts no unknown key
    *("-o", "ConnectTimeout=10"),
    *("-o", "ServerAliveInterval=5"),
    *("-o", "ServerAliveCountMax=3"),
)


class Address(NamedTuple):
    """Where a device is, `place` in the words of its `form`; the Python there, and the cores that it is timed on."""

    form: str
    place: str = ""
    python: str | None = None
    cores: str | None = None
    runtime: str | None = None
    folder: str | None = None  # of ONNX Runtime Web there

    @property
    def commands(self) -> bool:
        """Whether it names what is to be run: nobody but the user may say that."""
        return self.form == RUN or self.python is not None or self.folder is not None

    @property
    def apart(self) -> bool:
        """Whether it is a runtime of this machine that has an environment of its own."""
        return self.form == LOCAL and OTHERS.get(self.runtime or "") == OTHERS["litert"]

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads `ssh:pi@host,cores=big`.

        Raises:
            BadOption: another form, or an option that there is not.
        """
        form, _, rest = text.partition(":")
        if form.partition(",")[0] == LOCAL:
            form, rest = LOCAL, text.removeprefix(LOCAL)
        if form not in (LOCAL, SSH, ADB, RUN):
            raise BadOption(f"no device {text!r}; an address is {FORMS}")
        place, *options = rest.split(",") if form != RUN else (rest,)
        if form != LOCAL and not place.strip():
            raise BadOption(f"device {text!r} names no place; an address is {FORMS}")
        _check_place(text, form, place)
        found: dict[str, str] = {}
        for option in options:
            name, equals, value = option.partition("=")
            if name not in OPTIONS or not equals or not value:
                raise BadOption(
                    f"device {text!r} has the option {option!r}; there are cores=big|little|0+1, python=PATH, "
                    f"runtime={'|'.join(OTHERS)}, and folder=PATH of runtime=web"
                )
            if name == "runtime" and value not in OTHERS:
                raise BadOption(
                    f"device {text!r}: runtime={value} is none; there is {', '.join(OTHERS)}, and onnxruntime without it"
                )
            if name == "cores" and not _CORES.fullmatch(value):
                raise BadOption(f"device {text!r}: cores={value} are none; say big, little, or numbers such as 0+1")
            found[name] = value
        if "folder" in found and found.get("runtime") != WEB:
            raise BadOption(f"device {text!r}: folder= is that of runtime={WEB}, which it does not name; leave one out")
        return cls(form, place, **found)

    def argv(self) -> list[str]:
        """The command that starts the runner there; it reads the runner from its standard input, and then requests.

        Raises `MissingExtra` where that is the environment of LiteRT here, and there is none.
        """
        size = RUNNER.stat().st_size
        read = f"sys.stdin.buffer.read({size})"
        boot = f"import sys;sys.path[:]=filter(None,sys.path);exec(compile({read},'runner','exec'),{{'__name__':'__main__'}})"
        tail = ["-u", "-c", boot]
        if self.form == LOCAL:
            return [self.python or (litert_python() if self.apart else sys.executable), *tail]
        if self.form == RUN:
            return [*shlex.split(self.place), *tail]
        if self.form == ADB:  # without a terminal, which would change bytes
            return ["adb", "-s", self.place, "shell", "-T", self._started(tail)]
        host, colon, port = self.place.rpartition(":")
        where = ["-p", port, "--", host] if colon and port.isdigit() else ["--", self.place]
        return [*SSH_COMMAND, *where, self._started(tail)]

    def _started(self, arguments: Sequence[str]) -> str:
        """The line for a shell there that becomes its Python."""
        return f"exec {shlex.join([self.python or 'python3', *arguments])}"


def starts_commands(device: str) -> bool:
    """Whether a device's name is an address that names what is to be run."""
    try:
        return Address.parse(device).commands
    except BadOption:
        return False


@cache
def link_to(address: str) -> Link:
    """The channel to a device, one for each address in a process. Raises as `Address.parse`."""
    parsed = Address.parse(address)
    return Link(address, parsed.argv(), clean() if parsed.apart else None)


def _check_place(text: str, form: str, place: str) -> None:
    """Raises `BadOption` for a place that is none of its form."""
    if form == LOCAL and place.strip():
        raise BadOption(f"device {text!r}: local has no place; an address is {FORMS}")
    if form == ADB and not _SERIAL.fullmatch(place):
        raise BadOption(
            f"device {text!r}: {place!r} is no serial number; adb devices lists those of devices that are there"
        )
    if form == SSH and not _HOST.fullmatch(place):
        raise BadOption(f"device {text!r}: {place!r} is no host; an address is {FORMS}")
    if form == RUN:
        try:
            shlex.split(place)
        except ValueError as error:
            raise BadOption(f"device {text!r} is no command: {error}") from error


class Core(BaseModel):
    """What a device says of one of its cores; 0 where it does not know."""

    capacity: Annotated[int, Field(ge=0)]
    max_khz: Annotated[int, Field(ge=0)]


class State(BaseModel):
    """What may slow a device down."""

    governors: list[Text]
    khz: list[int]
    celsius: list[Finite]
    throttled: bool
    load: Finite | None


class Greeting(BaseModel):
    """What a device says of itself (`wb.hardware.remote.runner.hello`)."""

    machine: Text
    system: Text
    processor: Annotated[Text, Field(min_length=1)]
    python: Text
    numpy: Text
    onnxruntime: Text
    openvino: Text | None
    litert: Text | None
    providers: list[Text]
    cores: Annotated[dict[Annotated[str, Field(pattern=r"^\d{1,5}$")], Core], Field(min_length=1)]
    memory: Annotated[int, Field(ge=0)]
    clocks: Annotated[dict[Text, Finite], Field(min_length=2)]
    state: State

    @property
    def identity(self) -> tuple[str, str, str | None, str | None, tuple[str, ...]]:
        """What makes timings of one device those of another: processor, runtimes, cores."""
        return self.processor, self.onnxruntime, self.openvino, self.litert, tuple(self.cores)

    def version_of(self, runtime: str) -> str | None:
        """The version of one of its runtimes; None where it has none of that name."""
        return {"openvino": self.openvino, "ai-edge-litert": self.litert}.get(OTHERS.get(runtime, ""), self.onnxruntime)


def ask_hello(link: Link) -> Greeting:
    """Asks a device what it is.

    Raises:
        DeviceLost: it does not answer, or answers nonsense.
        Unsupported: it has no onnxruntime or numpy.
    """
    try:
        return checked(Greeting, link.ask("hello"), link)
    except Refused as error:
        raise Unsupported(
            f"{link.name} cannot run graphs: {error}; install them there: python3 -m pip install onnxruntime numpy"
        ) from error


@cache
def greeting(address: str) -> Greeting:
    """What a device says of itself, asked once. Raises as `ask_hello`."""
    return ask_hello(link_to(address))


def checked(kind: type[Answer], answer: Mapping[str, Any], link: Link) -> Answer:
    """An answer as a record. Raises `DeviceLost` if it is none: whatever a device says becomes a number only if it can be one."""
    try:
        return kind.model_validate(answer)
    except ValidationError as error:
        first = error.errors()[0]
        raise link.nonsense(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def cores_of(address: str) -> tuple[int, ...] | None:
    """The cores that an address names, by the capacity or the clock of those that the device has; None if it names none.

    Raises:
        BadOption: the device has no such cores.
    """
    wanted = Address.parse(address).cores
    if wanted is None:
        return None
    known = {int(core): about for core, about in greeting(address).cores.items()}
    if wanted in ("big", "little"):
        ranks = {core: about.capacity or about.max_khz for core, about in known.items()}
        if len(set(ranks.values())) < 2:
            raise BadOption(
                f"{address}: all cores there are alike, so that none are {wanted}; leave cores= out, or number them"
            )
        end = max(ranks.values()) if wanted == "big" else min(ranks.values())
        return tuple(sorted(core for core, rank in ranks.items() if rank == end))
    numbers = tuple(sorted({int(core) for core in wanted.split("+") if core.isdigit()}))
    if not numbers or not set(numbers) <= known.keys() or not all(core.isdigit() for core in wanted.split("+")):
        raise BadOption(f"{address}: cores={wanted} are not all there; it has {', '.join(map(str, known))}")
    return numbers

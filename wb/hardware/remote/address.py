"""Addresses of devices: `local`, `ssh:user@host`, `run:COMMAND`, with options; and the channels to them."""

from __future__ import annotations

import shlex
import sys
from functools import cache
from typing import Any, NamedTuple

from wb.core.errors import BadOption, Unsupported
from wb.hardware.remote.link import RUNNER, Link, Refused

FORMS = "local, ssh:USER@HOST[:PORT] or run:COMMAND, with ,cores=big|little|0+1 and ,python=PATH"
LOCAL, SSH, RUN = "local", "ssh", "run"
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

    @classmethod
    def parse(cls, text: str) -> Address:
        """Reads `ssh:pi@host,cores=big`.

        Raises:
            BadOption: another form, or an option that there is not.
        """
        form, _, rest = text.partition(":")
        if form.partition(",")[0] == LOCAL:
            form, rest = LOCAL, text.removeprefix(LOCAL)
        if form not in (LOCAL, SSH, RUN):
            raise BadOption(f"no device {text!r}; an address is {FORMS}")
        place, *options = rest.split(",") if form != RUN else (rest,)
        if form != LOCAL and not place.strip():
            raise BadOption(f"device {text!r} names no place; an address is {FORMS}")
        if form == SSH and place.startswith("-"):
            raise BadOption(f"device {text!r}: {place!r} is no host")
        found: dict[str, str] = {}
        for option in options:
            name, equals, value = option.partition("=")
            if name not in ("python", "cores") or not equals or not value:
                raise BadOption(
                    f"device {text!r} has the option {option!r}; there are cores=big|little|0+1 and python=PATH"
                )
            found[name] = value
        return cls(form, place, **found)

    def argv(self) -> list[str]:
        """The command that starts the runner there; it reads the runner from its standard input, and then requests."""
        size = RUNNER.stat().st_size
        boot = f"import sys;exec(compile(sys.stdin.buffer.read({size}),'runner','exec'),{{'__name__':'__main__'}})"
        tail = ["-u", "-c", boot]
        if self.form == LOCAL:
            return [self.python or sys.executable, *tail]
        if self.form == RUN:
            return [*shlex.split(self.place), *tail]
        host, colon, port = self.place.rpartition(":")
        where = ["-p", port, host] if colon and port.isdigit() else [self.place]
        return [*SSH_COMMAND, *where, f"exec {shlex.join([self.python or 'python3', *tail])}"]


@cache
def link_to(address: str) -> Link:
    """The channel to a device, one for each address in a process. Raises as `Address.parse`."""
    return Link(address, Address.parse(address).argv())


@cache
def greeting(address: str) -> dict[str, Any]:
    """What a device says of itself, asked once.

    Raises:
        DeviceLost: it does not answer.
        Unsupported: it has no onnxruntime or numpy.
    """
    try:
        return link_to(address).ask("hello")
    except Refused as error:
        raise Unsupported(
            f"{address} cannot run graphs: {error}; install them there: python3 -m pip install onnxruntime numpy"
        ) from error


def cores_of(address: str) -> tuple[int, ...] | None:
    """The cores that an address names, by the capacity or the clock of those that the device has; None if it names none.

    Raises:
        BadOption: the device has no such cores.
    """
    wanted = Address.parse(address).cores
    if wanted is None:
        return None
    known = {int(core): about for core, about in greeting(address)["cores"].items()}
    if wanted in ("big", "little"):
        ranks = {core: about["capacity"] or about["max_khz"] for core, about in known.items()}
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

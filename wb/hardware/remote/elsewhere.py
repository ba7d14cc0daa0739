"""A device that is not this machine's own: a profile by its name, or an address."""

from __future__ import annotations

from pydantic import BaseModel

from wb.core.errors import BadOption, Unsupported
from wb.hardware.device import Device
from wb.hardware.remote.address import FORMS, OTHERS, Address, Text, checked, cores_of, greeting, link_to
from wb.hardware.remote.link import Refused
from wb.hardware.remote.profiles import read_profiles
from wb.hardware.remote.tenant import teach, web_folder
from wb.hardware.runtimes.known import OURS, WEB, address_of, offered, runtime
from wb.hardware.runtimes.litert import LiteRt
from wb.hardware.runtimes.ort import REMOTE
from wb.hardware.runtimes.plugged import check_plugged
from wb.hardware.runtimes.web import web_session
from wb.hardware.runtimes.web.place import commands
from wb.hardware.tables import FORM, is_table, table_device


def elsewhere(spec: str, threads: int, *, finished: bool) -> Device:
    """The device that `spec` names, a profile or an address, with `threads` threads; none of this machine's own.

    Raises:
        BadArtefact: a table that is none.
        BadOption: there is no such profile and it is no address, or the device has not so many cores; or its runtime is for
            finished networks, and what it is for is not `finished`.
        DeviceLost: it does not answer.
        MissingExtra: it is that of a plugin which is not installed, or the runtime, or what converts for it, has an environment
            of its own, and that is not here.
        Unsupported: it has no runtime, or not the one that its address names; or a plugin offers no such device here.
    """
    profiles = read_profiles()
    address = profiles.get(spec) or address_of(spec) or spec
    if address == spec and spec.partition(",")[0] != "local" and ":" not in spec:
        check_plugged(spec)
        known = f"; profiles are {', '.join(profiles)}" if profiles else ""
        raise BadOption(
            f"there is no device {spec!r} here; the installed runtimes offer {', '.join(offered())}{known}; an address is "
            f"{FORMS}, or {FORM}"
        )
    if is_table(address):
        if threads != 1:
            raise BadOption(f"threads={threads} on {spec}, whose table says what one thread takes; leave --threads out")
        return table_device(address)
    other = Address.parse(address).runtime
    if other is not None and not finished and (slow := runtime(other).slow) is not None:
        raise BadOption(
            f"device {spec!r} is for finished networks: {slow}. Name another device here, and measure what is found with "
            f"wb measure FILE --device {spec}, or put it into a bundle with wb bundle FILE -o FOLDER --runtimes {other}"
        )
    if (limit := runtime(other or OURS).threads) is not None and threads > limit:
        raise BadOption(f"threads={threads} on {spec}, whose runtime has {limit} at most; leave --threads out")
    about, cores = greeting(address), cores_of(address)
    there = [name for name in about.providers if name not in REMOTE]
    most = len(cores) if cores is not None else len(about.cores)
    if not 1 <= threads <= most:
        raise BadOption(f"threads={threads} on {spec}, which may use 1..{most} cores")
    if "CPUExecutionProvider" not in there:
        raise BadOption(f"{spec} has an onnxruntime without a CPU provider, which offers {', '.join(there)}")
    version = _web_version(spec, address) if other == WEB else about.version_of(other or OURS)
    if version is None:
        raise Unsupported(f"{spec} has no {other}; install it there: python3 -m pip install {OTHERS[str(other)]}")
    if isinstance(kind := runtime(other or OURS), LiteRt):
        version = kind.version_with(version)
    return Device(
        name=other or "cpu",
        threads=threads,
        cores=cores,
        processor=about.processor,
        runtime=other or OURS,
        version=version,
        address=address,
    )


def _web_version(spec: str, address: str) -> str:
    """The version of ONNX Runtime Web there. Raises `Unsupported` where there is none."""
    link = link_to(address)
    teach(link, web_session)
    try:
        return checked(_Version, link.ask("web", folder=web_folder(address)), link).version
    except Refused as error:
        raise Unsupported(
            f"{spec} has no ONNX Runtime Web ({error}); make a folder of it there, {commands('FOLDER')}, and name it with "
            ",folder=FOLDER"
        ) from error


class _Version(BaseModel):
    version: Text


def ours_there(device: Device) -> Device:
    """A device elsewhere with our runtime, beside which others are timed. Raises as `greeting`."""
    if device.runtime == OURS:
        return device
    version = greeting(str(device.address)).onnxruntime
    return device.model_copy(update={"name": "cpu", "runtime": OURS, "version": version})


def runtime_of(spec: str) -> str:
    """The runtime that a device's name or address says, which is not asked; `spec` itself for devices of this machine.

    Raises:
        BadArtefact: the profiles are damaged.
    """
    try:
        return Address.parse(read_profiles().get(spec, spec)).runtime or OURS
    except BadOption:
        return spec

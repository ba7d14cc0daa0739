"""Profiles: names for the addresses of devices, in a small file of the user's; no password is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from platformdirs import user_config_dir
from pydantic import TypeAdapter, ValidationError

from wb.core.errors import BadArtefact, BadOption
from wb.core.system.files import read_text, write_text
from wb.hardware.remote.address import Address
from wb.hardware.runtimes.known import RUNTIMES, offered
from wb.hardware.tables import TABLE, is_table, path_of

# `latency@prompt` and `latency@token` are of decoders, and the others are forms of addresses.
RESERVED = ("prompt", "token", "local", "table", "ssh", "adb", "run")
_PROFILES = TypeAdapter(dict[str, str])


def profiles_path() -> Path:
    """The file of the profiles."""
    return Path(user_config_dir("wb")) / "devices.json"


def read_profiles() -> dict[str, str]:
    """Name -> address.

    Raises:
        BadArtefact: the file is damaged.
    """
    path = profiles_path()
    if not path.exists():
        return {}
    try:
        return _PROFILES.validate_json(read_text(path, "profiles of devices as JSON"))
    except ValidationError as error:
        raise BadArtefact(f"{path} is damaged: expected names with addresses as JSON; mend it, or delete it") from error


def add_profile(name: str, address: str) -> None:
    """Adds a profile, or gives it another address.

    Raises:
        BadOption: the name is that of a device here, or no name; or the address is none.
        StorageFailed: the file cannot be written.
    """
    taken = {*offered(), *RUNTIMES, *RESERVED}
    if name in taken or not name.strip() or set(name) & set(":,@/=<> "):
        raise BadOption(f"{name!r} is no name for a profile; take another one, of letters and digits, such as pi4")
    if is_table(address):
        address = f"{TABLE}:{path_of(address)}"
    else:
        Address.parse(address)
    _write({**read_profiles(), name: address})


def remove_profile(name: str) -> None:
    """Removes a profile. Raises `BadOption` if there is none of the name."""
    known = read_profiles()
    if name not in known:
        raise BadOption(f"there is no profile {name!r}; there are {', '.join(known) or 'none'}")
    _write({other: address for other, address in known.items() if other != name})


def _write(profiles: Mapping[str, str]) -> None:
    write_text(profiles_path(), json.dumps(profiles, indent=2) + "\n")

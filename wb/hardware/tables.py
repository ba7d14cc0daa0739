"""Files of latency tables, for devices that are not here: what `wb device record` wrote, or what nn-Meter published.

A table names a device `table:FILE`. What it says is predicted, never measured.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from wb.core.errors import BadArtefact, BadOption, printable
from wb.core.system.files import absolute, read_text
from wb.hardware.device import Device

TABLE = "table"  # the name and the runtime of such devices
FORM = f"{TABLE}:FILE"
FORMAT: Literal["wb latency table"] = "wb latency table"

Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class Timing(BaseModel):
    """A latency in multiples of the reference graph, with its 95 % interval, and the number of samples."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: Number
    low: Number
    high: Number
    n: Annotated[int, Field(ge=1)]


class Recorded(BaseModel):
    """A table that `wb device record` wrote: blocks by the keys of `wb.export.timing.blocks`, of which `keys` is the version.

    `reference_ms` is the pace of the reference graph on the device, `overhead` the time of a call that computes nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["wb latency table"] = FORMAT
    keys: Annotated[int, Field(ge=1)]
    device: str
    reference_ms: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)]
    overhead: Timing
    blocks: Mapping[str, Timing]


_PHONE = TypeAdapter(dict[str, Number])  # nn-Meter's: key -> milliseconds
KEYS = ("transattn_", "transffn_", "transds_", "conv_", "firstconv_", "mbpool_")


def is_table(spec: str) -> bool:
    """Whether a device's address is that of a table."""
    return spec.startswith(f"{TABLE}:")


def table_device(address: str) -> Device:
    """The device that a table is of.

    Raises:
        BadArtefact: the file is missing, or no table.
    """
    path = path_of(address)
    table = read_table(path)
    name = printable(table.device if isinstance(table, Recorded) else f"a phone of nn-Meter's ({path.stem})")
    version = f"{table.keys}" if isinstance(table, Recorded) else "of nn-Meter"
    return Device(name=TABLE, processor=name, runtime=TABLE, version=version, address=f"{TABLE}:{path}")


def path_of(address: str) -> Path:
    """The file of a table's address. Raises `BadOption` where it names none."""
    file = address.partition(":")[2]
    if not file.strip():
        raise BadOption(f"device {address!r} names no file; write {FORM}")
    return absolute(Path(file).expanduser())


def read_table(path: Path) -> Recorded | dict[str, float]:
    """A table: one of ours, or key -> milliseconds as nn-Meter wrote it.

    Raises:
        BadArtefact: the file is missing, or no table.
    """
    return _read(path, read_text(path, f"a latency table, as `wb device record` or nn-Meter writes ({FORM})"))


@lru_cache(maxsize=8)
def _read(path: Path, text: str) -> Recorded | dict[str, float]:
    try:
        content = json.loads(text)
        if isinstance(content, dict) and "format" in content:
            return Recorded.model_validate(content)
        found = _PHONE.validate_python(content)
    except (ValueError, RecursionError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else None
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else str(error)
        raise BadArtefact(
            f"{path} is no latency table ({printable(why)}); give one that `wb device record` wrote, or one of nn-Meter's"
        ) from error
    if not any(key.startswith(KEYS) for key in found):
        raise BadArtefact(
            f"{path} has none of the blocks of nn-Meter's tables ({', '.join(KEYS)}); give one that `wb device record` wrote, or "
            "one of nn-Meter's"
        )
    return found

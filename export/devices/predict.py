"""The latency of a network on a device that is known from a table only, and writing such a table of one's own device."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, Unsupported
from wb.core.measures.readings import Reading
from wb.core.system.files import write_text
from wb.export.devices import nnmeter
from wb.export.timing.blocks import parts
from wb.export.timing.table import OVERHEAD, VERSION, Entry, LatencyTable, summed
from wb.hardware.device import Device, unaddressed
from wb.hardware.tables import Recorded, Timing, path_of, read_table


def predicted(architecture: Architecture, device: Device) -> Reading:
    """The latency of a network in ms, by the table that the device is known from.

    Raises:
        BadArtefact: the table is gone, or of a version whose keys are other ones.
        Unsupported: a block is not in the table; says which. Or the network continues texts.
    """
    address = device.address or ""
    table, what = read_table(path_of(address)), address
    if architecture.causal:
        raise Unsupported(f"{what} adds up blocks that see a whole text, and this network has a cache; time it instead")
    if not isinstance(table, Recorded):
        value, count = nnmeter.milliseconds(architecture, table, what)
        note = f"the sum of {count} timings on a phone; {nnmeter.NOTE}"
        return Reading(value=value, unit="ms", how="predicted", n=1, device=device.text, note=note)
    if table.keys != VERSION:
        raise BadArtefact(
            f"{what} has blocks of version {table.keys}, and this is version {VERSION}; record it again: wb device record"
        )
    keys = [part.key for part in parts(architecture)]
    missing = [key for key in keys if key not in table.blocks]
    if missing:
        raise Unsupported(
            f"{what} lacks {len(set(missing))} of the {len(set(keys))} blocks of this network, the first is {missing[0]}; record "
            "them on that device: wb device record"
        )
    entries = {key: _entry(table.blocks[key]) for key in keys}
    return summed(keys, {**entries, OVERHEAD: _entry(table.overhead)}, table.reference_ms, device.text)


def record(table: LatencyTable, architectures: Iterable[Architecture], path: Path, *, force: bool = False) -> int:
    """Writes what `table` knows of the blocks of some networks, and the number of blocks is returned; they have to be timed.

    Raises:
        BadOption: the file exists and `force` is false; or a block has no timing, as on a device that is a table itself.
        StorageFailed: it cannot be written.
    """
    keys = sorted({part.key for architecture in architectures for part in parts(architecture)})
    entries, reference_ms = table.known([OVERHEAD, *keys])
    recorded = Recorded(
        keys=VERSION,
        device=unaddressed(table.device.text),
        reference_ms=reference_ms,
        overhead=_timing(entries[OVERHEAD]),
        blocks={key: _timing(entries[key]) for key in keys},
    )
    write_text(path, recorded.model_dump_json(indent=1) + "\n", force=force)
    return len(keys)


def _entry(timing: Timing) -> Entry:
    return Entry(timing.value, timing.low, timing.high, timing.n, "")


def _timing(entry: Entry) -> Timing:
    return Timing(value=entry.value, low=entry.low, high=entry.high, n=max(1, entry.n))

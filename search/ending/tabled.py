"""The check of the per-block latency table against whole graphs that were timed together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
from pydantic import JsonValue

from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import StorageFailed
from wb.core.measures.readings import Reading
from wb.export.timing.blocks import estimate
from wb.export.timing.table import LatencyTable


def table_error(
    networks: Mapping[int, Architecture],
    readings: Mapping[int, Mapping[str, Reading]],
    table: LatencyTable,
    *,
    alone: Callable[[], AbstractContextManager[None]],
    progress: Progress,
    say: Callable[[str], None],
) -> dict[str, JsonValue] | None:
    """The error of the table for each network and in the median; None without networks, or where the table cannot be stored."""
    rows: list[JsonValue] = []
    errors = []
    for done, (number, network) in enumerate(networks.items()):
        progress("checking the per-block latency table", done, len(networks))
        try:
            with alone():
                estimated = estimate(network, table).value
        except StorageFailed as error:  # the front is worth more than the check of the table
            say(f"the per-block latency table was not checked: {error}")
            return None
        measured = readings[number]["latency"].value
        errors.append(abs(estimated - measured) / measured)
        rows.append({"id": number, "estimated_ms": estimated, "measured_ms": measured})
    if not errors:
        return None
    return {"median_relative_error": float(np.median(errors)), "max_relative_error": max(errors), "networks": rows}

"""`wb device check --npu`."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import typer

from wb.cli.frame import output


class Npu(Enum):
    """Whose NPU."""

    QNN = "qnn"


def check_npu(source: str, given: Mapping[str, Any], others: Mapping[str, Any], *, as_json: bool) -> None:
    """Says what an NPU makes of a network; `given` are the options that are of this, `others` those that are not."""
    refuse_given(others, "is for devices; an NPU that is not here is only simulated, and nothing is timed")
    from wb.cli.frame.running import telling
    from wb.compress.npu.check import AS_IS, NpuCheck
    from wb.export.npu.qnn import SOC
    from wb.search.results.chosen import network_of

    check = NpuCheck.of(given["soc"] or SOC, given["precision"] or AS_IS, given["data"], given["examples"] or 8)
    file, said = network_of(source)
    if said:
        output.say(said)
    with output.progress() as work:
        found = check(file, given["out"], telling(work, "reading"), output.say, force=bool(given["force"]))
    if as_json:
        output.print_json(found.content())
    else:
        output.data.print(output.table(found.table()))
        if found.kept is not None:
            output.written(found.kept)
    if found.refused:
        raise typer.Exit(1)


def refuse_given(options: Mapping[str, Any], why: str) -> None:
    """Raises `BadOption` for the first option that was given."""
    from wb.core.errors import BadOption

    for name, value in options.items():
        if value is not None:
            raise BadOption(f"--{name} {why}; leave it out")

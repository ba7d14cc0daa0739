"""What is counted of one of our own networks and its file, and the modelled energy."""

from __future__ import annotations

from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.readings import Reading
from wb.hardware.energy import NOTE, picojoules
from wb.models.counting import count_parameters, operations


def count_model(architecture: Architecture, path: Path) -> dict[str, Reading]:
    """What needs no run, of one of our own networks exported to `path`: size of the file, MACs, parameters, energy."""
    macs = sum(part.macs for part in operations(architecture).values())
    return {
        "size": Reading(value=path.stat().st_size, unit="B", how="counted"),
        "macs": Reading(value=macs, unit="MAC", how="counted"),
        "params": count_parameters(architecture),
        "energy": model_energy(architecture),
    }


def model_energy(architecture: Architecture) -> Reading:
    """What the arithmetic of one image would take, as `wb.hardware.energy` models it."""
    return Reading(value=sum(energy_by_part(architecture).values()), unit="pJ", how="predicted", note=NOTE)


def energy_by_part(architecture: Architecture) -> dict[str, float]:
    """The same in picojoules, part by part as `wb.models.counting.operations` has them."""
    return {name: picojoules(*part) for name, part in operations(architecture).items()}

"""Counts of one of our own networks and its exported file: size, MACs, parameters, and modelled energy."""

from __future__ import annotations

from pathlib import Path

from wb.core.architecture import Architecture
from wb.core.measures.readings import Reading
from wb.hardware.energy import NOTE, picojoules
from wb.models.counting import count_parameters, operations


def count_model(architecture: Architecture, path: Path) -> dict[str, Reading]:
    """Metric -> reading that needs no run: file size, MACs, parameters and energy of `architecture`, exported to `path`."""
    macs = sum(part.macs for part in operations(architecture).values())
    return {
        "size": Reading(value=path.stat().st_size, unit="B", how="counted"),
        "macs": Reading(value=macs, unit="MAC", how="counted"),
        "params": count_parameters(architecture),
        "energy": model_energy(architecture),
    }


def model_energy(architecture: Architecture) -> Reading:
    """The modelled energy of the arithmetic for one image (`wb.hardware.energy`)."""
    return Reading(value=sum(energy_by_part(architecture).values()), unit="pJ", how="predicted", note=NOTE)


def energy_by_part(architecture: Architecture) -> dict[str, float]:
    """Part of the network -> modelled energy in picojoules; the parts are those of `wb.models.counting.operations`."""
    return {name: picojoules(*part) for name, part in operations(architecture).items()}

"""What a search works on and with, read and checked before anything is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wb.core.space import Choices
from wb.data import Dataset
from wb.hardware.device import Device
from wb.scale.processes import ONE, Processes
from wb.search.beginning.config import SearchConfig
from wb.search.crew.crew import Crew
from wb.search.places import NOWHERE, Places
from wb.search.run import Run
from wb.search.told import Teller
from wb.spaces.base import NetworkSpace


@dataclass(frozen=True)
class Ground:
    """The inputs of a search, read and checked before anything is written."""

    config: SearchConfig
    run: Run
    device: Device
    data: Dataset
    space: NetworkSpace
    seeds: Sequence[Choices]  # the choices of each seed architecture
    crew: Crew
    tell: Teller
    places: Places = NOWHERE  # the devices that metrics name
    processes: Processes = ONE

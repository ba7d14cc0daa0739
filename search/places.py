"""The devices that metrics name, `latency@pi` and `latency@phone`: candidates and finalists have a latency on each.

Limits: quality is that of the graph for the run's own device (`--device`; `--score-on` says where it is scored), also where
another one wants activations quantized in another way. Twins have one graph for all devices.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from wb.core.architecture import Architecture
from wb.core.errors import BadOption, Unsupported
from wb.core.measures.readings import Reading
from wb.core.space import random_choices
from wb.export.devices.predict import predicted
from wb.export.timing.measure import measure_latency, reference_pace
from wb.hardware.device import Device, parse_device, unaddressed
from wb.hardware.runtimes.base import Way
from wb.hardware.runtimes.known import OURS, way_of
from wb.hardware.tables import TABLE
from wb.search.beginning.config import SearchConfig
from wb.spaces.base import NetworkSpace

DRAWN = 200  # random networks whose blocks a table has to have


class Written(NamedTuple):
    """A network, and its graph for each way of quantizing activations."""

    architecture: Architecture
    paths: Mapping[Way, Path]


@dataclass(frozen=True)
class Places:
    """Devices by name, and the pace of the reference on each where something is timed."""

    devices: Mapping[str, Device] = field(default_factory=dict)
    paces: Mapping[str, Reading] = field(default_factory=dict)

    @property
    def ways(self) -> list[Way]:
        """How their runtimes want activations quantized."""
        return [_way(device) for device in self.devices.values()]

    @property
    def tables(self) -> list[str]:
        """The names of those that are known from tables."""
        return [name for name, device in self.devices.items() if device.runtime == TABLE]

    def paced(self, known: Device, pace: Reading) -> Places:
        """The same with paces: devices of this machine share that of the `known` one if that is here, others are timed."""
        found: dict[str, Reading] = {}
        for name, device in self.devices.items():
            shares = known.address is None and device.address is None and device.threads == known.threads
            if device.runtime != TABLE:
                found[name] = pace if shares else reference_pace(device)
        return Places(self.devices, found)

    def check(self, space: NetworkSpace) -> None:
        """Raises `Unsupported` where a table lacks a block of networks of the space; says which."""
        if not self.tables:
            return
        rng = random.Random(0)
        networks = [
            space.smallest(),
            space.largest(),
            *(space.decode(random_choices(space, rng)) for _ in range(DRAWN)),
        ]
        for name in self.tables:
            for network in networks:
                try:
                    predicted(network, self.devices[name])
                except Unsupported as error:
                    raise Unsupported(f"latency@{name}: {error}") from error

    def same_as(self, before: Mapping[str, str]) -> None:
        """Raises `BadOption` if other devices are there than those whose texts are given."""
        for name, device in self.devices.items():
            if name in before and unaddressed(before[name]) != unaddressed(device.text):
                raise BadOption(
                    f"the latencies of this run on {name} are of {unaddressed(before[name])}, and it is now "
                    f"{unaddressed(device.text)}; they do not go together. Begin a new run"
                )

    def latencies(
        self, networks: Mapping[str, Written], *, precision: float, cap_s: float, seed: int
    ) -> dict[str, dict[str, Reading]]:
        """Name of the network -> metric -> its latency on each device, at most `cap_s` seconds for each network and device.

        Those on this machine are timed in turn. Raises as `measure_latency` and `predicted`.
        """
        found: dict[str, dict[str, Reading]] = {name: {} for name in networks}

        def keep(device: str, latency: Callable[[str], Reading]) -> None:
            for name in networks:
                found[name][f"latency@{device}"] = latency(name)

        here = {name: device for name, device in self.devices.items() if device.address is None}
        if here:
            runs = {(device, name): one.paths[_way(here[device])] for device in here for name, one in networks.items()}
            timed = measure_latency(
                {f"{device}\0{name}": path for (device, name), path in runs.items()},
                next(iter(here.values())),
                on={f"{device}\0{name}": here[device] for device, name in runs},
                cap_s=cap_s * len(runs),
                pace=self.paces[next(iter(here))],
                precision=precision,
                seed=seed,
            )
            for device in here:
                keep(device, lambda name, device=device: timed[f"{device}\0{name}"].reading)  # type: ignore[misc]
        for device, what in self.devices.items():
            if what.runtime == TABLE:
                keep(device, lambda name, what=what: predicted(networks[name].architecture, what))  # type: ignore[misc]
            elif what.address is not None:
                graphs = {name: one.paths[_way(what)] for name, one in networks.items()}
                cap, pace = cap_s * len(graphs), self.paces[device]
                there = measure_latency(graphs, what, precision=precision, cap_s=cap, seed=seed, pace=pace)
                keep(device, lambda name, there=there: there[name].reading)  # type: ignore[misc]
        return found


NOWHERE = Places()


def places_of(config: SearchConfig) -> Places:
    """The devices that the metrics of a search name. Raises as `parse_device`, and `BadOption` where options do not fit."""
    devices: dict[str, Device] = {}
    for name in config.devices:
        try:
            devices[name] = parse_device(name, config.threads)
        except BadOption as error:
            raise BadOption(f"latency@{name}: {error}") from error
    found = Places(devices)
    if found.tables and config.baselines:
        raise BadOption(
            f"--baselines measures known networks, whose blocks latency@{found.tables[0]} need not have; leave one of them out"
        )
    return found


def _way(device: Device) -> Way:
    return "dynamic" if device.runtime in (TABLE, OURS) else way_of(device.name, "int8")

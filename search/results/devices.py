"""What a search for several devices found: a front for each, and how far the devices agree on which network is fast."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from scipy.stats import kendalltau

from wb.core.measures.metrics import Limit, device_of, the_metric
from wb.core.measures.readings import Reading, Readings
from wb.search.ending.front import front
from wb.search.results.point import FrontPoint


@dataclass(frozen=True)
class DeviceFront:
    """The networks that are best in quality and latency on one device, the fastest first; `text` is the device."""

    name: str
    text: str
    ids: tuple[int, ...]
    latencies: tuple[Reading, ...]

    def line(self) -> str:
        """`on pi: 3 networks, 12 (1.2 ms), 7 (2.3 ms), …`."""
        each = ", ".join(f"{number} ({one.text()})" for number, one in zip(self.ids, self.latencies, strict=True))
        return f"on {self.name} the front is {each}"


@dataclass(frozen=True)
class Agreement:
    """Kendall's rank correlation of latencies on two devices over `n` evaluated networks."""

    first: str
    second: str
    tau: float
    n: int

    def line(self) -> str:
        """`Latencies on pi and phone: rank correlation 0.83 of 40 networks`."""
        return f"Latencies on {self.first} and {self.second}: rank correlation {self.tau:.2f} (Kendall) of {self.n} networks"


def device_fronts(
    points: Sequence[FrontPoint], devices: Mapping[str, str], limits: Sequence[Limit] = ()
) -> list[DeviceFront]:
    """A front for each device that metrics name, of the networks that a run leaves; budgets on other devices do not count."""
    found = []
    for name, text in devices.items():
        latency = the_metric(f"latency@{name}")
        values = {point.id: point.values for point in points if latency.name in point.values}
        if not values:
            continue
        own = [limit for limit in limits if device_of(limit.metric.name) in (None, name)]
        ids = front(values, (the_metric(points[0].quality), latency), own)
        found.append(DeviceFront(name, text, tuple(ids), tuple(values[number][latency.name] for number in ids)))
    return found


def agreements(networks: Iterable[Readings], devices: Iterable[str]) -> list[Agreement]:
    """The rank correlations of all pairs of devices, where three networks or more have latencies on both."""
    every, found = list(networks), []
    for first, second in combinations(devices, 2):
        names = f"latency@{first}", f"latency@{second}"
        pairs = [tuple(one[name].value for name in names) for one in every if all(name in one for name in names)]
        if len(pairs) > 2 and all(len(set(column)) > 1 for column in zip(*pairs, strict=True)):
            tau = float(kendalltau(*zip(*pairs, strict=True)).statistic)
            found.append(Agreement(first, second, tau, len(pairs)))
    return found

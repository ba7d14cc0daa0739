"""The share of a space that is within a budget, estimated before anything is trained."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from wb.core.architecture import Architecture
from wb.core.measures.metrics import Limit, device_of
from wb.core.measures.readings import Reading
from wb.core.space import random_choices
from wb.export.counting.count import model_energy
from wb.models.counting import count_bytes, count_macs, count_parameters
from wb.spaces.base import NetworkSpace

DRAWN = 100  # random networks
PREDICTED = ("size", "latency")


def reach(
    space: NetworkSpace, limits: Sequence[Limit], ends: Mapping[Architecture, Mapping[str, Reading]], seed: int
) -> str:
    """A sentence: the share of random networks of the space within the limits, and how it was estimated.

    `ends` holds the readings of the smallest and the largest network. File size and latency are interpolated linearly between
    these two, by the bytes of weights and by the multiply-accumulates. Parameters, multiply-accumulates and energy are
    counted. Empty if the only limits are on accuracy.
    Limits: accuracy is unknown before the supernet is trained. In a space of several precisions, latencies are rough.
    """
    known = [limit for limit in limits if not limit.metric.quality]
    if not known:
        return ""
    rng = random.Random(seed)
    drawn = [space.decode(random_choices(space, rng)) for _ in range(DRAWN)]
    kept = sum(all(limit.excess(_reading(limit, a, ends)) <= 0 for limit in known) for a in drawn)
    names = [limit.metric.name for limit in known]
    lines = [name for name in names if name in PREDICTED or device_of(name) is not None]
    how = f", {' and '.join(lines)} predicted from the smallest and the largest network" if lines else ""
    texts = ", ".join(limit.text() for limit in known)
    return f"about {100 * kept / DRAWN:.0f} % of the space is within {texts} ({kept} of {DRAWN} drawn at random{how})"


def _reading(limit: Limit, a: Architecture, ends: Mapping[Architecture, Mapping[str, Reading]]) -> Reading:
    count = {"params": count_parameters, "macs": count_macs, "energy": model_energy}
    name = limit.metric.name
    if name in count:
        return count[name](a)
    measure = count_bytes if name == "size" else count_macs
    (x0, y0), (x1, y1) = sorted((measure(end).value, readings[name].value) for end, readings in ends.items())
    slope = (y1 - y0) / (x1 - x0) if x1 > x0 else 0.0
    return Reading(value=y0 + slope * (measure(a).value - x0), unit=limit.metric.unit, how="predicted")

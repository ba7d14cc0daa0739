"""Which metrics the networks of a space have."""

from __future__ import annotations

from wb.core.errors import BadOption
from wb.core.measures.metrics import CONTINUING, the_metric
from wb.export.timing.runs import LATENCY, PROMPT, TOKEN
from wb.hardware.remote.profiles import read_profiles
from wb.search.beginning.config import SearchConfig
from wb.spaces.base import NetworkSpace
from wb.tasks.known import task_of


def check_metrics(config: SearchConfig, space: NetworkSpace) -> None:
    """Raises `BadOption` for metrics that networks of the space do not have."""
    networks = space.smallest()
    metric, latencies = task_of(networks).metric, [LATENCY, PROMPT, TOKEN]
    for name in sorted(config.read):
        other = the_metric(name).quality and name != metric
        if other or (name in (PROMPT, TOKEN) and not networks.causal):
            has = ", ".join([metric, *(latencies if networks.causal else latencies[:1])])
            raise BadOption(
                f"networks of space {space.name!r} have no {the_metric(name).title} ({name}); they have {has}, and what is "
                "counted: size, macs, params, energy"
            )
    if networks.causal and config.devices:
        raise BadOption(
            f"latency@{config.devices[0]} is of networks without a cache, and those of space {space.name!r} have one; say "
            f"--device {config.devices[0]} --objectives ppl,latency@token"
        )
    clashes = {name for name in config.read if name in CONTINUING} & {f"latency@{name}" for name in read_profiles()}
    if clashes:
        raise BadOption(
            f"{min(clashes)} is a metric of space 'decoder', and a device has that name too; give the device another one: wb "
            "device remove, wb device add"
        )
    if networks.causal and config.latency == "table":
        raise BadOption(
            "--latency table adds up blocks that see a whole text, and latencies of space 'decoder' are of a network with a "
            "cache; leave it out"
        )

"""Which metrics the networks of a space have."""

from __future__ import annotations

from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS
from wb.export.timing.runs import LATENCY, PROMPT, TOKEN
from wb.search.beginning.config import SearchConfig
from wb.spaces.base import NetworkSpace
from wb.tasks.known import task_of


def check_metrics(config: SearchConfig, space: NetworkSpace) -> None:
    """Raises `BadOption` for metrics that networks of the space do not have."""
    networks = space.smallest()
    metric, latencies = task_of(networks).metric, [LATENCY, PROMPT, TOKEN]
    for name in sorted(config.read):
        other = METRICS[name].quality and name != metric
        if other or (name in (PROMPT, TOKEN) and not networks.causal):
            has = ", ".join([metric, *(latencies if networks.causal else latencies[:1])])
            raise BadOption(
                f"networks of space {space.name!r} have no {METRICS[name].title} ({name}); they have {has}, and what is counted: "
                "size, macs, params, energy"
            )
    if networks.causal and config.latency == "table":
        raise BadOption(
            "--latency table adds up blocks that see a whole text, and latencies of space 'decoder' are of a network with a "
            "cache; leave it out"
        )

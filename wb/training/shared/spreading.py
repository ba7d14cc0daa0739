"""Networks whose tokens are spread among processes: each computes some of a line's tokens, at all sub-layers.

What lies between tokens travels: keys and values of a softmax (`wb.scale.ring.attention`), sums of what is linear in its tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wb.core.errors import Unsupported
from wb.core.records.base import kind_of
from wb.models.network import Network
from wb.scale.ring.attention import Spread
from wb.scale.ring.channel import Channel
from wb.scale.team import Team


def check_spreads(network: Network) -> None:
    """Checks that tokens of the network can be computed apart from each other.

    Raises:
        Unsupported: it does not foresee tokens, or a sub-layer needs tokens of others in a way that nothing travels for.
    """
    architecture = network.architecture
    if not architecture.causal or architecture.prefix or len(architecture.stages) > 1:
        raise Unsupported(
            "tokens are spread among processes for decoders alone, networks of one stage that foresee the next token; train one "
            "with --data lm:FILE, or leave --sequence-parallel out"
        )
    for at in network.walk():
        if at.operator.recalls and not at.operator.spreads:
            raise Unsupported(
                f"{at.kind} {kind_of(type(at.operator.record))!r} of {at.place} reads a line in order, and cannot compute some "
                "of its tokens alone; choose softmax, rotary, sliding or linear attention, or leave --sequence-parallel out"
            )
        if not at.norm.local:
            raise Unsupported(
                f"the norm {kind_of(type(at.norm.record))!r} of {at.place} takes statistics over all tokens, and processes "
                "have some of them; choose layer or rms norms, or leave --sequence-parallel out"
            )


@contextmanager
def spread(team: Team, *networks: object) -> Iterator[None]:
    """Within, networks compute those tokens that are this process's, where the team's processes share them.

    Raises:
        Unsupported: a network cannot, or is not ours.
    """
    if team.sequence == 1:
        yield
        return
    ours = [network for network in networks if isinstance(network, Network)]
    if len(ours) < sum(network is not None for network in networks):
        raise Unsupported(
            "tokens are spread among processes for wb's own networks alone; leave --sequence-parallel out"
        )
    for network in ours:
        check_spreads(network)
    among = Spread(Channel.of(team))
    for network in ours:
        network.spread = among
    try:
        yield
    finally:
        for network in ours:
            network.spread = None

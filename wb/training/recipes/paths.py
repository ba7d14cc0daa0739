"""Self-distillation of path ensembles: what the first paths answer learns from what all of them do.

Source: Chang et al., "Revisiting Vision Transformer from the View of Path Ensemble", 2023, section 3.4,
https://arxiv.org/abs/2308.06548: knowledge goes from the long paths to the short ones.
Differs: a short path is the sum of the paths up to a sub-layer, read by the network's own last norm and head; published each
has a head of its own.
Limits: of the last stage, and of networks that take images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor

from wb.models.network import Network
from wb.models.wirings.ensemble import Ensemble


@contextmanager
def answering(network: Network) -> Iterator[Callable[[], list[Tensor]]]:
    """Within it, the answers (B, classes) of the sums on the way of the last run, but for the last; none without an ensemble."""
    wiring = network.wiring(len(network.stages) - 1)
    if not isinstance(wiring, Ensemble):
        yield list
        return
    wiring.heard = []
    try:
        yield lambda: [network.answered(total.to(network.head.dtype)) for total in (wiring.heard or [])[:-1]]
    finally:
        wiring.heard = None

"""Pruning a module to a latency budget: prunes to a budget of MACs, and corrects that until the measured latency fits.

Differs: no table of layers is timed; each try is exported and timed together with the dense graph, under the same conditions.
Limits: there are only a few tries, each of which prunes from scratch. Latency is not proportional to MACs, least in small
networks. The chosen try was within the limit in a single timing, before fine-tuning; `judged` compares the final graph again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from torch import nn

from wb.compress.depgraph.budget import check_countable
from wb.compress.depgraph.pruning import Pruned
from wb.core.errors import BadOption, BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import ratio
from wb.core.statistics.verdict import Judgement, judge
from wb.core.system.files import scratch
from wb.export.timing.measure import Latency, measure_latency
from wb.hardware.device import Device

TRIES = 5
NEAR = 0.95  # a latency between this share of the limit and the limit is near enough to stop


def check_limits(limits: Sequence[Limit]) -> Limit | None:
    """The limit on latency, or None if `limits` are on MACs or parameters.

    Raises:
        BadOption: there is no limit, another one beside a limit on latency, or one on another metric.
    """
    timed = next((limit for limit in limits if limit.metric.name == "latency"), None)
    if timed is None:
        check_countable(limits)
    elif len(limits) > 1:
        raise BadOption("a budget on latency cannot be combined with others here; give one")
    return timed


def judged(limit: Limit, dense: Latency, found: Latency) -> Judgement:
    """Compares `found` with `limit`; a relative limit, by the ratio to `dense`, timed together and so free of drift."""
    return judge(limit, found.reading, dense.reading, ratio(found.ratio, dense.ratio))


def prune_to_latency(
    prune: Callable[[Limit], Pruned],
    write: Callable[[nn.Module, Path], object],
    dense: Path,
    limit: Limit,
    device: Device,
    *,
    seed: int = 0,
) -> Pruned:
    """The largest of a few pruned modules whose graph, exported by `write`, is within `limit` on `device`.

    `prune` returns a module within a limit on MACs. A relative `limit` is a share of the latency of the graph `dense`.

    Raises:
        BadOption: the dense graph is within the limit already.
        BudgetMissed: no try was within the limit.
    """
    best: Pruned | None = None
    whole = measure_latency({"dense": dense}, device, seed=seed)["dense"]
    closest = judged(limit, whole, whole)
    if closest.over <= 0:
        raise BadOption(
            f"the budget {limit.text()} is met already (latency {whole.reading.text()}); give a smaller one"
        )
    share = 1 / (1 + closest.over)
    for _ in range(TRIES):
        try:
            tried = prune(Limit(METRICS["macs"], share, relative=True))
        except BudgetMissed:
            break  # nothing smaller exists
        with scratch() as folder:
            graph = folder / "pruned.onnx"
            write(tried.module, graph)
            timed = measure_latency({"dense": dense, "pruned": graph}, device, seed=seed)
        now = judged(limit, timed["dense"], timed["pruned"])
        closest = min(closest, now, key=lambda one: one.over)
        if now.over <= 0 and (best is None or tried.size.macs > best.size.macs):
            best = tried
        if NEAR - 1 <= now.over <= 0:
            break
        # Aim a little below the limit, because the next timing will differ.
        share = min(0.99, share * 0.98 / (1 + now.over))
    if best is None:
        raise BudgetMissed(
            f"no pruning kept the budget: of what was tried the fastest {closest.text('the dense module')}; give a larger one"
        )
    return best

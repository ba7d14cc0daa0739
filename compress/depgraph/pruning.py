"""Structural pruning of any `nn.Module` outside our own family of architectures, with torch-pruning's graph and our saliency.

Each round has these steps:

1. Gradients of some mini-batches give every unit of coupled channels its gate-Fisher score
   (`wb.compress.depgraph.importance`), and all units of the network are ranked together.
2. The fewest lowest-ranked units are removed with which the *counted* size is within the round's target. Bisection finds
   their number, because removing units never increases the size. The targets fall geometrically to the budget.
3. BatchNorms get new statistics from the same mini-batches; without that a pruned convnet outputs nonsense. Nothing is
   trained between rounds.

Source: those of the saliency and of the graph (`wb.compress.depgraph.graph`).
Differs: torch-pruning's ratio counts channels and, with several steps, is not cumulative; here the size itself is counted,
and every family of channels keeps at least one unit. After each round the result is compared with a masked module.
Limits: widths of attention are not pruned (heads cannot be detected; families whose removal differs from masking are left
out). For transformers of our own family use `wb prune`. The module must take one tensor (B, …) and return (B, classes).
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wb.compress.depgraph.budget import Budget
from wb.compress.depgraph.foreign import recalibrate
from wb.compress.depgraph.graph import Family, Removals, Size, Traced, differs, fastpath, measure_size, pruned, trusted
from wb.compress.depgraph.importance import Cost, GateFisher
from wb.core.errors import BadData, BadOption, BudgetMissed, Unsupported
from wb.core.measures.metrics import Limit

CLOSE = 0.99  # a size is on target if it is between this share of the target and the target
STEPS = 4  # an exchange of units between two families moves fewer units than this on each side
REFINEMENTS = 200  # exchanges that are tried, at most

Loss = Callable[[Tensor, Tensor], Tensor]  # logits (B, classes), labels (B,) -> ()
Batches = Sequence[tuple[Tensor, Tensor]]  # images (B, …), labels (B,)
Chunk = tuple[int, tuple[int, ...]]  # index of a family, and units of it that are removed together
Report = Callable[[int, int, Size], None]  # number of the finished round, rounds, size


@dataclass(frozen=True)
class Pruned:
    """A pruned copy of a module, in eval mode; its size and that of the original; and the layers that were not pruned."""

    module: nn.Module
    size: Size
    dense: Size
    kept: Mapping[str, str]  # layer -> why its output channels were not pruned


def prune_module(
    module: nn.Module,
    example: Tensor,
    batches: Batches,
    loss: Loss,
    limits: Sequence[Limit],
    *,
    rounds: int = 5,
    round_to: int = 1,
    keep: Sequence[str] = (),
    cost: Cost | None = None,
    report: Report | None = None,
) -> Pruned:
    """A pruned copy of `module` just below `limits` (on macs and params, relative or absolute).

    `example` (B, …) is an input of the module, on its device. `batches`, on the same device, are the mini-batches for the
    saliency. `loss` is a mean over images. Layers named in `keep`, and layers inside them, keep their output channels; layers
    that produce the module's output always do. `cost` is what scores are divided by, by default the metric of the first
    limit. Changed numbers of channels become multiples of `round_to`, because the runtime's kernels work on blocks: a
    convolution of 15 channels can be slower than one of 16. Without rounding, the result is within 1 % below the budget if
    exchanging a few units achieves that; see `Pruned.size`.

    Raises:
        BadArtefact: weights are not finite.
        BadData: the example or the batches do not fit the module, or gradients are not finite.
        BadOption: there is no limit, no batch or no round; a limit is met already or on another metric; a layer is unknown.
        BudgetMissed: even with one unit per family (or `round_to`) the module exceeds the limits.
        MissingExtra: torch-pruning is not installed.
        Unsupported: torch-pruning cannot trace the module, or nothing in it can be pruned.
    """
    if min(rounds, len(batches), round_to) < 1:
        given = f"{rounds} rounds over {len(batches)} batches, rounded to {round_to}"
        raise BadOption(f"{given}, prune nothing; give one or more of each")
    work = copy.deepcopy(module).eval().requires_grad_(True)
    dense = measure_size(work, example)
    budget = Budget.of(limits, dense)
    families, kept = _reachable(work, example, dense, budget, keep, round_to)
    size = dense
    for number in range(1, rounds + 1):
        cap = budget.fill(dense) ** (1 - number / rounds)  # 1 in the last round, exactly
        if budget.fill(size) > cap:
            ranking = Ranking.of(work, example, families, batches, loss, cost or budget.cost, round_to)
            work, families = _remove(work, example, families, _select(work, example, ranking, budget, cap))
            _recalibrate(work, batches)
            size = measure_size(work, example)
        if report is not None:
            report(number, rounds, size)
    return Pruned(work, size, dense, kept)


@dataclass(frozen=True)
class Ranking:
    """All removable chunks of units, the lowest scores first. A chunk is one unit, or several if widths are rounded."""

    families: Sequence[Family]
    order: Sequence[Chunk]

    @staticmethod
    def of(
        module: nn.Module,
        example: Tensor,
        families: Sequence[Family],
        batches: Batches,
        loss: Loss,
        cost: Cost,
        round_to: int = 1,
    ) -> Ranking:
        """Ranks chunks by the gradients of `batches`; leaves out the best chunk of each family. Raises as `prune_module`."""
        traced = Traced(module, example)
        importance = GateFisher(traced, example, cost)
        for images, labels in batches:
            module.zero_grad(set_to_none=True)
            with torch.enable_grad(), fastpath(False):
                value = loss(module(images), labels)
            if not value.isfinite():
                raise BadData(f"the loss is {value.item()}; check the images and the module for odd values")
            value.backward()
            importance.observe(module)
        module.zero_grad(set_to_none=True)
        scored: list[tuple[float, int, tuple[int, ...]]] = []
        for number, family in enumerate(families):
            scores = importance.units(traced.group(family.root), family.parts)
            chunks = family_chunks(scores.argsort(stable=True).tolist(), round_to)[:-1]
            scored += [(float(scores[list(chunk)].mean()), number, chunk) for chunk in chunks]
        # The sort is stable, so chunks of a family with equal scores stay in the order of the family.
        return Ranking(families, [(number, chunk) for _, number, chunk in sorted(scored, key=lambda entry: entry[:2])])

    def removals(self, chunks: Sequence[Chunk]) -> Removals:
        """The units of `chunks`, grouped by family."""
        found: dict[int, list[int]] = {}
        for number, units in chunks:
            found.setdefault(number, []).extend(units)
        return [(self.families[number], sorted(found[number])) for number in sorted(found)]


def family_chunks(order: Sequence[int], round_to: int) -> list[tuple[int, ...]]:
    """Cuts `order` into chunks of `round_to` units, so that a multiple of it remains after each; the first may be shorter."""
    over = len(order) % round_to
    cuts = [0, *([over] if over else []), *range(over + round_to, len(order) + 1, round_to)]
    return [tuple(order[start:end]) for start, end in itertools.pairwise(cuts)]


def _select(module: nn.Module, example: Tensor, ranking: Ranking, budget: Budget, cap: float) -> Removals:
    """The fewest lowest-ranked chunks whose removal brings `budget.fill` to at most `cap`; refined in the last round."""

    def fill(units: Sequence[Chunk]) -> float:
        return budget.fill(measure_size(pruned(module, example, ranking.removals(units)), example))

    low, high = 0, len(ranking.order)  # `low` units are too few, `high` are enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fill(ranking.order[:middle]) <= cap else (middle, high)
    best = list(ranking.order[:high])
    share = fill(best)
    # Only the last round has to come close to its target.
    if cap == 1 and share < CLOSE:
        best = _refine(ranking, best, share, fill)
    return ranking.removals(best)


def _refine(
    ranking: Ranking,
    best: list[Chunk],
    share: float,
    fill: Callable[[Sequence[Chunk]], float],
) -> list[Chunk]:
    """Tries exchanges to come closer to the budget: removes a few more chunks of one family, puts a few of another back."""
    queues = [[unit for unit in ranking.order if unit[0] == number] for number in range(len(ranking.families))]
    counts = [sum(unit[0] == number for unit in best) for number in range(len(queues))]
    moves = sorted(
        itertools.product(range(STEPS), range(STEPS), range(len(queues)), range(len(queues))),
        key=lambda move: (move[0] + move[1], move),
    )
    tried = 0
    for more, fewer, gone, back in moves:
        gone_count, back_count = counts[gone] + more, counts[back] - fewer
        if gone == back or not fewer or gone_count > len(queues[gone]) or back_count < 0:
            continue
        changed = counts.copy()
        changed[gone], changed[back] = gone_count, back_count
        units = [unit for queue, count in zip(queues, changed, strict=True) for unit in queue[:count]]
        other, tried = fill(units), tried + 1
        if share < other <= 1:
            best, share = units, other
        if share >= CLOSE or tried == REFINEMENTS:
            break
    return best


def _remove(
    module: nn.Module, example: Tensor, families: Sequence[Family], removals: Removals
) -> tuple[nn.Module, list[Family]]:
    """`module` with the units removed, and the families that can still be pruned."""
    wrong = differs(module, example, removals)
    if wrong:
        raise Unsupported(f"torch-pruning broke {type(module).__name__}: {wrong}; keep some of its layers with --keep")
    module = pruned(module, example, removals).eval()
    gone = {family.root: len(units) for family, units in removals}
    left = [Family(f.root, f.units - gone.get(f.root, 0), f.parts, f.exact) for f in families]
    return module, [family for family in left if family.units > 1]


def _choose(module: nn.Module, example: Tensor, keep: Sequence[str]) -> tuple[list[Family], dict[str, str]]:
    """The families that may be pruned; and root -> why, for the others."""
    layers = dict(module.named_modules())
    for name in keep:
        if name not in layers:
            raise BadOption(f"no layer {name!r} to keep; there are {', '.join(n for n in layers if n)}")
    traced = Traced(module, example)
    wanted, kept = [], {}
    for family in traced.families():
        written = {item.dep.target.module for item in traced.writers(traced.group(family.root))}
        if written.intersection(layer for name in keep for layer in layers[name].modules()):
            kept[family.root] = "asked for"
        else:
            wanted.append(family)
    good, bad = trusted(module, example, wanted)
    if not good:
        why = "; ".join(f"{root}: {text}" for root, text in (kept | bad).items())
        raise Unsupported(
            f"nothing in {type(module).__name__} can be pruned ({why or 'no inner channels of a Conv or Linear'})"
        )
    return good, kept | bad


def _reachable(
    module: nn.Module, example: Tensor, dense: Size, budget: Budget, keep: Sequence[str], round_to: int
) -> tuple[list[Family], dict[str, str]]:
    """As `_choose`. Raises `BadOption` if `budget` is met already, `BudgetMissed` if it cannot be met."""
    if budget.fill(dense) <= 1:
        raise BadOption(f"the budget {budget.text()} is met already ({_text(dense)}); give a smaller one")
    families, kept = _choose(module, example, keep)
    least = _least(module, example, families, round_to)
    if budget.fill(least) > 1:
        raise BudgetMissed(
            f"the budget {budget.text()} is below what is left with {round_to} of each kind of channel ({_text(least)}); "
            "give a larger one"
        )
    return families, kept


def _recalibrate(module: nn.Module, batches: Batches) -> None:
    """Calls `recalibrate` unless all batches have a single image, which have no statistics."""
    if any(len(images) > 1 for images, _ in batches):
        recalibrate(module, (images for images, _ in batches))


def _least(module: nn.Module, example: Tensor, families: Sequence[Family], round_to: int) -> Size:
    """The smallest size: `round_to` units of each family, or all units of a smaller family."""
    removals = [(family, range(round_to, family.units)) for family in families if family.units > round_to]
    return measure_size(pruned(module, example, removals), example)


def _text(size: Size) -> str:
    return f"macs {size.macs:,}, params {size.params:,}"

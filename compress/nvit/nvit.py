"""NViT: global structural pruning of all axes of a transformer by Hessian-aware saliency, in rounds, down to cost targets.

Source: Yang et al., "Global Vision Transformer Pruning with Hessian-Aware Saliency" (NViT), CVPR 2023, arXiv 2110.04869:
one ranking of residual channels, heads, query/key and value channels and hidden units of all blocks by saliency and
latency; removal in rounds.
Differs: written from the paper's formulas. Units are ranked by saliency over cost instead of a weighted difference
(`wb.compress.nvit.select`); cost is a function per part instead of a table of blocks (`wb.compress.nvit.cost`); whole
sub-layers are units too; each head chooses its own channels; saliency is a moving average over the rounds.
Limits: removing residual channels changes the statistics of the norms and is never exact; every other cut equals
masking, up to the statistics of batch norms, which are then found anew. The attention scale stays that of the model the
weights came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from wb import __version__
from wb.compress.depth.drop import removed, without
from wb.compress.nvit.bases import rebased
from wb.compress.nvit.compensate import refitted
from wb.compress.nvit.cost import Cost
from wb.compress.nvit.saliency import Scores, score
from wb.compress.nvit.select import Selector
from wb.compress.nvit.settings import Rules, Settings
from wb.core.architecture import Architecture, axis_dims, axis_sizes, kind_of_axis, kinds_of_axes
from wb.core.commands.progress import Count
from wb.core.errors import BadOption, BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import scaled
from wb.core.records import Dim
from wb.data import Dataset, Split
from wb.data.batches import batches
from wb.models.axes import Map, Select, SelectWithin
from wb.models.counting import count_parameters
from wb.models.model import Model, Step, remap_model
from wb.models.passes.untie import untied
from wb.tasks.suited import check_fits
from wb.training.fit import pick_device
from wb.training.recipes.choose import recipe_for
from wb.training.recipes.recipe import Recipe, RecipeOptions
from wb.training.refit.judged import Refit
from wb.training.statistics import settled, shown, with_statistics
from wb.training.train import Finetune

# Cuts before the last that are made up for too: .0130 nat are left with them, .0178 without, .0136 with all 9.
REFITS = 4


@dataclass(frozen=True)
class Pruned:
    """The state of a pruning after some rounds: the model, the moving average of its saliency, the number of rounds.

    `kept` has, for every residual stream that lost channels, the channels of the dense model that are left; `refit` says what
    refitting after the last cut did, if there was any, and `refitted` whether any refit, after whichever cut, was kept.
    """

    model: Model
    scores: Scores = field(default_factory=dict)
    rounds: int = 0
    kept: Mapping[str, Tensor] = field(default_factory=dict)
    refit: Refit | None = None
    refitted: bool = False

    def did(self, settings: Settings) -> dict[str, Any]:
        """The settings in a history step, but for the seed: compensation that was not kept did not happen."""
        return {
            **settings.model_dump(mode="json", exclude={"seed"}),
            "compensate": self.made_up(settings) or self.refitted,
        }

    def made_up(self, settings: Settings) -> bool:
        """Whether the last cut is made up for: a refit that was not kept did not happen."""
        return settings.compensate and (self.refit is None or self.refit.kept)


@dataclass(frozen=True)
class NViT:
    """The NViT pass: prunes a model until `costs` predict that it meets `targets` (by metric, in the unit of its readings).

    Recovery steps distil from the logits of `teacher`; `report` is called with the round and what it does.

    Raises:
        BadData: the data do not fit the model, or a loss or gradient is not finite.
        BadOption: a kind of axis to keep that the model does not have.
        BudgetMissed: no unit is left to remove before a target is met.
    """

    data: Dataset
    targets: Mapping[str, float]
    costs: Mapping[str, Cost]
    settings: Settings = field(default_factory=Settings)
    teacher: Callable[[Tensor], Tensor] | None = None
    report: Callable[[int, str], None] | None = None

    def __call__(self, model: Model, /) -> Model:
        return self.finished(self.compensated(self.reached(model), model), model)

    def reached(self, model: Model) -> Pruned:
        """What is left of a model once the targets are met, before anything makes up for the last cut."""
        check_fits(model.architecture, self.data)
        check_keep(self.settings.keep, model.architecture)
        state = Pruned(self.rotated(model))
        start = {metric: self.costs[metric](model.architecture) for metric in self.targets}
        for round_ in range(1, self.settings.rounds + 1):
            share = round_ / self.settings.rounds
            state = self.scored(state)
            aims = {m: between(start[m], target, share) for m, target in self.targets.items()}
            state = self.cut(state, aims, self.targets)
            if left := self.settings.rounds - round_:
                state = self.between(state, model, left)
        return state

    def between(self, state: Pruned, dense: Model, left: int, report: Count | None = None) -> Pruned:
        """`state` after what follows a cut when so many rounds are `left`: near the end compensation, then recovery."""
        return self.recovered(self.compensated(state, dense, report) if left <= REFITS else state)

    def rotated(self, model: Model, report: Count | None = None) -> Model:
        """The same function: norms with the statistics of images, and, if the settings say so, heads in the bases of those."""
        model = settled(model, shown(self.data.train))
        if not self.settings.rotate:
            return model
        if self.report is not None:
            self.report(0, "rotating")
        split = self._calibration()

        def images() -> Iterator[Tensor]:
            for i, (part, _) in enumerate(batches(split, self.settings.batch, shuffle=False)):
                if report is not None:
                    report(i * self.settings.batch, len(split))
                yield part

        return rebased(model, images(), self.settings.keep)

    def compensated(self, state: Pruned, dense: Model, report: Count | None = None) -> Pruned:
        """`state` with its writers and head fitted to those of the model that was cut, if the settings say so and it helps."""
        if not self.settings.compensate or state.model.architecture == dense.architecture:
            return state
        if self.report is not None:
            self.report(state.rounds, "compensating")
        seed = self.settings.seed
        model, refit = refitted(state.model, dense, state.kept, self.data, seed=seed, report=report)
        return replace(state, model=model, refit=refit, refitted=state.refitted or refit.kept)

    def scored(self, state: Pruned) -> Pruned:
        """The same model, its saliency updated with one more round of scoring."""
        settings = self.settings
        if self.report is not None:
            self.report(state.rounds + 1, "scoring")
        device = pick_device()
        images = ((x.to(device), y.to(device)) for x, y in batches(self._calibration(), settings.batch, shuffle=False))
        # A tied head reads the stream: what it reads by is a weight of its own here, so that gates on channels count it.
        network = untied(state.model).network(device)
        seed = settings.seed + state.rounds
        new = score(network, images, settings.method, keep=settings.keep, seed=seed)
        old, momentum = state.scores, settings.momentum
        mixed = {n: momentum * old[n] + (1 - momentum) * value if n in old else value for n, value in new.items()}
        return replace(state, scores=mixed, rounds=state.rounds + 1)

    def cut(self, state: Pruned, targets: Mapping[str, float], final: Mapping[str, float] | None = None) -> Pruned:
        """The model without its least salient units, as many as it takes until `costs` predict that `targets` are met.

        `final` gives the targets of the last round if this is not the last one.

        Raises:
            BudgetMissed: no unit is left to remove before that.
        """
        rules = self.settings.rules(state.model.architecture)
        selector = Selector(state.model.architecture, state.scores, self.costs, rules)
        if not selector.until(targets, final=final):
            least = {metric: (target, selector.cost(metric)) for metric, target in targets.items()}
            over = {metric: pair for metric, pair in least.items() if pair[1] > pair[0]}
            raise BudgetMissed(unreachable(over, rules))
        model, scores, kept = state.model, dict(state.scores), dict(state.kept)
        for layer in selector.dropped:
            model = without(model, layer)
        dims = axis_dims(model.architecture)
        for maps in selector.maps():
            kept |= {name: kept[name][index] if name in kept else index for name, index in _streams(maps)}
            model = remap_model(model, maps)
            scores |= {name: _follow(value, name, dims.get(name), maps) for name, value in scores.items()}
        if model is not state.model:  # what is left sees other inputs
            model = with_statistics(model, self.data.train)
        left = {*axis_sizes(model.architecture), *(set(selector.layers) - set(selector.dropped))}
        scores = {name: value for name, value in scores.items() if name in left}
        return replace(state, model=model, scores=scores, kept=kept, refit=None)

    def recovered(self, state: Pruned) -> Pruned:
        """The model after `recovery` training steps; each round draws its own images."""
        settings = self.settings
        if not settings.recovery:
            return state
        if self.report is not None:
            self.report(state.rounds, "recovering")
        recipe = self._recovery(state.model.architecture)
        wanted = settings.recovery * recipe.batch
        split = self.data.train
        order = _order(len(split), settings.seed * 1009 + state.rounds)[:wanted]
        recipe = recipe.model_copy(update={"epochs": -(-wanted // len(split))})
        data = replace(self.data, train=split.take(order))
        tuned = Finetune(data, recipe, self.teacher, settings.seed + state.rounds)(state.model)
        return replace(state, model=replace(tuned, history=state.model.history))

    def _recovery(self, architecture: Architecture) -> Recipe:
        """How recovery steps are trained: networks of convolutions or texts as they are fine-tuned, others by recipe `plain`."""
        rate = self.settings.learning_rate
        texts, maps = self.data.train.vocabulary is not None, architecture.has_maps
        if not (texts or maps):
            return Recipe(learning_rate=rate)
        parameters = count_parameters(architecture).value
        # Whether mirrored images help takes longer to find than these steps.
        options = RecipeOptions() if texts else RecipeOptions(flip=False)
        return recipe_for(options, parameters, self.data, 1, finetune=True, learning_rate=rate, convolutions=maps)

    def finished(self, state: Pruned, model: Model) -> Model:
        """The pruned model, with the history of `model` and one step for the pruning."""
        arguments: dict[str, Any] = {
            "targets": dict(self.targets),
            **self.data.origin,
            "distilled": self.teacher is not None,
            "dropped": removed(model.architecture, state.model.architecture),
            **state.did(self.settings),
            "align": self.settings.rules(model.architecture).align,
        }
        step = Step(name="prune nvit", arguments=arguments, seed=self.settings.seed, version=__version__)
        return replace(state.model, history=(*model.history, step))

    def _calibration(self) -> Split:
        order = _order(len(self.data.train), self.settings.seed)
        return self.data.train.take(order[: self.settings.calibration])


def between(start: float, target: float, share: float) -> float:
    """Geometric interpolation: `share` of the way from `start` down to `target`."""
    return float(start * (target / start) ** share) if target < start else target


def check_keep(keep: tuple[str, ...], architecture: Architecture) -> None:
    """Raises `BadOption` for a kind of axis that the architecture does not have."""
    kinds = kinds_of_axes([architecture])
    known = [*kinds, "blocks"]
    unknown = [name for name in keep if name not in known]
    if unknown:
        raise BadOption(f"no axis {', '.join(unknown)} to keep; this model has {', '.join(known)}")


def check_reachable(limits: Sequence[Limit], costs: Mapping[str, Cost], model: Model, settings: Settings) -> None:
    """Raises `BudgetMissed` where even the smallest network that the settings allow is predicted to be over a limit."""
    network = model.network()
    scores = score(network, (), "random")
    if settings.method == "nvit":  # by gates, so that sub-layers without axes of their own can go as well
        scores |= {at.name: torch.zeros(()) for at in network.walk()}
    rules = settings.rules(model.architecture)
    selector = Selector(model.architecture, scores, costs, rules)
    for limit in limits:
        least = selector.floor(limit.metric.name)
        if least > limit.value:
            raise BudgetMissed(unreachable({limit.metric.name: (limit.value, least)}, rules))


def unreachable(found: Mapping[str, tuple[float, float]], rules: Rules) -> str:
    """The message that targets cannot be reached; `found` gives for each metric the target and the least cost possible."""
    parts = []
    for metric, (target, least) in found.items():
        unit = METRICS[metric].unit
        parts.append(f"{metric} <= {scaled(target, unit)} cannot be reached, the least is ~{scaled(least, unit)}")
    kept = f" with --keep {','.join(sorted(rules.keep))}" if rules.keep else ""
    return f"{'; '.join(parts)}{kept}; allow more, keep less, or take a smaller --align"


def _order(size: int, seed: int):  # type: ignore[no-untyped-def]
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed)).numpy()


def _streams(maps: Mapping[str, Map]) -> Iterator[tuple[str, Tensor]]:
    """The residual streams that lose channels, each with those that stay."""
    for name, map_ in maps.items():
        if kind_of_axis(name) == "embed" and isinstance(map_, Select):
            yield name, map_.index


def _follow(value: Tensor, name: str, dim: Dim | None, maps: Mapping[str, Map]) -> Tensor:
    """Scores of one axis or sub-layer (`dim` is None), re-indexed by the maps; removing a head removes its channels' scores."""
    heads = maps.get(f"{name.rsplit('.', 1)[0]}.{dim.within}") if dim is not None else None
    if value.dim() == 2 and isinstance(heads, Select):
        value = value[heads.index]
    match maps.get(name):
        case Select(index):
            return value[..., index]
        case SelectWithin(index):
            return value.gather(1, index)
    return value

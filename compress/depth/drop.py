"""Layer dropping: removes whole sub-layers one after the other, each time the one with the least effect on the output.

Source: Csordás et al., "Do Language Models Use Their Depth Efficiently?", 2025, https://arxiv.org/abs/2505.13898: late
sub-layers add little to later ones and still matter for the output, so that the effect on the output decides.
Differs: the effect is measured again after every drop, always against the outputs of the original model and not of the one
already cut, so that the effects of earlier drops are included. The statistics of batch norms are found anew after every drop.
Limits: greedy; two sub-layers that are dispensable only together are not found. Nothing is trained here: fine-tune
afterwards. A drop is chosen for its effect alone, whatever the sub-layer costs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.compress.depth.chain import Chain, chosen
from wb.compress.depth.effect import Tally, tokens
from wb.core.architecture import Architecture
from wb.core.errors import BadOption, BudgetMissed
from wb.data import Dataset, Split
from wb.data.batches import batches, scored_at_once
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, Step
from wb.models.network import Network, build
from wb.tasks.known import task_of
from wb.tasks.suited import check_fits
from wb.training.statistics import with_statistics


def sublayers(architecture: Architecture) -> list[str]:
    """The names of the mixers and feed-forwards, `s0.b3.mixer` before `s0.b3.ffn`, in order of execution."""
    return [at.name for at in build(architecture, "meta").walk()]


def removed(before: Architecture, after: Architecture) -> list[str]:
    """The names of the sub-layers of `before` that `after`, a smaller network made from it, has lost."""
    left = sublayers(after)
    return [name for name in sublayers(before) if name not in left]


def without(model: Model, sublayer: str) -> Model:
    """`model` without one sub-layer and its norm; the stream passes unchanged, in a post-norm network not normalised either.

    The other sub-layers keep their names; the history stays as it is.

    Raises:
        BadOption: the model has no such sub-layer.
    """
    names = sublayers(model.architecture)
    if sublayer not in names:
        raise BadOption(f"no sub-layer {sublayer!r}; this model has {', '.join(names) or 'none'}")
    place, kind = sublayer.rsplit(".", 1)
    architecture = model.architecture.with_blocks(
        lambda name, block: block.model_copy(update={kind: None}) if name == place else block
    )
    left = {name for name, _ in build(architecture, "meta").named_parameters()}
    weights = {name: weight for name, weight in model.weights.items() if name in left}
    return replace(model, architecture=architecture, weights=weights)


class Dropped(NamedTuple):
    """What is left of a model, and the sub-layers that are dropped, in order, each with the effect of all drops so far."""

    model: Model
    effects: Mapping[str, float]


@dataclass(frozen=True)
class DropLayers:
    """The pass: drops sub-layers until `enough(architecture)`, judged on at most `limit` images of one split of `data`.

    `effect` is the criterion: the mean KL(y ‖ ȳ) of the probabilities of classes, or of the next token at every place, or the
    mean distance ‖y − ȳ‖₂. Sub-layers in
    `keep` stay, and at least `keep_at_least` in all. Training images are the default, so that validation images can still
    judge the result. `report(name, effect)` is called after every drop.
    """

    data: Dataset
    enough: Callable[[Architecture], bool]
    effect: Literal["kl", "distance"] = "kl"
    keep: Collection[str] = ()
    keep_at_least: int = 1
    split: Literal["train", "validation"] = "train"
    limit: int | None = 512
    batch: int = 128
    device: torch.device | str = "cpu"
    report: Callable[[str, float], None] | None = None

    def __call__(self, model: Model, /) -> Model:
        """The smaller model.

        Raises:
            BudgetMissed: all sub-layers that may be dropped are dropped and it is not enough.
            BadData: the data have another shape or number of classes.
            BadOption: `keep` names no sub-layer, or `batch` or `limit` is below 1.
        """
        return self.first(self.steps(model))

    def first(self, steps: Iterable[Dropped]) -> Model:
        """The first model of `steps` that is enough, with its history step. Raises `BudgetMissed` if none is."""
        for found in steps:
            if self.enough(found.model.architecture):
                return found.model.then(self._step(found.effects, len(self._images)))
        raise BudgetMissed(self._missed(found.model.architecture, found.effects))

    def steps(self, model: Model) -> Iterator[Dropped]:
        """The model, and what is left of it after every drop, as long as any sub-layer may go; whatever is enough.

        Raises as a call does, but for `BudgetMissed`.
        """
        self._check(model)
        images, dropped = self._images, dict[str, float]()
        original = model.network(self.device)
        yield Dropped(model, {})
        while effects := self._effects(model, images, original):
            name = min(effects, key=effects.__getitem__)
            model = with_statistics(without(model, name), self.data.train)
            dropped[name] = effects[name]
            if self.report is not None:
                self.report(name, effects[name])
            yield Dropped(model, dict(dropped))

    @property
    def _images(self) -> Split:
        return chosen(self.data.train if self.split == "train" else self.data.validation, self.limit)

    def _check(self, model: Model) -> None:
        check_fits(model.architecture, self.data)
        names = sublayers(model.architecture)
        unknown = sorted(set(self.keep) - set(names))
        if unknown:
            raise BadOption(f"no sub-layer {', '.join(unknown)} to keep; this model has {', '.join(names) or 'none'}")

    def _effects(self, model: Model, images: Split, original: Network) -> dict[str, float]:
        """By droppable sub-layer, the distance of the output from the original's without it; empty if none may be dropped."""
        chain = Chain(model.network(self.device))
        spare = len(chain.names) > self.keep_at_least
        may_go = [s for s, name in enumerate(chain.names) if spare and name not in self.keep]
        if not may_go:
            return {}
        tally, task = Tally(), task_of(model.architecture)
        with torch.inference_mode():
            for part, labels in self._batches(images):
                trace, logits = chain.trace(part), original(part)
                for s in may_go:
                    effects = task.effects(logits, chain.skip(trace, s).logits, labels)
                    tally.add(effects[self.effect], s, heavy=tokens(labels))
        return {chain.names[s]: tally.mean(s) for s in may_go}

    def _batches(self, images: Split) -> Iterator[tuple[Tensor, Tensor]]:
        for part, labels in batches(images, scored_at_once(images, self.batch), shuffle=False):
            yield part.to(self.device), labels.to(self.device)

    def _missed(self, architecture: Architecture, dropped: Mapping[str, float]) -> str:
        left = sublayers(architecture)
        return (
            f"{len(dropped)} sub-layers are dropped, {', '.join(left) or 'none'} left, and the budget is not kept: reached "
            f"{count_macs(architecture).text()} multiply-accumulates and {count_parameters(architecture).text()} parameters; "
            "allow more, keep fewer sub-layers, or make the model narrower as well"
        )

    def _step(self, dropped: Mapping[str, float], images: int) -> Step:
        arguments: dict[str, JsonValue] = {**self.data.origin, "split": self.split, "images": images}
        arguments |= {
            "effect": self.effect,
            "dropped": {**dropped},
        }  # in order, each with the effect of all drops so far
        return Step(name="drop", arguments=arguments, version=__version__)

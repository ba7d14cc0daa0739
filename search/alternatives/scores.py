"""What alternatives do to the answers: the divergence of the model's answers with one sub-layer replaced, or several.

Source: Bercovich et al., "Puzzle", 2024, https://arxiv.org/abs/2411.19146: replace-one-block scores, of which the divergence of
answers chose best.
Differs: single sub-layers instead of blocks; each starts from what the model computes before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from wb.core.records import Frozen
from wb.models.model import Model
from wb.search.alternatives.combined import Alternative, combined
from wb.search.alternatives.costs import costs_of
from wb.search.alternatives.library import Library
from wb.search.alternatives.lines import Lines
from wb.search.alternatives.option import NONE, WHOLE, Option
from wb.tasks.known import task_of
from wb.training.refit.streams import Streams
from wb.training.refit.trace import network_of

Report = Callable[[str, int, int], None]
Choice = Mapping[str, str]  # name of an option by slot; those that are not named are whole


class Divergence(NamedTuple):
    """The mean over images of KL(p ‖ q) in nats, q being the changed answers, and its standard error."""

    value: float
    error: float


class Scored(Frozen):
    """The score of one alternative, a line of `scores.jsonl`; `divergence` is None where answers were not finite."""

    slot: str
    option: str
    divergence: float | None
    error: float


class Chosen(Frozen):
    """What a whole choice does, a line of `choices.jsonl`: the options that are not whole by slot; as `Scored` else."""

    choice: Mapping[str, str]
    divergence: float | None
    error: float


class Scores:
    """Scores of a library's alternatives on images (n, channels, height, width), others than it was made from.

    With `most` only so many alternatives of each sub-layer count, those that fit best for their size.
    """

    def __init__(self, library: Library, images: Tensor, most: int | None = None) -> None:
        self.library, self.images, self.most = library, images, most
        self.lines = Lines(library.folder / "scores.jsonl", Scored)
        self.choices = Lines(library.folder / "choices.jsonl", Chosen)

    def make(self, report: Report = lambda what, done, of: None) -> dict[tuple[str, str], Divergence]:
        """The divergence of every alternative, by slot and name; those that have a line are not scored again."""
        found = {(one.slot, one.option): one for one in self.lines.read()}
        wanted = [(slot, name) for slot, options in self.options.items() for name in options]
        if any(one not in found for one in wanted):
            for at in self._streams.walk():
                left = [name for name in self.options[at.name] if (at.name, name) not in found]
                alternatives = self.library.read(at.name, left)
                for name in left:
                    report(f"scoring {at.name}, {name}", len(found), len(wanted))
                    score = self._score(at.name, alternatives[name])
                    self.lines.add(score)
                    found[at.name, name] = score
        return {
            key: Divergence(one.divergence, one.error) for key in wanted if (one := found[key]).divergence is not None
        }

    def true(self, choice: Choice) -> Divergence:
        """The divergence of a whole choice, measured; one that has a line is not measured again."""
        changed = {slot: name for slot, name in sorted(choice.items()) if name != WHOLE}
        for line in self.choices.read():
            if line.choice == changed:
                return Divergence(math.inf if line.divergence is None else line.divergence, line.error)
        found = self._divergence(Streams(self.model_of(choice), self.images).logits())
        self.choices.add(
            Chosen(choice=changed, divergence=found and found.value, error=0.0 if found is None else found.error)
        )
        return Divergence(math.inf, 0.0) if found is None else found

    def model_of(self, choice: Choice) -> Model:
        """The model that a choice makes."""
        chosen = {slot: self.library.read(slot, [name])[name] for slot, name in choice.items()}
        return combined(self.library.model, chosen)

    @cached_property
    def options(self) -> dict[str, dict[str, Option]]:
        """The alternatives that count, by slot and name; their weights stay in the library."""
        options = {slot: self.library.options(slot) for slot in self.library.slots}
        if self.most is None:
            return options
        macs = costs_of("macs", self.library.given.architecture, options, None).each
        return {slot: {name: of[name] for name in thinned(of, macs, self.most)} for slot, of in options.items()}

    @cached_property
    def _streams(self) -> Streams:
        return Streams(self.library.model, self.images)

    @cached_property
    def _logits(self) -> Tensor:
        return self._streams.logits()

    def _score(self, slot: str, alternative: Alternative) -> Scored:
        if alternative.option.name == WHOLE:
            return Scored(slot=slot, option=WHOLE, divergence=0.0, error=0.0)
        model = combined(self.library.model, {slot: alternative})
        found = self._divergence(self._streams.answers(network_of(model), slot))
        return Scored(
            slot=slot,
            option=alternative.option.name,
            divergence=None if found is None else found.value,
            error=0.0 if found is None else found.error,
        )

    def _divergence(self, logits: Tensor) -> Divergence | None:
        """None for answers that are not finite."""
        task = task_of(self.library.given.architecture)
        nobody = torch.zeros(logits.shape[:-1], dtype=torch.long)  # labels, which say nothing of a divergence
        each = task.effects(self._logits, logits, nobody)["kl"].double()
        if not torch.isfinite(logits).all():
            return None
        return Divergence(float(each.mean()), float(each.std() / len(each) ** 0.5) if len(each) > 1 else 0.0)


def thinned(options: Mapping[str, Option], macs: Mapping[tuple[str, str], float], most: int) -> list[str]:
    """The names of at most `most` alternatives of a sub-layer: whole, nothing, and some that fit best for their work.

    These are taken at equal distances in the order of their work.
    """
    order = sorted(options.values(), key=lambda one: (macs[one.slot, one.name], one.error))
    best = [one for i, one in enumerate(order) if all(other.error > one.error for other in order[:i])]
    middle = [one.name for one in best if one.fitted]
    count = min(len(middle), max(0, most - 2))
    kept = {middle[(2 * i + 1) * len(middle) // (2 * count)] for i in range(count)} | {WHOLE, NONE}
    return [name for name in options if name in kept]

"""Fusion of models: canonical forms, matched blocks, aligned axes, averaged weights, correction.

Source: Imfeld et al., "Transformer Fused with Optimal Transport", 2024, https://arxiv.org/abs/2310.05719, for the aim; the
modules of the parts name theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from pydantic import JsonValue
from torch import Tensor

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, Unsupported
from wb.core.precision import in_floating_point
from wb.fusion.align.align import Aligner, Alignment
from wb.fusion.align.observe import observe
from wb.fusion.align.solvers import REGULARISATION
from wb.fusion.align.universe import settle
from wb.fusion.fit.correct import correct
from wb.fusion.fit.merge import Aligned, merge
from wb.fusion.forms.canonical import canonical, rebalanced, restored
from wb.fusion.forms.compatible import adapted, check_images, check_scales, check_together, settings_of_norms
from wb.fusion.forms.vocabularies import known_rows
from wb.fusion.match.depth import Match
from wb.fusion.match.match import Reference, resized
from wb.fusion.match.placed import Placed, place
from wb.fusion.paper.paper import Paper
from wb.fusion.settings import Settings, anchor_of, shares_of
from wb.models.files.history import tokenizer_of
from wb.models.joins.base import JoinModule
from wb.models.model import Model, Step, check_weights
from wb.models.network import build
from wb.models.norms.base import NormModule


@dataclass
class Fused:
    """The result of a fusion: `model` is the fused model, `average` the model before correction; both are ordinary models.

    `alignments` has one entry per parent, None for a parent that needed no alignment; `looked` is the number of images used.
    `between` needs `reference` and `parents`, which are kept only on request.
    """

    model: Model
    average: Model
    anchor: int
    shares: tuple[float, ...]
    alignments: list[Alignment | None]
    notes: list[str]
    seconds: dict[str, float]
    looked: int
    finish: Callable[[Model], Model] = field(repr=False)
    reference: Model | None = field(default=None, repr=False)
    parents: list[Aligned] | None = field(default=None, repr=False)

    def between(self, share: float) -> Model:
        """The average with weight `share` for all parents but the anchor, in proportion, and the rest for the anchor.

        Raises:
            ValueError: the parents were not kept.
        """
        if self.reference is None or self.parents is None:
            raise ValueError("the parents were not kept; fuse with keep=True")
        others = [0.0 if i == self.anchor else s for i, s in enumerate(self.shares)]
        total = sum(others)
        n = len(others) - 1
        parts = [s / total if total else (i != self.anchor) / n for i, s in enumerate(others)]
        shares = [1 - share if i == self.anchor else share * part for i, part in enumerate(parts)]
        return self.finish(merge(self.reference, self.parents, shares))


def fuse(
    models: Iterable[Model],
    names: Sequence[str],
    settings: Settings,
    images: Tensor | None = None,
    *,
    target: Architecture | None = None,
    keep: bool = False,
    progress: Progress | None = None,
) -> Fused:
    """Fuses `models`, which are read one by one so that only their aligned forms are in memory.

    `images` (n, channels, height, width), float32 in [0, 1], serve `regress`, `repair` and comparison of activations. The
    result has the architecture and precisions of the anchor, or of `target`; a single model may be fused into a `target`.
    Weights of one or two bits are fused as they are before rounding.

    Raises:
        BadArtefact: weights that are not finite.
        BadData: images that the models do not read.
        BadOption: classes that differ, no images where they are needed, or settings that do not fit the models.
        Unsupported: models that cannot be aligned.
    """
    return _Fusing(list(names), settings, images, target, keep, progress or (lambda *_: None))(models)


@dataclass
class _Fusing:
    names: list[str]
    settings: Settings
    images: Tensor | None
    target: Architecture | None
    keep: bool
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def __call__(self, models: Iterable[Model]) -> Fused:
        self._check_options()
        parents, skeletons, prints = self._read(models)
        architectures = [skeleton.architecture for skeleton in skeletons]
        anchor = anchor_of(self.settings, architectures)
        like = skeletons[anchor]
        words = [tokenizer_of(skeleton.history) for skeleton in skeletons]
        notes = check_together(architectures, self.names, anchor, words)
        if self.images is not None:
            notes += check_images(self.images, like.architecture)
        shares = shares_of(self.settings, len(parents))
        known = [
            known_rows(a, own, like.architecture, words[anchor]) for a, own in zip(architectures, words, strict=True)
        ]
        parents = [adapted(parent, like.architecture, words[anchor]) for parent in parents]
        reference = parents[anchor]
        if self.target is not None:
            target, said = self._checked_target(self.target, like.architecture, self.names[anchor])
            notes += said
            goal = resized(reference, in_floating_point(target), self.images, balance=self._balances)
            like = Model(target, {}, like.history)
        else:
            goal = Reference(reference)
        aligned, alignments = self._aligned(parents, goal, anchor)
        aligned = [replace(one, known=rows) for one, rows in zip(aligned, known, strict=True)]
        reference = goal.model
        looked = self._looked(alignments)
        del goal
        parents.clear()
        with self._timed("averaging"):
            average = merge(reference, aligned, shares, release=not (self.keep or self._corrects))
        corrected = self._corrected(average, aligned, shares)
        kept = (reference, aligned) if self.keep else (None, None)
        del reference, aligned  # so that large models are not held twice

        def finish(model: Model) -> Model:
            if self._canonical:
                return restored(model, like)
            return replace(model, architecture=like.architecture)

        same = corrected is average
        before = finish(average)
        del average
        model = before if same else finish(corrected)
        arguments = self._arguments(prints, shares, anchor, looked)
        step = Step(name="fuse", arguments=arguments, seed=self.settings.seed, version=__version__)
        model = replace(model, history=(*like.history, step))
        return Fused(model, before, anchor, shares, alignments, notes, self.seconds, looked, finish, *kept)

    def _checked_target(self, target: Architecture, anchor: Architecture, name: str) -> tuple[Architecture, list[str]]:
        """The architecture to bring the anchor to, with its classes, and what there is to say. Raises as `check_scales`."""
        self.progress("bringing the anchor to its new size", 0, 0)
        check_scales(target, "the target")
        new, old = settings_of_norms(target), settings_of_norms(anchor)
        notes = (
            [] if new == old else [f"the norms of the target have {new}, those of {name} {old}; the former is taken"]
        )
        return target.with_labels(target.head.labels or anchor.head.labels), notes

    @property
    def _canonical(self) -> bool:
        """Whether models are brought to canonical form first."""
        return self.settings.method not in ("vanilla", "ot")

    @property
    def _balances(self) -> bool:
        """Whether heads are balanced first, because alignment may rotate their channels."""
        return self._canonical and self.settings.method != "perm"

    @property
    def _corrects(self) -> bool:
        """Whether the average is fitted to its parents."""
        return self.settings.repair or self.settings.method == "regress"

    def _check_options(self) -> None:
        count, settings = len(self.names), self.settings
        if count < (1 if self.target else 2):
            raise BadOption(
                f"{count} model cannot be fused; give two or more, or one and an architecture to bring it to"
            )
        if settings.needs_images and self.images is None:
            raise BadOption(f"{_why(settings)} looks at images and there are none; name data with --data, or take orth")
        if self.target is not None and not self._canonical:
            raise BadOption(f"{settings.method} cannot fuse into another architecture; take perm, orth or regress")

    def _read(self, models: Iterable[Model]) -> tuple[list[Model], list[Model], list[str]]:
        """The models in the form to be aligned, skeletons with norms and joins only (to undo that form), and fingerprints."""
        parents, skeletons, prints = [], [], []
        unread = iter(models)
        for i, name in enumerate(self.names):
            self.progress(f"reading {name}", i, len(self.names))
            model = next(unread)
            check_weights(model.weights, name)
            norms = {
                f"{n}.{p}"
                for n, m in build(model.architecture, "meta").named_modules()
                if isinstance(m, NormModule | JoinModule)
                for p in m.axes
            }
            # Copies: a view into a file would keep the whole of it in memory.
            skeletons.append(replace(model, weights={n: w.clone() for n, w in model.weights.items() if n in norms}))
            prints.append(model.fingerprint())
            # Weights are aligned and averaged as they are before any rounding.
            model = replace(model, architecture=in_floating_point(model.architecture), weights=dict(model.weights))
            own = canonical(model, balance=self._balances, release=True) if self._canonical else model
            parents.append(own)
            del model  # before the next one is read
        return parents, skeletons, prints

    def _aligned(
        self, parents: list[Model], goal: Reference, anchor: int
    ) -> tuple[list[Aligned], list[Alignment | None]]:
        """Every parent, aligned to the axes of `goal`."""
        found: list[Aligned] = []
        alignments: list[Alignment | None] = []
        for i, parent in enumerate(parents):
            self.progress(f"aligning {self.names[i]}", i, len(parents))
            with self._timed("aligning"):
                one, alignment = self._one(parent, goal, itself=i == anchor)
            found.append(one)
            alignments.append(alignment)
        if self.settings.anchor == "mean":
            with self._timed("aligning"):
                found, alignments = settle(goal.model, found, shares_of(self.settings, len(parents)), self._aligner)
        return found, alignments

    def _one(self, parent: Model, goal: Reference, *, itself: bool) -> tuple[Aligned, Alignment | None]:
        settings, reference = self.settings, goal.model
        if (itself and goal.anchor is None) or settings.method == "vanilla":
            if parent.architecture != reference.architecture:
                raise Unsupported("vanilla averages equal architectures only; take orth, which aligns unequal ones")
            return Aligned(place(parent, reference, _itself(reference.architecture), folded=False), {}), None
        if settings.method == "ot":
            paper = Paper(settings.compared, settings.solver or "sinkhorn", settings.reg)
            moved, plans = paper(parent, reference, self.images)
            return Aligned(place(moved, reference, _itself(reference.architecture), folded=False), {}), Alignment(
                plans=plans, rounds=1
            )
        matching = goal.match(parent, self.images, itself=itself)
        if self._balances:
            parent = rebalanced(parent, reference.architecture)
        placed = place(parent, reference, matching.blocks, matching.by)
        alignment = self._aligner(placed, reference)
        return Aligned(placed, alignment.maps), alignment

    def _aligner(self, placed: Placed, reference: Model) -> Alignment:
        settings = self.settings
        looked = self.images if settings.compared == "activations" else None
        statistics = None if looked is None else observe(placed, reference, looked, settings.seed)
        rotate, reg = settings.method != "perm", settings.reg or REGULARISATION
        return Aligner(placed, reference, rotate, settings.solver or "lap", reg, statistics)()

    def _corrected(self, average: Model, aligned: Sequence[Aligned], shares: Sequence[float]) -> Model:
        settings = self.settings
        if self.images is None or not self._corrects:
            return average
        method: Literal["regress", "repair"] = "repair" if settings.repair else "regress"
        what = "fitting to the parents" if method == "regress" else "restoring moments"
        report, seed = partial(self.progress, what), settings.seed
        with self._timed(what):
            return correct(
                average, aligned, shares, self.images, method, ridge=settings.ridge, seed=seed, report=report
            )

    def _looked(self, alignments: Sequence[Alignment | None]) -> int:
        """The number of images used; 0 if only block matching could have used them and did not."""
        matched = any(one is not None and one.by == "additions" for one in alignments)
        looks = self.settings.needs_images or self.target is not None or matched
        return len(self.images) if looks and self.images is not None else 0

    def _arguments(
        self, prints: Sequence[str], shares: Sequence[float], anchor: int, looked: int
    ) -> dict[str, JsonValue]:
        chosen = self.settings.model_dump(mode="json", exclude={"seed"})
        chosen |= {"parents": list(prints), "weights": list(shares), "images": looked}
        if self.settings.anchor != "mean":
            chosen["anchor"] = anchor + 1
        return chosen if self.target is None else {**chosen, "target": self.target.key}

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[what] = self.seconds.get(what, 0.0) + time.perf_counter() - start


def _itself(architecture: Architecture) -> Match:
    return tuple(tuple(range(len(stage.blocks))) for stage in architecture.stages)


def _why(settings: Settings) -> str:
    if settings.method == "regress":
        return "method regress"
    return "--repair" if settings.repair else "--stat activations"

"""Preview of a fusion: whether the models can be fused, and which blocks match, without aligning any of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import Tensor

from wb.core.architecture import Architecture, axis_sizes
from wb.core.commands.progress import Progress
from wb.core.errors import Unsupported
from wb.core.precision import in_floating_point
from wb.data import Dataset
from wb.foreign.reading import load
from wb.fusion.forms.canonical import canonical
from wb.fusion.forms.compatible import adapted, check_images, check_together
from wb.fusion.job.begin import Checked, Files, checked
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.job import calibration, overflow_named
from wb.fusion.job.tables import Table, in_order, matches, short, sizes, ways
from wb.fusion.match.depth import Match
from wb.fusion.match.match import By, Reference, resized
from wb.fusion.match.placed import place
from wb.fusion.paper.paper import Paper
from wb.models.model import Model
from wb.models.network import build


@dataclass(frozen=True)
class Fit:
    """One model against the reference: its matched blocks, its own unmatched sub-layers, and the reference's unmatched ones.

    `by` names the method that found the match.
    """

    match: Match = ()
    by: By = "order"
    alone: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preview:
    """The preview; `fits` has one entry per model."""

    config: FuseConfig
    found: Checked
    fits: tuple[Fit, ...]
    notes: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """The models' names."""
        return short([parent.name for parent in self.found.parents])

    @property
    def target(self) -> Architecture:
        """The architecture that the fused model would have."""
        return self.config.to or self.found.architecture

    def sizes(self) -> Table:
        """The axes of every model and of the target."""
        models = {name: parent.architecture for name, parent in zip(self.names, self.found.parents, strict=True)}
        return sizes({**models, "target": self.target} if self.config.to else models)

    def match(self) -> Table:
        """The table of matched blocks; empty if they match in order."""
        return matches(self.names, [fit.match for fit in self.fits], self.target)

    def lines(self) -> list[str]:
        """The preview in sentences, apart from the tables."""
        labels = [parent.architecture.head.labels for parent in self.found.parents]
        how = "by name" if all(labels) else "by their order"
        found = [f"classes: {self.target.head.classes}, matched {how}"]
        if all(in_order(fit.match) for fit in self.fits):
            found.append("blocks: matched in order")
        else:
            found += [f"blocks: {text}" for text in ways(self.names, [fit.by for fit in self.fits])]
        for name, fit in zip(self.names, self.fits, strict=True):
            if fit.missing:
                found.append(
                    f"{name} has nothing for {', '.join(fit.missing)} of the fused model: it adds nothing there"
                )
            if fit.alone:
                found.append(f"{', '.join(fit.alone)} of {name} go with nothing; only regress makes up for that")
        into = "the target" if self.config.to else self.names[self.found.anchor]
        parameters = sum(p.numel() for p in build(self.target, "meta").parameters())
        found.append(
            f"{' and '.join(self.names)} can be fused by {self.config.settings.method}, into the architecture of {into} "
            f"({self.target.key}, {parameters:,} parameters)"
        )
        return found

    def as_json(self) -> dict[str, Any]:
        """The whole preview as JSON."""
        return {
            "fusable": True,
            "method": self.config.settings.method,
            "anchor": self.found.anchor + 1,
            "target": axis_sizes(self.target),
            "models": [
                {"name": one.name, "key": one.key, "axes": axis_sizes(one.architecture), **asdict(fit)}
                for one, fit in zip(self.found.parents, self.fits, strict=True)
            ],
            "notes": list(self.notes),
        }


def preview(config: FuseConfig, files: Files, data: Dataset | None, progress: Progress) -> Preview:
    """Checks and matches the models.

    Raises:
        WbError: the models cannot be fused with this configuration, as `wb.fusion.job.begin.begin` and `wb.fusion.fuse.fuse` say.
    """
    found = checked(config, files, data, progress)
    architectures = [parent.architecture for parent in found.parents]
    notes = check_together(architectures, [parent.name for parent in found.parents], found.anchor, found.tokenizers)
    images = calibration(config, found.data, architectures)
    if images is not None:
        notes += check_images(images, found.architecture)
    look = _Look(config, found.architecture, images, found.tokenizers[found.anchor])
    fits = []
    with overflow_named():
        reference = look.reference(load(files[found.anchor][1]))
        for i, (name, path) in enumerate(files):
            progress(f"matching {name}", i, len(files))
            fits.append(look.one(load(path), reference, itself=i == found.anchor))
    return Preview(config, found, tuple(fits), (*found.notes, *notes))


@dataclass(frozen=True)
class _Look:
    config: FuseConfig
    like: Architecture
    images: Tensor | None
    tokenizer: str | None

    @property
    def plain(self) -> bool:
        """Whether models are fused as they are, without canonical form."""
        return self.config.settings.method in ("vanilla", "ot")

    def reference(self, anchor: Model) -> Reference:
        """The reference that models are matched to: the anchor, or the anchor resized to the target."""
        anchor = self._formed(anchor)
        if self.config.to is None:
            return Reference(anchor)
        return resized(anchor, in_floating_point(self.config.to), self.images, balance=self._balances)

    def one(self, model: Model, goal: Reference, *, itself: bool) -> Fit:
        """The fit of one model; `itself` says that it is the anchor."""
        model, reference = self._formed(model), goal.model
        settings = self.config.settings
        if self.plain:
            if settings.method == "ot":
                Paper(settings.compared, settings.solver or "sinkhorn", settings.reg)(model, reference, self.images)
            elif model.architecture != reference.architecture:
                raise Unsupported("vanilla averages equal architectures only; take orth, which aligns unequal ones")
            return Fit()
        matching = goal.match(model, self.images, itself=itself)
        placed = place(model, reference, matching.blocks, matching.by)
        used = {mine.name for mine in placed.sublayers.values()}
        return Fit(placed.match, placed.by, _others(model, used), _others(reference, set(placed.sublayers)))

    @property
    def _balances(self) -> bool:
        return self.config.settings.method != "perm"

    def _formed(self, model: Model) -> Model:
        model = adapted(model, self.like, self.tokenizer)
        model = replace(model, architecture=in_floating_point(model.architecture))
        return model if self.plain else canonical(model, balance=self._balances)


def _others(model: Model, known: set[str]) -> tuple[str, ...]:
    return tuple(s.name for s in build(model.architecture, "meta").walk() if s.name not in known)

"""Folding the norms of a model file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from wb.core.errors import BadOption
from wb.core.measures.readings import Reading
from wb.core.system.files import absolute
from wb.export.graph import export
from wb.foreign.reading import load
from wb.jobs.frame.output import MODELS, check_ending, check_free
from wb.jobs.kinds import need_model
from wb.models.counting import count_parameters
from wb.models.feeds import made_up
from wb.models.model import Model, save
from wb.models.passes.base import apply
from wb.models.passes.fold import FoldNorms, foldings


class Folded(NamedTuple):
    """What was folded: into which sub-layers (and `head`), what stays and why, and what was read.

    `difference` is the largest between logits of the model and of the folded one, `parity` that between the latter and its graph.
    """

    model: Model
    files: tuple[Path, ...]
    folded: tuple[str, ...]
    kept: Mapping[str, str]
    parameters: tuple[Reading, Reading]
    difference: Reading
    parity: Reading

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "files": [str(path) for path in self.files],
            "folded": list(self.folded),
            "kept": dict(self.kept),
            "parameters": [one.model_dump(mode="json") for one in self.parameters],
            "difference": self.difference.model_dump(mode="json"),
            "parity": self.parity.model_dump(mode="json"),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """The same in words."""
        before, after = (one.text() for one in self.parameters)
        stays = tuple(f"the norm of {name} stays: it {why}" for name, why in self.kept.items())
        return (
            f"{len(self.folded)} norms folded: {', '.join(self.folded)}",
            *stays,
            f"parameters: {after} (before: {before})",
            f"largest difference of a logit, measured on {self.difference.n} made-up inputs: {self.difference.value:.2g}, of the "
            f"graph {self.parity.value:.2g}",
        )


COMPARED = 16  # inputs


def fold_file(model: Path, out: Path, *, force: bool) -> Folded:
    """Folds the norms of `model` (`wb.models.passes.fold`) and writes it as `out`, with its graph beside it.

    Raises:
        BadArtefact: `model` is no model file.
        BadOption: there is no norm to fold, or an output that is no name for a model, that is `model` or that exists already.
        ExportDiffers: the graph does not compute what the model does.
    """
    files = places(model, out, force=force)
    given = load(model)
    folded, kept = foldings(given.architecture)
    found = apply(FoldNorms(), given)
    parity = export(found, files[0], force=force)
    save(found, out, force=force)
    counts = count_parameters(given.architecture), count_parameters(found.architecture)
    return Folded(found, files, folded, kept, counts, difference(given, found), parity)


def places(model: Path, out: Path, *, force: bool) -> tuple[Path, Path]:
    """The graph and the model file to write, checked before any work.

    Raises:
        BadArtefact: `model` is no model file.
        BadOption: `out` is no name for a model, or `model`; or a file is in the way.
    """
    need_model(model)
    check_ending(out, MODELS)
    if absolute(out) == absolute(model):
        raise BadOption(f"{out} is the model that is given; choose another name")
    files = (out.with_suffix(".onnx"), out)
    for path in files:
        check_free(path, force=force)
    return files


def difference(given: Model, found: Model) -> Reading:
    """The largest difference between logits of two models, in float32 as networks are run."""
    feed = made_up(given.architecture.input.specs(), COMPARED)
    with torch.no_grad():
        before, after = (one.network()(*feed.values()) for one in (given, found))
    return Reading(value=float((after - before).abs().max()), unit="logit", how="measured", n=COMPARED)

"""Growing a model file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from wb.core.measures.readings import Reading
from wb.export.graph import export
from wb.export.refusal import check_exportable
from wb.foreign.reading import load
from wb.fusion.grow.grow import Grow, Report
from wb.jobs.inputs import read_architecture
from wb.jobs.verbs.folding import difference, places
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model, save
from wb.models.passes.base import apply


class Grown(NamedTuple):
    """What came of it: how each axis was grown, what it counts before and after, and what was read.

    `difference` is the largest between logits of the model and of the grown one, `parity` that between the latter and its graph.
    """

    model: Model
    files: tuple[Path, ...]
    ways: Mapping[str, str]
    counts: Mapping[str, tuple[Reading, Reading]]
    difference: Reading
    parity: Reading

    def content(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "files": [str(path) for path in self.files],
            "ways": dict(self.ways),
            "counts": {name: [one.model_dump(mode="json") for one in pair] for name, pair in self.counts.items()},
            "difference": self.difference.model_dump(mode="json"),
            "parity": self.parity.model_dump(mode="json"),
        }

    @property
    def lines(self) -> tuple[str, ...]:
        """The same in words."""
        how = ", ".join(f"{count} {way}" for way, count in Counter(self.ways.values()).items()) or "none"
        counted = (f"{name}: {after.text()} (before: {before.text()})" for name, (before, after) in self.counts.items())
        return (
            f"widths grown: {how}",
            *counted,
            f"largest difference of a logit, measured on {self.difference.n} made-up inputs: {self.difference.value:.2g}, of the "
            f"graph {self.parity.value:.2g}",
            f"`wb train --from {self.files[-1]}` goes on training",
        )


def grow_file(
    model: Path,
    to: Path,
    out: Path,
    *,
    seed: int = 0,
    force: bool = False,
    report: Report = lambda what, done, of: None,
) -> Grown:
    """Grows `model` to the architecture in `to` (`wb.fusion.grow.grow`) and writes it as `out`, with its graph beside it.

    Raises:
        BadArtefact: `model` is no model file, or `to` no architecture.
        BadOption: a target that is not larger or differs in more than sizes, or an output that is no name for a model or exists.
        Unsupported: a width that cannot be grown to without changing the function, or a part that no graph computes.
    """
    files = places(model, out, force=force)
    given = load(model)
    check_exportable(given.architecture)
    found = apply(Grow(read_architecture(to), seed, report), given)
    parity = export(found, files[0], force=force)
    save(found, out, force=force)
    pair = (given.architecture, found.architecture)
    counts = {
        "parameters": (count_parameters(pair[0]), count_parameters(pair[1])),
        "multiply-accumulates": (count_macs(pair[0]), count_macs(pair[1])),
    }
    ways = cast(Mapping[str, str], found.history[-1].arguments["ways"])
    return Grown(found, files, ways, counts, difference(given, found), parity)

"""The front of a search, as a function of `wb.api` returns it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wb.core.measures.metrics import APART
from wb.jobs.calls.results import Model, read_model
from wb.jobs.calls.shown import Shown, Table
from wb.search.judgement.shown import sentences

if TYPE_CHECKING:
    from wb.jobs.verbs.classifier import Classifier
    from wb.search.judgement.record import Judgement
    from wb.search.results.point import FrontPoint


@dataclass(frozen=True, repr=False)
class Front(Shown):
    """The networks of a search that nothing beats, by latency; `front[0]` is the graph of the fastest."""

    folder: Path
    points: tuple[FrontPoint, ...]
    judgement: Judgement | None = None
    """What there is to say of the requirements; `front.judgement.met` tells whether a network meets all."""

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, number: int) -> Classifier:
        from wb.jobs.verbs.classifier import Classifier

        return Classifier(self.folder / self.points[number].onnx)

    def model(self, number: int) -> Model:
        """The model file of one of them; of one in 8 bits, the network in floating point that its graph was made from."""
        return read_model(self.folder / self.points[number].model)

    def table(self) -> Table:
        """One row a network."""
        costs = ("latency", "size", "macs", "params", *APART)
        there = [name for name in costs if all(name in point.values for point in self.points)]
        columns = (*dict.fromkeys(point.quality for point in self.points), *there)
        rows = [
            (point.title, *(point.values[name].text() for name in columns), point.test.text()) for point in self.points
        ]
        lines = [] if self.judgement is None else sentences(self.judgement)
        return Table(str(self.folder), ("id", *columns, "test"), rows, lines)

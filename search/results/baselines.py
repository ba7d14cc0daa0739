"""`baselines.json`: known networks that were trained beside a search, which its figure shows as points with their names.

Beside texts there is also what a linear classifier makes of their words, without a network, which is a line of the figure.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter

from wb.core.measures.metrics import METRICS, QUALITIES
from wb.core.measures.readings import Reading
from wb.core.records import Frozen
from wb.core.system.files import write_text
from wb.search.results.stored import stored


class Baseline(Frozen):
    """A known network and its readings, of the same kinds as those of the front: `values` by metric, `test` on the test split.

    Latencies are in the run's own units: ratios to the reference graph times the run's pace.
    """

    name: Annotated[str, Field(min_length=1, max_length=80)]
    values: Mapping[str, Reading]
    test: Reading | None = None
    network: bool = True  # or it is something else that answers, and has no costs

    def text(self) -> str:
        """Name and readings in a line."""
        order = [*QUALITIES, "latency", "size", "macs", "params"]
        told = [f"{METRICS[name].title} {self.values[name].text()}" for name in order if name in self.values]
        test = [] if self.test is None else [f"on the test split {self.test.text()}"]
        what = "known network" if self.network else "no network, but"
        return f"{what} {self.name}: {', '.join([*test, *told])}"


_BASELINES = TypeAdapter(tuple[Baseline, ...])


def write_baselines(path: Path, baselines: Sequence[Baseline]) -> None:
    """Writes `baselines.json`, atomically."""
    write_text(path, json.dumps([one.model_dump(mode="json") for one in baselines], indent=2) + "\n")


def read_baselines(path: Path) -> tuple[Baseline, ...]:
    """The content of `baselines.json`; empty if there is none.

    Raises:
        BadArtefact: it is damaged.
    """
    return stored(path, _BASELINES, "the known networks of a run") or ()

"""What a check for an NPU found, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wb.export.npu.qnn import SOCS, Simulation
from wb.jobs.calls.shown import Shown, Table

OTHER = 0.3  # of the largest output: it computes something else
NO_TIME = "The simulator says nothing of time; that is for the device itself"
ROWS = (
    "taken",
    "nodes on the NPU",
    "nodes on the CPU",
    "differs from the same file on the CPU",
    "differs from the file as it is",
    "same answers as the file as it is",
    "compiled file",
)


class Tried(NamedTuple):
    """A precision: its simulation, outputs (runs, ...) of the `same` file and of that `as_is` on the CPU, and bytes compiled."""

    precision: str
    simulation: Simulation
    same: NDArray[np.float32]
    as_is: NDArray[np.float32]
    size: int | None

    @property
    def answers(self) -> tuple[int, int] | None:
        """How many largest scores are at the same place as in the file as it is, and of how many; None without such runs.

        Scores of which one is no number have no largest.
        """
        given = self.simulation.outputs
        if given is None:
            return None
        found, expected = (one.reshape(-1, one.shape[-1]) for one in (given, self.as_is))
        numbers = np.isfinite(found).all(-1) & np.isfinite(expected).all(-1)
        return int((numbers & (found.argmax(-1) == expected.argmax(-1))).sum()), len(expected)

    def error(self, expected: NDArray[np.float32]) -> float | None:
        """The largest difference over the largest of what is expected; None without runs, or where some output is no number."""
        given = self.simulation.outputs
        if given is None or not (np.isfinite(given).all() and np.isfinite(expected).all()):
            return None
        apart = np.abs(np.subtract(given, expected, dtype=np.float64)).max()
        return float(apart / max(np.abs(expected).max(), 1e-12))

    @property
    def other(self) -> bool:
        """Whether runs gave something else than the same file on the CPU does, or no numbers."""
        error = self.error(self.same)
        return self.simulation.outputs is not None and (error is None or error > OTHER)

    def _share(self, expected: NDArray[np.float32]) -> str:
        error = self.error(expected)
        if error is None:
            return "not told" if self.simulation.outputs is None else "not a number"
        return f"{error:.2g}"

    def column(self) -> list[str]:
        """What was found, as `ROWS`."""
        found, answers = self.simulation, self.answers
        left = ", ".join(f"{count} {operator}" for operator, count in sorted(found.left.items()))
        ends = " but for its inputs and outputs" if found.left else ""
        taken = f"whole{ends}" if found.whole else "in part" if found.taken else "nothing"
        return [
            f"failed: {taken}" if found.failure and found.nodes else "refused" if found.failure else taken,
            str(found.taken) if found.nodes else "not told",
            left or ("none" if found.nodes else "not told"),
            *(self._share(one) for one in (self.same, self.as_is)),
            "not told" if answers is None else f"{answers[0]} of {answers[1]}",
            "none" if self.size is None else f"{self.size / 1e6:.3g} MB",
        ]

    def content(self) -> Mapping[str, Any]:
        """The same as JSON."""
        found = self.simulation
        return {
            "whole": found.whole and not found.failure,
            "nodes": found.nodes,
            "fell_back": found.left,
            "error": self.error(self.same),
            "error_as_is": self.error(self.as_is),
            "same_answers": None if self.answers is None else self.answers[0],
            "answers": None if self.answers is None else self.answers[1],
            "compiled_bytes": self.size,
            "failure": found.failure or None,
        }


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A network on the NPU of `soc`: what `release` of the compiler makes of it, on `examples`; `kept` is the compiled file."""

    source: str
    soc: str
    release: str
    examples: str
    tried: tuple[Tried, ...]
    kept: Path | None

    @property
    def refused(self) -> bool:
        """Whether nothing could be compiled and run."""
        return all(one.simulation.failure or not one.simulation.taken for one in self.tried)

    def table(self) -> Table:
        """A column for each precision."""
        columns = [one.column() for one in self.tried]
        rows = [(what, *(column[i] for column in columns)) for i, what in enumerate(ROWS)]
        sold_as = SOCS[self.soc].sold_as
        about = f"{self.soc} ({sold_as}), onnxruntime-qnn {self.release}, simulated on {self.examples}"
        of = "Differences are the largest, as shares of the largest output; nodes are counted before they are fused"
        lines = (*self.advice(), about, f"{of}. {NO_TIME}.")
        return Table(self.source, ("what", *(one.precision for one in self.tried)), rows, lines)

    def advice(self) -> list[str]:
        """What is wrong, if anything, and what to do about it."""
        found = []
        for one in self.tried:
            left = sum(one.simulation.left.values())
            if one.simulation.failure:
                found.append(f"{one.precision}: {one.simulation.failure}")
            elif not one.simulation.taken:
                found.append(f"{one.precision}: the NPU takes none of its operators; all would run on the processor")
            elif not one.simulation.whole:
                share = f"{left} of {left + one.simulation.taken} nodes"
                found.append(f"{one.precision}: {share} fall back to the processor, which costs a copy each way")
            if one.other:
                numbers = one.error(one.same) is not None
                wrong = (
                    "it computes something else there than here" if numbers else "some of its outputs are no numbers"
                )
                found.append(f"{one.precision}: {wrong}; do not deploy it so")
        return found

    def content(self) -> Mapping[str, Any]:
        """The same as JSON."""
        return {
            "source": self.source,
            "npu": "qnn",
            "soc": self.soc,
            "compiler": self.release,
            "examples": self.examples,
            "precisions": {one.precision: one.content() for one in self.tried},
            "compiled": None if self.kept is None else str(self.kept),
            "advice": self.advice(),
        }

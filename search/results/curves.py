"""`curves.json`: the mean loss of every epoch, of the supernet and of each finalist that was fine-tuned."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field, FiniteFloat, TypeAdapter

from wb.core.errors import BadArtefact
from wb.core.system.files import write_text
from wb.search.results.stored import stored

if TYPE_CHECKING:
    from wb.training.fit import Report

SUPERNET = "supernet"  # its name among the curves; a finalist's is its number
Curve = Sequence[tuple[int, float]]  # (epoch, mean loss), the first epoch is 1
_CURVES = TypeAdapter(dict[str, tuple[tuple[Annotated[int, Field(ge=1)], FiniteFloat], ...]])


class Curves:
    """Keeps the losses of a run in the file at `path`, which is written after every epoch, so that an end loses none."""

    def __init__(self, path: Path, guard: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Within `guard` no other process writes the file."""
        self._path, self._guard = path, guard

    def of(self, name: str, also: Report | None = None) -> Report:
        """What `wb.training.fit.fit` reports to: it notes the loss of each epoch under `name`, and passes it on to `also`.

        Epochs from that one on are forgotten, so that a training that was interrupted or done again has each once.
        """

        def report(epoch: int, epochs: int, loss: float) -> None:
            if math.isfinite(loss):  # that of a checkpoint of an older version is unknown
                with self._guard():
                    self._add(name, epoch, loss)
            if also is not None:
                also(epoch, epochs, loss)

        return report

    def epochs(self, name: str) -> int:
        """How many epochs of `name` have ended; 0 where nothing is known."""
        with suppress(BadArtefact):
            return max((epoch for epoch, _ in read_curves(self._path).get(name, ())), default=0)
        return 0

    def _add(self, name: str, epoch: int, loss: float) -> None:
        found: dict[str, Curve] = {}
        with suppress(BadArtefact):  # a damaged file is written anew
            found = dict(read_curves(self._path))
        before = (pair for pair in found.get(name, ()) if pair[0] < epoch)
        found[name] = (*before, (epoch, float(f"{loss:.6g}")))
        write_text(self._path, json.dumps(found) + "\n")


def read_curves(path: Path) -> Mapping[str, Curve]:
    """The content of `curves.json` by name; empty if there is none, as in runs of older versions.

    Raises:
        BadArtefact: it is damaged.
    """
    return stored(path, _CURVES, "the losses of a run's training") or {}

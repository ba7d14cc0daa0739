"""What texts cost a network that continues them: the nats of their tokens, each foreseen from those before it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wb.core.measures.readings import Reading
from wb.core.specs import NO_LABEL
from wb.jobs.calls.shown import Shown, Table
from wb.tasks.base import Grades
from wb.tasks.next import NEXT

_LONGEST = 60  # characters of a text in a table


@dataclass(frozen=True, repr=False)
class Costs(Shown):
    """What each of `texts` costs the network in `file`: `nats` a token in the mean, (n,), not a number where none is foreseen.

    `following` (n, tokens) are the tokens that are foreseen, `NO_LABEL` where none is; `cut` texts are longer than it reads.
    """

    file: Path
    texts: tuple[str, ...]
    following: NDArray[np.integer]
    nats: NDArray[Any]
    noun: str = "text"
    cut: int = 0

    @property
    def tokens(self) -> NDArray[np.integer]:
        """How many tokens of each text are foreseen, (n,)."""
        counts: NDArray[np.integer] = (self.following != NO_LABEL).sum(axis=1)
        return counts

    @cached_property
    def reading(self) -> Reading:
        """The perplexity of all tokens together, of which there is at least one."""
        some = self.tokens > 0
        return NEXT.reading(Grades(self.nats[some], self.following[some]), "cpu")

    def table(self) -> Table:
        """One row a text."""
        rows = [
            (_short(text), str(count), f"{nats:.4f}" if count else "–", f"{np.exp(nats):.4g}" if count else "–")
            for text, count, nats in zip(self.texts, self.tokens, self.nats, strict=True)
        ]
        of = f"of {len(self.texts):,} texts"
        notes = [f"perplexity {self.reading.text()}: {self.reading.note}"]
        notes += [f"{self.cut:,} {of} are longer than the network reads: the rest is cut"] if self.cut else []
        return Table(str(self.file), (self.noun, "tokens", "nats a token", "perplexity"), rows, notes)

    def content(self) -> dict[str, Any]:
        """The same as JSON."""
        texts = [
            {self.noun: text, "tokens": int(count), "nats": float(nats) if count else None}
            for text, count, nats in zip(self.texts, self.tokens, self.nats, strict=True)
        ]
        return {"model": str(self.file), "ppl": self.reading.model_dump(), f"{self.noun}s": texts, "cut": self.cut}


def cost(scores: NDArray[Any], following: NDArray[np.integer]) -> NDArray[Any]:
    """The nats that a text's tokens cost in the mean, (b,), from scores (b, tokens, vocabulary); zero where none is foreseen.

    One text after the other, as exact scores take several times the memory of those that are given.
    """
    found = np.zeros(len(scores))
    for i, behind in enumerate(following):
        tokens = int((behind != NO_LABEL).sum())  # they come first
        if tokens:
            found[i] = NEXT.grade(scores[i : i + 1, :tokens], behind[None, :tokens]).each[0]
    return found


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

"""The rungs of a search: how many candidates are trained alone, for how many epochs, before the finalists are in full.

Source: Jamieson and Talwalkar, "Non-stochastic best arm identification" (successive halving), 2016.
Differs: every rung starts from the supernet's weights; who climbs is chosen along the front, not by quality alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from typing import NamedTuple

from wb.core.commands.option import listed
from wb.core.errors import BadOption

NONE, AUTO = "none", "auto"
FORM = "write for example 60x1,20x3: 60 candidates with 1 epoch each, then the best 20 of them with 3"
FIRST, LAST = 4, 2  # candidates of the first and the last rung for each finalist
EPOCHS = (1, 3)
WORTH = 2  # times the epochs of a rung that finalists have at least; else training them in full is as cheap


class Rung(NamedTuple):
    """So many candidates are trained alone for so many epochs."""

    candidates: int
    epochs: int

    def __str__(self) -> str:
        return f"{self.candidates}x{self.epochs}"


def parse_rungs(text: str) -> tuple[Rung, ...]:
    """`60x1,20x3` -> two rungs; `none` -> no rung. `auto` has to be settled before (`automatic`).

    Raises:
        BadOption: another form, or a rung that is not smaller and longer than the one before.
    """
    if text == NONE:
        return ()
    rungs = []
    for part in listed(text):
        match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", part)
        if match is None:
            raise BadOption(f"{part!r} is no rung; {FORM}, or none")
        rungs.append(Rung(int(match[1]), int(match[2])))
    if not rungs:
        raise BadOption(f"{text!r} has no rung; {FORM}, or none")
    for below, above in itertools.pairwise(rungs):
        if above.candidates >= below.candidates or above.epochs <= below.epochs:
            raise BadOption(f"rung {above} does not have fewer candidates and more epochs than {below}; {FORM}")
    return tuple(rungs)


def rungs_text(rungs: Sequence[Rung]) -> str:
    """The inverse of `parse_rungs`."""
    return ",".join(map(str, rungs)) or NONE


def automatic(trials: int, finalists: int, finetune: int) -> tuple[Rung, ...]:
    """Rungs for so many trials and finalists that are fine-tuned for `finetune` epochs.

    None where it would cost about as much to fine-tune every candidate of the rung in full, or to skip nobody.
    """
    counts = (min(trials, FIRST * finalists), LAST * finalists)
    rungs = [Rung(n, epochs) for n, epochs in zip(counts, EPOCHS, strict=True) if WORTH * epochs <= finetune]
    return tuple(
        rung
        for i, rung in enumerate(rungs)
        if finalists < rung.candidates < (rungs[i - 1].candidates if i else trials + 1)
    )

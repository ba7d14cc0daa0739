"""Hold-out split of calibration inputs: ranges are fitted on one part, and the error is measured on the other.

An error measured on the fitted inputs says little: ranges of a single input fit it perfectly, and others not at all.
"""

from __future__ import annotations

import numpy as np

from wb.compress.ptq.calibration import Inputs, number_of

FEW = 32  # calibration inputs; with fewer, ranges seldom hold for other inputs
READ = 256  # held-out inputs that the error is measured on, at most
_SHARE = 4  # one of so many inputs is held out if all of them are wanted for calibration


def parted(inputs: Inputs, most: int, batch: int, seed: int) -> tuple[Inputs, Inputs | None]:
    """At most `most` of `inputs` for calibration, and held-out ones for measuring the error, drawn without repetition.

    Both are whole batches of the graph. The second is None if there is only one batch.
    """
    order = np.random.default_rng(seed).permutation(number_of(inputs))
    every, wanted = len(order) // batch, most // batch
    out = min(READ // batch or 1, max(every - wanted, every // _SHARE, 1)) if every > 1 else 0
    used = min(wanted, every - out)
    return _select(inputs, order[: used * batch]), _select(inputs, order[len(order) - out * batch :]) if out else None


def drawn(inputs: Inputs, most: int, seed: int) -> Inputs:
    """At most `most` of `inputs`, drawn at random without repetition, because files are often ordered by class."""
    return _select(inputs, np.random.default_rng(seed).permutation(number_of(inputs))[:most])


def _select(inputs: Inputs, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Inputs:
    return {name: values[rows] for name, values in inputs.items()}

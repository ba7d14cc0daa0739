"""Calibration inputs in two parts: those that ranges are fitted to, and those that the error is read on.

An error that is read on what was fitted says little: with one input ranges fit it perfectly, and others not at all.
"""

from __future__ import annotations

import numpy as np

from wb.compress.ptq.calibration import Inputs, number_of

FEW = 32  # calibration inputs: with fewer, ranges seldom hold for others
READ = 256  # inputs that an error is read on, at most
_SHARE = 4  # one in so many is kept out where there are no more than are wanted for calibration


def parted(inputs: Inputs, most: int, batch: int, seed: int) -> tuple[Inputs, Inputs | None]:
    """At most `most` of `inputs` to calibrate on, and others to read the error on, drawn without repetition.

    Both are whole batches of the graph's. The second is None where there is only one batch.
    """
    order = np.random.default_rng(seed).permutation(number_of(inputs))
    every, wanted = len(order) // batch, most // batch
    out = min(READ // batch or 1, max(every - wanted, every // _SHARE, 1)) if every > 1 else 0
    used = min(wanted, every - out)
    return _taken(inputs, order[: used * batch]), _taken(inputs, order[len(order) - out * batch :]) if out else None


def drawn(inputs: Inputs, most: int, seed: int) -> Inputs:
    """At most `most` of `inputs`, without repetition: files are often in the order of their classes."""
    return _taken(inputs, np.random.default_rng(seed).permutation(number_of(inputs))[:most])


def _taken(inputs: Inputs, rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Inputs:
    return {name: values[rows] for name, values in inputs.items()}

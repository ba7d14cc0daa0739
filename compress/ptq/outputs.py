"""What a graph gives for some inputs, and how far a quantized one is from the one in floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.ptq.calibration import Inputs, batch_of, first, number_of
from wb.core.errors import BadArtefact, BadData
from wb.export.foreign.opening import open_graph
from wb.export.run import Runner
from wb.hardware.device import Device
from wb.tasks.classes import CLASSES

Kind = Literal["KL divergence", "relative squared error"]


@dataclass(frozen=True)
class Error:
    """How far outputs are from those in floating point.

    `divergence` is the mean over examples of the Kullback-Leibler divergence (nats) of the class probabilities from those in
    floating point; where outputs are no class scores, the squared error over the squared norm. `sqnr` is the signal to
    quantization noise ratio of the outputs in dB, infinite where they are equal; `agreement` the share of examples with
    the same first class, None where there are none.
    """

    divergence: float
    kind: Kind
    sqnr: float
    agreement: float | None


def outputs(graph: onnx.ModelProto | Path, inputs: Inputs, device: Device) -> NDArray[np.float32]:
    """The output `logits`, or the first, for every example: (n, ...).

    They are run one by one, so that the outputs of two graphs compare, one of which may quantize its activations as they come;
    by the graph's batch where that is fixed, without what remains.

    Raises:
        BadArtefact: as `wb.export.run.Runner`, or outputs that are not finite.
        BadData: too few inputs.
    """
    run = Runner(graph, device)
    batch = batch_of(open_graph(graph) if isinstance(graph, Path) else graph)
    whole = number_of(inputs) - number_of(inputs) % batch
    if not whole:
        raise BadData(f"{number_of(inputs)} examples for a graph that takes {batch} at once; give more")
    found = run(first(inputs, whole), batch)
    if not np.isfinite(found).all():
        raise BadArtefact(f"the output {run.output!r} of {run.what} is not finite; check its export")
    return found


def compare(floating: NDArray[np.float32], quantized: NDArray[np.float32]) -> Error:
    """How far `quantized` is from `floating`, both (n, ...) of the same shape. Class scores are (n, classes), classes >= 2.

    Raises:
        BadData: the shapes differ.
    """
    if floating.shape != quantized.shape:
        raise BadData(
            f"outputs {list(quantized.shape)} to compare with {list(floating.shape)}; give those of the same inputs"
        )
    signal, other = floating.astype(np.float64), quantized.astype(np.float64)
    power, noise = float((signal**2).sum()), float(((other - signal) ** 2).sum())
    sqnr = math.inf if noise == 0 else 10 * math.log10(power / noise) if power else -math.inf
    if signal.ndim != 2 or signal.shape[1] < 2:
        return Error(noise / power if power else noise, "relative squared error", sqnr, None)
    divergence = float(CLASSES.divergence(signal, other).mean())
    return Error(max(0.0, divergence), "KL divergence", sqnr, CLASSES.agreement(signal, other))

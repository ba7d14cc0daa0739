"""Outputs of graphs, and the error of a quantized graph: how far its outputs are from those in floating point."""

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
    """The error of quantized outputs against those in floating point.

    `divergence` is the Kullback-Leibler divergence (nats) of the class probabilities from those in floating point, a mean over
    examples; if the outputs are not class scores, the squared error over the squared norm. `sqnr` is the signal to
    quantization noise ratio of the outputs in dB, infinite if they are equal. `agreement` is the share of examples with the
    same top class, None without classes.
    """

    divergence: float
    kind: Kind
    sqnr: float
    agreement: float | None


def outputs(graph: onnx.ModelProto | Path, inputs: Inputs, device: Device) -> NDArray[np.float32]:
    """Runs the graph on `inputs` and returns its output `logits`, or else its first output, (n, ...).

    Examples are run one by one, because dynamic quantization of activations uses one range for a whole batch. A graph with a
    fixed batch is run on whole batches, and the remaining examples are left out.

    Raises:
        BadArtefact: the graph does not load or fails, or its outputs are not finite.
        BadData: there are too few inputs.
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


def compare(floating: NDArray[np.float32], quantized: NDArray[np.float32], *, tokens: bool = False) -> Error:
    """The error of `quantized` against `floating`, both (n, ...). Outputs (n, classes) with two or more are class scores.

    Where there are scores for each of some `tokens`, (n, N, vocabulary), every token counts as an example.

    Raises:
        BadData: the shapes differ.
    """
    if floating.shape != quantized.shape:
        raise BadData(
            f"outputs {list(quantized.shape)} to compare with {list(floating.shape)}; give those of the same inputs"
        )
    signal, other = floating.astype(np.float64), quantized.astype(np.float64)
    if tokens:
        signal, other = signal.reshape(-1, signal.shape[-1]), other.reshape(-1, other.shape[-1])
    power, noise = float((signal**2).sum()), float(((other - signal) ** 2).sum())
    sqnr = math.inf if noise == 0 else 10 * math.log10(power / noise) if power else -math.inf
    if signal.ndim != 2 or signal.shape[1] < 2:
        return Error(noise / power if power else noise, "relative squared error", sqnr, None)
    divergence = float(CLASSES.divergence(signal, other).mean())
    return Error(max(0.0, divergence), "KL divergence", sqnr, CLASSES.agreement(signal, other))

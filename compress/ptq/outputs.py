"""Outputs of graphs, and the error of a quantized graph: how far its outputs are from those in floating point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from wb.compress.ptq.calibration import Inputs, batch_of, number_of
from wb.core.errors import BadArtefact, BadData
from wb.export.foreign.opening import open_graph
from wb.hardware.device import Device, said, session
from wb.hardware.watch import Watch

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
    proto = open_graph(graph) if isinstance(graph, Path) else graph
    loaded = session(graph if isinstance(graph, Path) else graph.SerializeToString(), device)
    names = [output.name for output in loaded.get_outputs()]
    out = "logits" if "logits" in names else names[0]
    batch = batch_of(proto)
    parts: list[NDArray[Any]] = []
    what = str(graph) if isinstance(graph, Path) else "the graph"
    with Watch(loaded, what) as watch:
        for start in range(0, number_of(inputs) - batch + 1, batch):
            try:
                (part,) = watch.run([out], {name: values[start : start + batch] for name, values in inputs.items()})
            except BadArtefact:
                raise
            except Exception as error:  # the runtime's exceptions have no common base class
                raise BadArtefact(f"{what} fails on its inputs: {said(error)}; export it again") from error
            if not isinstance(part, np.ndarray) or part.dtype.kind not in "fiub":
                raise BadArtefact(f"{what} gives {out!r}, which are no numbers; expected a tensor as its first output")
            parts.append(np.asarray(part, dtype=np.float32))
    if not parts:
        raise BadData(f"{number_of(inputs)} examples for a graph that takes {batch} at once; give more")
    found: NDArray[np.float32] = np.concatenate(parts) if parts[0].ndim else np.stack(parts)
    if not np.isfinite(found).all():
        raise BadArtefact(f"the graph's output {out!r} is not finite; check its export")
    return found


def compare(floating: NDArray[np.float32], quantized: NDArray[np.float32]) -> Error:
    """The error of `quantized` against `floating`, both (n, ...). Outputs (n, classes) with two or more are class scores.

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
    log_p, log_q = _log_softmax(signal), _log_softmax(other)
    divergence = float((np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean())
    agreement = float((signal.argmax(axis=1) == other.argmax(axis=1)).mean())
    return Error(max(0.0, divergence), "KL divergence", sqnr, agreement)


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(axis=1, keepdims=True)
    exact: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return exact

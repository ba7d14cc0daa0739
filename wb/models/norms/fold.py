"""Batch norms that the linear maps behind them take over: outside of training each is one factor and one shift per channel.

Source: Guo et al., "SLAB", 2024, section 3.2, of re-parameterized ones: W <- W diag(a), b <- b + W c, for a norm a x + c.
Limits: readers without biases, or with weights of one or two bits, cannot take one over, and neither can an operator with
something in front of its readers, or one without any. In a post-norm network norms lie in the stream.
"""

from __future__ import annotations

from torch import nn

from wb.core.precision import TRAINED
from wb.models.layers.convolution import BatchNormed
from wb.models.network import Network
from wb.models.walk import Sublayer


def why_not(at: Sublayer) -> str | None:
    """Why the readers of a sub-layer cannot take over the batch norm in front of them, in words; None where they can."""
    operator = at.operator
    if not at.wiring.folds:
        return "lies in the stream"
    if not (operator.readers and operator.plain):
        return "has no linear maps right behind it"
    if not all(operator.readers.values()):
        return "is read by linear maps without biases"
    if any(operator.precision(name) in TRAINED for name in operator.readers):
        return "is read by weights of one or two bits"
    return None


def foldable(at: Sublayer) -> bool:
    """Whether there is a batch norm in front of a sub-layer which its readers can take over."""
    norm: nn.Module = at.norm
    return isinstance(norm, BatchNormed) and why_not(at) is None


def fold(at: Sublayer) -> None:
    """Lets the readers of a sub-layer take over its norm, in place; the norm is still to be taken away."""
    norm: nn.Module = at.norm
    if isinstance(norm, BatchNormed):
        scale, shift = norm.affine("", norm.eps)
        for name, bias in at.operator.readers.items():
            weight = at.operator.get_parameter(name)
            at.operator.get_parameter(str(bias)).add_(weight @ shift)
            weight.mul_(scale)


def head_foldable(network: Network) -> bool:
    """Whether there is a batch norm in front of the head which that can take over: pooling is a mean or a choice of tokens."""
    norm: nn.Module | None = network.norm
    rounded = network.architecture.head.precision in TRAINED
    return isinstance(norm, BatchNormed) and all(network.answer.readers.values()) and not rounded


def fold_last(network: Network) -> None:
    """Lets the head take over the norm in front of it, in place; the norm is still to be taken away."""
    norm: nn.Module | None = network.norm
    if isinstance(norm, BatchNormed):
        scale, shift = norm.affine("", norm.eps)
        for name, bias in network.answer.readers.items():
            weight = network.get_parameter(name)
            network.get_parameter(str(bias)).add_(weight @ shift)
            weight.mul_(scale)

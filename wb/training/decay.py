"""Which parameters decay: linear maps and convolutions; not gains, shifts, biases, scales, positions and class tokens."""

from __future__ import annotations

from torch import nn

from wb.models.join import JoinModule
from wb.models.network import Network
from wb.models.norm import NormModule
from wb.models.operator import OperatorModule, PartModule

_MAPS = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.modules.conv._ConvNd)


def decayed(module: nn.Module) -> frozenset[str]:
    """The names of the parameters of `module` that decay.

    A network's own say what they are by their declarations (`wb.models.operator`); of other modules the matrices of torch's
    linear layers and convolutions decay.
    """
    found = set()
    for prefix, part in module.named_modules():
        local = _of_part(part)
        found |= {f"{prefix}.{name}" if prefix else name for name in local}
    return frozenset(found)


def _of_part(part: nn.Module) -> set[str]:
    match part:
        case Network():
            return set(part.answer.readers)
        case NormModule() | JoinModule():
            return set()
        case OperatorModule():
            return set(part.outputs)
        case PartModule():  # stems, merges
            return {name for name in part.axes if getattr(part, name).dim() > 1}
        case _ if isinstance(part, _MAPS):
            return {name for name, weight in part.named_parameters(recurse=False) if weight.dim() > 1}
        case _:
            return set()

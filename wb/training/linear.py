"""Which parameters are linear maps and convolutions: those decay; not gains, shifts, biases, scales, positions, class tokens."""

from __future__ import annotations

from torch import nn

from wb.models.layers.operator import OperatorModule, PartModule
from wb.models.network import Network
from wb.models.norms.base import NormModule

_MAPS = (nn.Linear, nn.Bilinear, nn.MultiheadAttention, nn.RNNBase, nn.modules.conv._ConvNd)


def decayed(module: nn.Module) -> frozenset[str]:
    """The names of the parameters of `module` that decay.

    A network's own say what they are by their declarations (`wb.models.layers.operator`); of other modules the
    matrices of torch's linear layers and convolutions decay.
    """
    heads = set(module.answer.maps) if isinstance(module, Network) else set()
    tables = {f"{name}.{local}" for name, part in module.named_modules() for local in _tables(part)}
    return frozenset(_linear(module)) | heads | tables


def matrices(module: nn.Module) -> dict[str, int]:
    """The parameters of `module` that are one matrix each, and how many of their leading dimensions are its outputs.

    Those that decay, without the head's and without filters of single channels. Of a module that is not ours the last linear
    layer is the head.
    """
    found = _linear(module)
    if not isinstance(module, Network):
        last = [f"{name}.weight".lstrip(".") for name, part in module.named_modules() if isinstance(part, nn.Linear)]
        found = {name: outputs for name, outputs in found.items() if name not in last[-1:]}
    return {name: outputs for name, outputs in found.items() if not _single(module.get_parameter(name))}


def _tables(part: nn.Module) -> list[str]:
    """Those that it has: some stems have a table only of some architectures."""
    return [name for name in part.looked_up if name in part.axes] if isinstance(part, PartModule) else []


def _single(weight: nn.Parameter) -> bool:
    return weight.dim() == 4 and weight.shape[1] == 1


def _linear(module: nn.Module) -> dict[str, int]:
    """All linear maps but the head of ours -> how many leading dimensions are outputs."""
    found: dict[str, int] = {}
    for prefix, part in module.named_modules():
        found |= {f"{prefix}.{name}" if prefix else name: outputs for name, outputs in _of_part(part).items()}
    return found


def _of_part(part: nn.Module) -> dict[str, int]:
    match part:
        case NormModule():
            return {}
        case OperatorModule():
            return part.outputs
        case PartModule():  # stems, merges, joins
            return {n: 1 for n in part.axes if getattr(part, n).dim() > 1 and n not in part.looked_up}
        case _ if isinstance(part, _MAPS):
            return {name: 1 for name, weight in part.named_parameters(recurse=False) if weight.dim() > 1}
        case _:
            return {}

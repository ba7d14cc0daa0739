"""The model that a choice of alternatives makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from wb.compress.depth.drop import without
from wb.models.axes import Map
from wb.models.model import Model, remap_model
from wb.models.network import skeleton
from wb.search.alternatives.option import NONE, Option


class Alternative(NamedTuple):
    """An option, and the parameters of its own by local names."""

    option: Option
    weights: Mapping[str, Tensor]


Chosen = Mapping[str, Alternative]  # by slot


def combined(model: Model, chosen: Chosen) -> Model:
    """`model` with the chosen alternatives in the place of its sub-layers; those that are not named stay.

    Alternatives that have to be fitted only are taken with what the others do to them left out of account.
    """
    maps: dict[str, Map] = {}
    own: dict[str, Tensor] = {}
    others = [slot for slot, (option, _) in chosen.items() if option.mixer is not None]
    walk = {at.name: at for at in skeleton(model.architecture).walk()}
    for slot, (option, weights) in chosen.items():
        maps |= option.maps
        own |= {f"{walk[slot].prefix}.{name}": weight for name, weight in weights.items()}
    for slot, (option, _) in chosen.items():
        if option.name == NONE:
            model = without(model, slot)
    if not own:
        return model
    mapped = remap_model(model, maps) if maps else model
    architecture, weights = mapped.architecture, dict(mapped.weights)
    for slot in others:
        architecture = chosen[slot].option.applied(architecture)
        weights = {name: w for name, w in weights.items() if not name.startswith(f"{walk[slot].prefix}.")}
    shapes = {name: p.shape for name, p in skeleton(architecture).named_parameters()}
    weights |= {name: weight.reshape(shapes[name]).clone() for name, weight in own.items()}
    return replace(mapped, architecture=architecture, weights=weights)

"""Other mixers in the place of a mixer: which can be there, and how one begins.

Another mixer begins with the weights of the one that it replaces, where names and axes are the same.

Source: shared projections as in this workbench's supernets.
Limits: no batch norms, on either side. Windows do not shift.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import ValidationError

from wb.core.architecture import explain
from wb.core.records import Mixer, dims
from wb.models.block import build_operator
from wb.models.layers.operator import OperatorModule
from wb.models.walk import Sublayer
from wb.spaces.operators import OFFERED, squared

SAME = "is what is there"


def like(at: Sublayer, kind: str, given: Mapping[str, object] | None = None) -> Mixer | str:
    """Another mixer in the place of a sub-layer, or why there can be none, in words.

    It has the fields that are `given`, and else those that what is there has too: widths, a scale.
    """
    record, have, layout = OFFERED[kind], at.operator.record, at.operator.layout
    both = {name: getattr(have, name) for name in record.model_fields if name != "kind" and hasattr(have, name)}
    fields = both | dict(given or {})
    missing = [n for n in dims(record) if record.model_fields[n].is_required() and n not in fields]
    if record is type(have) and not given:
        return SAME
    if (lack := record.lacks(layout)) is not None:
        return lack
    if missing:
        return f"has no {' and no '.join(missing)}, which what is there does not say"
    if record.normed != at.operator.record.normed:
        return "has its norms elsewhere"
    try:
        found: Mixer = squared(record.model_validate(fields), layout)
    except ValidationError as error:
        return f"cannot be so ({explain(error)})"
    return found.refuses(layout) or (SAME if found == have else found)


def started(at: Sublayer, mixer: Mixer, seed: int) -> OperatorModule:
    """The other mixer with the weights that it shares with what is there; the rest is initial, drawn from the seed."""
    operator = empty(at, mixer)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        operator.reset()
        own = dict(at.operator.named_parameters())
        for name, weight in operator.named_parameters():
            weight.requires_grad_(False)
            if name in own and own[name].shape == weight.shape and at.operator.axes[name] == operator.axes[name]:
                weight.copy_(own[name])
    return operator


def empty(at: Sublayer, mixer: Mixer) -> OperatorModule:
    """The module of a mixer in the place of a sub-layer, for inference, without values."""
    return build_operator(mixer, at.operator.sizes["embed"], at.operator.layout).eval()

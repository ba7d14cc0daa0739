"""Other mixers in the place of a mixer: a cheaper one that is taught to give what the sub-layer gave.

Another mixer begins with the weights of the one that it replaces, where names and axes are the same, is trained for some steps
by itself, and then loses heads like any alternative, its writer fitted in closed form.

Source: local distillation as in Bercovich et al., "Puzzle", 2024, https://arxiv.org/abs/2411.19146; shared projections as in
this workbench's supernets.
Limits: mixers that the layout of the tokens allows, that have no other widths without a default than the one that is there, and
one writer, which reads heads; no batch norms. Windows do not shift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wb.compress.nvit.cost import alone, pieces
from wb.core.architecture import Architecture
from wb.core.records import Mixer, dims
from wb.models.axes import Select, remap
from wb.models.block import class_at
from wb.models.counting import count_macs
from wb.models.layers.operator import OperatorModule
from wb.models.walk import Sublayer
from wb.search.alternatives.fit import Writer
from wb.search.alternatives.option import Option, Size, name_of, unit_of, with_mixer
from wb.spaces.columnar.presets import AUTO
from wb.spaces.operators import OFFERED, squared

STEPS = 120  # of training at least: queries and keys have no closed form


def others(architecture: Architecture, at: Sublayer, kinds: Sequence[str]) -> list[Mixer]:
    """The records of other mixers in the place of a sub-layer, with its widths; `kinds` are names.

    `AUTO` among them are all that take less work at the same widths."""
    if at.kind != "mixer" or unit_of(at) != "heads":
        return []
    found = [record for kind in OFFERED if AUTO in kinds or kind in kinds if (record := _like(at, kind)) is not None]
    if AUTO not in kinds:
        return found
    whole = _work(architecture, at.name)
    return [one for one in found if _work(with_mixer(architecture, at.name, one), at.name) < whole]


def lacking(at: Sublayer, kind: str) -> str:
    """Why no mixer of that kind is in the place of a sub-layer, in words."""
    if at.kind == "mixer" and OFFERED[kind] is type(at.operator.record):
        return "is what is there"
    lack = OFFERED[kind].lacks(at.operator.layout)
    return lack or "has widths that are not there, or no heads that write to the stream"


def started(at: Sublayer, mixer: Mixer, seed: int) -> OperatorModule:
    """The other mixer with the weights that it shares with what is there; the rest is initial, drawn from the seed."""
    operator = _empty(at, mixer)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        operator.reset()
        own = dict(at.operator.named_parameters())
        for name, weight in operator.named_parameters():
            weight.requires_grad_(False)
            if name in own and own[name].shape == weight.shape and at.operator.axes[name] == operator.axes[name]:
                weight.copy_(own[name])
    return operator


def narrowed(
    at: Sublayer, mixer: Mixer, operator: OperatorModule, writer: Writer
) -> Iterator[tuple[Option, Mapping[str, Tensor]]]:
    """The taught mixer with all heads, half of them and so on; `writer` has seen what its writer reads."""
    ((name, bias),) = operator.writers.items()
    count = writer.groups
    while count:
        kept = writer.best(count)
        weight, offset, error = writer.fitted(writer.columns(kept))
        own = remap(dict(operator.named_parameters()), operator.axes, {"heads": Select(torch.tensor(kept))})
        own = {key: one.detach().clone() for key, one in own.items()}  # what is not of heads is shared else
        own[name] = weight.float().reshape(own[name].shape)
        if bias is not None:
            own[bias] = offset.float()
        what = f"{mixer.kind}, {name_of(Size(count), 'heads')}"
        record = mixer.model_copy(update={"heads": count})
        yield Option(slot=at.name, name=what, mixer=record, error=min(error, 1.0)), own
        count //= 2


def _like(at: Sublayer, kind: str) -> Mixer | None:
    """Another mixer of the sub-layer's widths, and whatever else both have, a scale for example; None if that cannot be."""
    record, have, layout = OFFERED[kind], at.operator.record, at.operator.layout
    both = {name: getattr(have, name) for name in record.model_fields if name != "kind" and hasattr(have, name)}
    required = {name for name in dims(record) if record.model_fields[name].is_required()}
    if record is type(have) or not required <= both.keys() or record.lacks(layout):
        return None
    found = squared(record.model_validate(both), layout)
    if found.refuses(layout) or unit_of(replace(at, operator=_empty(at, found))) != "heads":
        return None
    return found


def _empty(at: Sublayer, mixer: Mixer) -> OperatorModule:
    operator: OperatorModule = class_at(mixer.module)(mixer, at.operator.sizes["embed"], at.operator.layout)
    return operator.eval()


def _work(architecture: Architecture, slot: str) -> float:
    return count_macs(alone(architecture, next(one for one in pieces(architecture) if one.name == slot))).value

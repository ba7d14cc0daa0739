"""Other mixers in the place of a mixer: a cheaper one that is taught to give what the sub-layer gave.

Another mixer begins as `wb convert` begins it (`wb.compress.convert.mixers`), is trained for some steps by itself, and then
loses heads like any alternative, its writer fitted in closed form.

Source: local distillation as in Bercovich et al., "Puzzle", 2024, https://arxiv.org/abs/2411.19146.
Limits: mixers that the layout of the tokens allows, that have no other widths without a default than the one that is there, and
one writer, which reads heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from wb.compress.convert.mixers import empty, like
from wb.compress.nvit.cost import alone, pieces
from wb.core.architecture import Architecture
from wb.core.records import Mixer
from wb.models.axes import Select, remap
from wb.models.counting import count_macs
from wb.models.layers.operator import OperatorModule
from wb.models.walk import Sublayer
from wb.search.alternatives.fit import Writer
from wb.search.alternatives.option import Option, Size, name_of, unit_of, with_mixer
from wb.spaces.columnar.presets import AUTO
from wb.spaces.operators import OFFERED

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
    found = like(at, kind)
    return found if at.kind == "mixer" and isinstance(found, str) else "has no heads that write to the stream"


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
    """Another mixer of the sub-layer's widths that reads heads too; None if that cannot be."""
    found = like(at, kind)
    if isinstance(found, str) or unit_of(replace(at, operator=empty(at, found))) != "heads":
        return None
    return found


def _work(architecture: Architecture, slot: str) -> float:
    return count_macs(alone(architecture, next(one for one in pieces(architecture) if one.name == slot))).value

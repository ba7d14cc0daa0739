"""Binary and ternary weights: a pass after which the linear maps of the given groups round their weights.

Source: `wb.models.layers.lowbit` says how they round; Liu et al., "BiT: Robustly Binarized Multi-distilled Transformer", 2022,
and before it Zhang et al., "TernaryBERT", 2020, fine-tune the rounded network with the logits of the original.
Limits: rounding alone costs most of the accuracy. The pass changes no weight; `wb.training.train.Finetune` trains the
weights behind the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from wb import __version__
from wb.compress.staged.places import within
from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.records import Precision
from wb.models.model import Model, Step

Bits = Literal["w1", "w2"]


@dataclass(frozen=True)
class LowBits:
    """The pass: weights of `groups` (`wb.core.precision`) become binary (`w1`) or ternary (`w2`); others stay as they are."""

    precision: Bits
    groups: tuple[str, ...]

    def __call__(self, model: Model, /) -> Model:
        """The same weights in an architecture that rounds them.

        Raises:
            BadOption: a group that the model does not have, or a convolution.
        """
        policy: dict[str, Precision] = dict.fromkeys(self.groups, self.precision)
        architecture = with_precisions(model.architecture, policy)
        arguments: dict[str, JsonValue] = {"precision": self.precision, "groups": list(self.groups)}
        step = Step(name="low bits", arguments=arguments, version=__version__)
        return Model(architecture, model.weights, model.history).then(step)


def chosen(
    architecture: Architecture, precision: Bits, keep: Iterable[str] = (), *, head: bool = False
) -> tuple[str, ...]:
    """The groups to round to `precision`: all that can be, except the head and the groups that `keep` names.

    `keep` has names of groups, or their beginnings up to a dot (`s0.b3`, `s0.b3.mixer`). The head is left out unless `head` is
    set: stem, merging and head are convolutions or have few weights, and published work leaves them in floating point.

    Raises:
        BadOption: a name that fits no group, no group is left, or all that are left have that precision already.
    """
    known = precisions(architecture)
    able = [
        group for group, options in allowed(architecture).items() if precision in options and (head or group != "head")
    ]
    for name in keep:
        if not any(within(group, name) for group in known):
            raise BadOption(f"no group named {name} to keep; this network has {', '.join(known)}")
    groups = tuple(group for group in able if not any(within(group, name) for name in keep))
    if not groups:
        raise BadOption("no group is left whose weights could be rounded; keep fewer in floating point")
    if all(known[group] == precision for group in groups):
        what = "binary" if precision == "w1" else "ternary"
        raise BadOption(
            f"the weights of this model are {what} already ({len(groups)} groups); nothing is left to round"
        )
    return groups

"""Binary and ternary weights: a pass that has groups of linear maps round theirs from here on.

Source: `wb.models.lowbit` says how they round; Liu et al., "BiT: Robustly Binarized Multi-distilled Transformer", 2022, and
before it Zhang et al., "TernaryBERT", 2020, fine-tune what was rounded with the logits of the original.
Limits: rounding alone costs most of the accuracy. The pass changes no weight; `wb.training.train.Finetune` trains what is
behind the rounding.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from wb import __version__
from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.records import Precision
from wb.models.model import Model, Step

Bits = Literal["w1", "w2"]


@dataclass(frozen=True)
class LowBits:
    """A pass: the weights of `groups` (`wb.core.precision`) binary (`w1`) or ternary (`w2`), the others as they are."""

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
    """The groups whose weights are to be in `precision`: those that can be, but for the head and what is named in `keep`.

    `keep` has names of groups, or what they begin with up to a dot (`s0.b3`, `s0.b3.mixer`). Stem, merging and head are
    convolutions or few weights, and what other work leaves in floating point.

    Raises:
        BadOption: a name that fits no group, or no group is left that is not in that precision already.
    """
    known = precisions(architecture)
    able = [
        group for group, options in allowed(architecture).items() if precision in options and (head or group != "head")
    ]
    for name in keep:
        if not any(_within(group, name) for group in known):
            raise BadOption(f"no group named {name} to keep; this network has {', '.join(known)}")
    groups = tuple(group for group in able if not any(_within(group, name) for name in keep))
    if not groups:
        raise BadOption("no group is left whose weights could be rounded; keep fewer in floating point")
    if all(known[group] == precision for group in groups):
        what = "binary" if precision == "w1" else "ternary"
        raise BadOption(
            f"the weights of this model are {what} already ({len(groups)} groups); nothing is left to round"
        )
    return groups


def _within(group: str, name: str) -> bool:
    return group == name or group.startswith(f"{name}.")

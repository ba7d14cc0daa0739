"""Precision group by group: which groups of linear maps an architecture has, and what each is kept in.

A group is called `stem`, `s1.merge`, `s0.b3.mixer.in`, `s0.b3.mixer.out`, `s0.b3.ffn.in`, `s0.b3.ffn.out` or `head`: what
reads the residual stream inside a mixer or feed-forward is one group, what writes to it another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar, get_args

from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption
from wb.core.records import ConvPrecision, Operator, Precision, Weighted

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
CONVOLUTIONS: tuple[ConvPrecision, ...] = get_args(ConvPrecision)
BITS: dict[Precision, float] = {
    "w1": 2,
    "w2": 2,
    "int4": 4.5,
    "int8": 8,
    "fp32": 32,
}  # in a file, with the scales of int4
TRAINED: tuple[Precision, ...] = ("w1", "w2")  # what the forward pass rounds to, and the gradient passes through

T = TypeVar("T", bound=Operator)


def precisions(architecture: Architecture) -> dict[str, Precision]:
    """Every group of the architecture with what it is kept in, in order of execution."""
    found: dict[str, Precision] = {"stem": architecture.stem.precision}
    for i, stage in enumerate(architecture.stages):
        if i > 0:
            found[f"s{i}.merge"] = stage.merge
        for j, block in enumerate(stage.blocks):
            for part, operator in (("mixer", block.mixer), ("ffn", block.ffn)):
                if isinstance(operator, Weighted):
                    found[f"s{i}.b{j}.{part}.in"] = operator.reads
                    found[f"s{i}.b{j}.{part}.out"] = operator.writes
    return found | {"head": architecture.head}


def allowed(group: str) -> tuple[Precision, ...]:
    """What a group may be kept in: convolutions in `int8` or `fp32`, the others in anything."""
    return CONVOLUTIONS if group == "stem" or group.endswith(".merge") else PRECISIONS


def with_precisions(architecture: Architecture, policy: Mapping[str, Precision]) -> Architecture:
    """`architecture` with the named groups kept in other precisions, the rest as they are.

    Raises:
        BadOption: a group that the architecture does not have, or a precision that it cannot be kept in.
    """
    known = precisions(architecture)
    unknown = sorted(set(policy) - set(known))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; this network has {', '.join(known)}")
    for group, precision in policy.items():
        if precision not in allowed(group):
            raise BadOption(f"{group} cannot be kept in {precision!r}; it takes {', '.join(allowed(group))}")
    changed = architecture.with_blocks(
        lambda name, block: Block(
            mixer=block.mixer and _changed(block.mixer, f"{name}.mixer", policy),
            ffn=block.ffn and _changed(block.ffn, f"{name}.ffn", policy),
        )
    )
    stages = tuple(
        stage.model_copy(update={"merge": policy.get(f"s{i}.merge", stage.merge)})
        for i, stage in enumerate(changed.stages)
    )
    stem = changed.stem.model_copy(update={"precision": policy.get("stem", changed.stem.precision)})
    return changed.model_copy(update={"stages": stages, "stem": stem, "head": policy.get("head", changed.head)})


def in_floating_point(architecture: Architecture) -> Architecture:
    """`architecture` with every group in fp32."""
    return with_precisions(architecture, dict.fromkeys(precisions(architecture), "fp32"))


def _changed(operator: T, prefix: str, policy: Mapping[str, Precision]) -> T:
    if not isinstance(operator, Weighted):
        return operator
    fields = {"reads": f"{prefix}.in", "writes": f"{prefix}.out"}
    return operator.model_copy(update={name: policy[group] for name, group in fields.items() if group in policy})

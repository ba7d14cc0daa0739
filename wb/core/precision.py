"""Precision group by group: which groups of linear maps an architecture has, and what each is kept in.

A group is called `stem`, `s1.merge`, `s0.b3.mixer.in`, `s0.b3.mixer.out`, `s0.b3.ffn.in`, `s0.b3.ffn.out` or `head`: what
reads the residual stream inside a mixer or feed-forward is one group, what writes to it another.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, TypeVar, get_args

from wb.core.architecture import Architecture
from wb.core.errors import BadOption
from wb.core.records import ConvPrecision, Part, Precision, groups

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

P = TypeVar("P", bound=Part)


def computes_weights(chosen: Collection[Precision]) -> bool:
    """Whether a graph with these precisions computes what the weights say: none of them are rounded for the graph alone."""
    return set(chosen) <= {"fp32", *TRAINED}


class _Group(NamedTuple):
    name: str
    precision: Precision
    allowed: tuple[Precision, ...]


def precisions(architecture: Architecture) -> dict[str, Precision]:
    """Every group of the architecture with what it is kept in, in order of execution."""
    return {group.name: group.precision for group in _groups(architecture)}


def allowed(architecture: Architecture) -> dict[str, tuple[Precision, ...]]:
    """Every group with what it may be kept in: convolutions in `int8` or `fp32`, the others in anything."""
    return {group.name: group.allowed for group in _groups(architecture)}


def with_precisions(architecture: Architecture, policy: Mapping[str, Precision]) -> Architecture:
    """`architecture` with the named groups kept in other precisions, the rest as they are.

    Raises:
        BadOption: a group that the architecture does not have, or a precision that it cannot be kept in.
    """
    known = allowed(architecture)
    unknown = sorted(set(policy) - set(known))
    if unknown:
        raise BadOption(f"no group named {', '.join(unknown)}; this network has {', '.join(known)}")
    for group, precision in policy.items():
        if precision not in known[group]:
            raise BadOption(f"{group} cannot be kept in {precision!r}; it takes {', '.join(known[group])}")

    def changed(name: str, part: P) -> P:
        fields = {field: f"{name}{ending}" for ending, (field, _) in groups(type(part)).items()}
        return part.model_copy(update={field: policy[group] for field, group in fields.items() if group in policy})

    return architecture.with_parts(changed)


def in_floating_point(architecture: Architecture) -> Architecture:
    """`architecture` with every group in fp32."""
    return with_precisions(architecture, dict.fromkeys(precisions(architecture), "fp32"))


def _groups(architecture: Architecture) -> Iterator[_Group]:
    for name, part in architecture.parts():
        for ending, (field, options) in groups(type(part)).items():
            yield _Group(f"{name}{ending}", getattr(part, field), options)

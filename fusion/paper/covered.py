"""What the published optimal-transport fusion covers: networks of one stage, softmax attention and perceptrons."""

from __future__ import annotations

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.fusion.forms.compatible import joins_of
from wb.fusion.match.depth import alike
from wb.models.network import skeleton


def check(source: Architecture, reference: Architecture) -> None:
    """Raises `Unsupported` for networks that the method does not cover."""
    _check_ends(reference)
    one, two = source.stages[0].blocks, reference.stages[0].blocks
    if len(one) != len(two):
        raise Unsupported(
            f"the source has {len(one)} blocks and the reference {len(two)}; ot transports equal depths: take orth or "
            "regress, which match blocks"
        )
    _check_biases(reference)
    if any(at.join is not None for at in skeleton(reference).walk()):
        raise Unsupported(f"given {joins_of(reference)}; ot transports networks without joins: take orth or regress")
    for i, (own, other) in enumerate(zip(one, two, strict=True)):
        for kind, expected, a, b in (("mixer", "softmax", own.mixer, other.mixer), ("ffn", "mlp", own.ffn, other.ffn)):
            given = ["none" if record is None else record.kind for record in (a, b)]
            if any(name not in ("none", expected) for name in given) or (a is None) != (b is None):
                raise Unsupported(
                    f"the {kind} of block s0.b{i} is {given[0]} in the source and {given[1]} in the reference; ot "
                    f"transports {expected} into {expected}: take orth or regress"
                )
            if a is not None and b is not None and not alike(a.structure(), b.structure()):
                raise Unsupported(
                    f"the {kind} of block s0.b{i} is {a!r} in the source and {b!r} in the reference; ot transports what "
                    "differs in widths only: take orth or regress"
                )


def _check_ends(reference: Architecture) -> None:
    """Raises `Unsupported` for stages, stems and positions that it does not transport, and for what continues texts."""
    if len(reference.stages) > 1:
        raise Unsupported(
            f"given {len(reference.stages)} stages; ot transports networks of one stage: take orth or regress"
        )
    if reference.causal:
        raise Unsupported(
            "given a network that continues texts; ot transports those that classify: take orth or regress"
        )
    if reference.stem.kind != "patch" and not skeleton(reference).stem.looked_up:
        raise Unsupported(
            f"given a {reference.stem.kind} stem; ot transports patches and tables of tokens: take orth or regress"
        )
    if reference.position.kind != "learned":
        raise Unsupported(f"given {reference.position.title}; ot transports learned positions: take orth or regress")


def _check_biases(architecture: Architecture) -> None:
    """Raises `Unsupported` where weights have no biases: they are transported together."""
    for at in skeleton(architecture).walk():
        if None in (*at.readers.values(), *at.writers.values()):
            raise Unsupported(f"{at.name} has no biases, which ot transports with the weights: take orth or regress")

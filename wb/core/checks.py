"""What an architecture is refused for: more than a device holds, or a part that cannot compute on the tokens it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wb.core.records import FFNS, MIXERS, NORMS, Operator, kind_of

if TYPE_CHECKING:
    from wb.core.architecture import Architecture

# What a file may ask for. Far beyond what fits a device, and little enough that reading one takes seconds.
MAX_BLOCKS = 512
MAX_STAGES = 12  # each halves the sides, and images have 4096 pixels at most
MAX_TOKENS = 1 << 16
MAX_PREPARATION = 1 << 33  # multiplications, about, before a network can run: 2 s
CHOICES: Mapping[str, Sequence[type[Operator]]] = {"mixer": MIXERS, "ffn": FFNS}  # by the last word of a part's name


def check_stages(architecture: Architecture) -> None:
    """Raises `ValueError` where a stage begins as it cannot, or the head reads tokens that are not there."""
    for i, stage in enumerate(architecture.stages):
        if i == 0 and stage.merge is not None:
            raise ValueError(f"the first stage merges nothing, so that it has no merge; given {stage.merge!r}")
        if i > 0 and stage.merge is None:
            raise ValueError(f"stage {i} says nothing of how its tokens are made of those before; give it a merge")
        if not stage.wiring.leaves(stage.paths):
            raise ValueError(
                f"stage {i} leaves out all of its paths, the last of which is {max(stage.paths)}; given {stage.wiring!r}; give "
                f"cut={max(stage.paths)} or less"
            )
    if architecture.stages[0].plane == "map" and (
        architecture.prefix or "map" not in architecture.position.supports.planes
    ):
        what = f"prefix={architecture.prefix}" if architecture.prefix else f"position={architecture.position.kind!r}"
        raise ValueError(f"the first stage is a map, where {what} has no place; give prefix=0 and position='nowhere'")
    pool, own = architecture.head.pool, architecture.input.usual_tokens is not None  # a text has a first token itself
    read = {"first": 0 if own else 1, "pair": 2}.get(pool, 0)
    if read > architecture.prefix:
        raise ValueError(
            f"the head reads {read} token{'s' if read > 1 else ''} of the prefix, and there "
            f"{'is none' if architecture.prefix == 0 else 'is one'}; give prefix={read} or pool='mean'"
        )
    if architecture.head.normed == "pooled" and architecture.last is None:
        raise ValueError(
            "the head normalises what it has pooled, and there is no last norm; give one, or normed='tokens'"
        )


def check_causal(architecture: Architecture) -> None:
    """Raises `ValueError` where what looks back is no line of text, or what foresees the next token could see it."""
    a = architecture
    if a.causal and a.input.usual_tokens is None:
        raise ValueError(f"causal=True is for texts, and stem {a.stem.kind!r} reads images; leave it out")
    if a.causal and (a.prefix or len(a.stages) > 1):
        raise ValueError(
            f"a causal network has one stage and no prefix; given {len(a.stages)} stages and prefix={a.prefix}; give prefix=0"
        )
    if a.head.foresees and not a.causal:
        raise ValueError(
            f"head {a.head.kind!r} foresees tokens that a network sees which looks ahead; give causal=True"
        )


def check_tokens(architecture: Architecture) -> None:
    """Raises `ValueError` for more blocks or tokens than a network may have."""
    blocks = sum(len(stage.blocks) for stage in architecture.stages)
    if blocks > MAX_BLOCKS:
        raise ValueError(f"{blocks:,} blocks are more than the {MAX_BLOCKS} that a network may have; leave some out")
    layout = architecture.layout
    if layout.tokens > MAX_TOKENS:
        shape = "x".join(map(str, layout.shape))
        raise ValueError(
            f"{shape} patches are {layout.tokens:,} tokens, and at most {MAX_TOKENS:,} are possible; choose larger patches or "
            "smaller images"
        )


def check_preparation(architecture: Architecture) -> None:
    """Raises `ValueError` where building the network would take too long."""
    found = {
        preparation.key: (preparation.work, name, part, preparation.width)
        for i, layout in enumerate(architecture.layouts())
        for name, part in architecture.stage_parts(i)
        if (preparation := part.preparation(layout.tokens)) is not None
    }
    work = sum(each for each, *_ in found.values())
    if work > MAX_PREPARATION:
        _, name, part, width = max(found.values(), key=lambda item: item[0])
        raise ValueError(
            f"{kind_of(type(part))} mixers ({name}) with {width} up to {getattr(part, width)} would take {work:,} "
            f"multiplications to prepare, and at most {MAX_PREPARATION:,} are spent on that; choose smaller or fewer sizes "
            f"of {width}, or fewer tokens"
        )


def check_layouts(architecture: Architecture) -> None:
    """Raises `ValueError` where a part cannot compute on the tokens that it is given."""
    lack = architecture.position.refuses(architecture.layout)
    if lack is not None:
        raise ValueError(f"position {architecture.position.kind!r} {lack}; use another position, or sides that fit")
    before = None
    no_prefix = "prefix=0 with pool='mean'" if architecture.head.pool != "mean" else "prefix=0"
    for i, layout in enumerate(architecture.layouts()):
        for name, part in architecture.stage_parts(i):
            place, _, role = name.rpartition(".")
            given = before if role == "merge" and before is not None else layout
            lack = part.refuses(given)
            if lack is not None:
                possible = [kind for kind in CHOICES.get(role, ()) if not kind.untaught]
                others = [kind_of(kind) for kind in possible if kind.lacks(given) is None]
                ways = [no_prefix] if given.prefix and not part.supports.prefix else []
                ways += [f"{role} {', '.join(others)}"] if others else []
                raise ValueError(f"{role} {kind_of(type(part))!r} of {place} {lack}; use {' or '.join(ways)}")
        before = layout


def check_norms(architecture: Architecture) -> None:
    """Raises `ValueError` where a norm cannot compute on the plane of its stage."""
    padded = architecture.layout.padded
    ends = (("first", architecture.first, 0), ("last", architecture.last, -1))
    norms = [(name, norm, architecture.stages[stage].plane) for name, norm, stage in ends if norm is not None]
    if architecture.head.normed == "pooled":  # what is pooled is no map
        norms = [one for one in norms if one[0] != "last"]
    for name, stage, block in architecture.blocks():
        if any(not part.normed for _, part in block.parts()):
            norms.append((f"norm of {name}", block.norm or architecture.norm, stage.plane))
    for name, norm, plane in norms:
        lack = architecture.layout._replace(prefix=0, plane="tokens").refused(norm.supports) if padded else None
        if lack is not None:
            raise ValueError(f"{name} {norm.kind!r} {lack}; use another norm, as 'layer'")
        if plane not in norm.supports.planes:
            possible = ", ".join(kind_of(kind) for kind in NORMS if plane in kind.supports.planes)
            raise ValueError(f"{name} {norm.kind!r} does not compute on maps; use {possible}, or plane='tokens'")

"""Networks said in the words that tests vary: how they are wired, how they pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from wb.core.architecture import Architecture, Stage
from wb.core.records import WIRINGS, Classify, Conv2x2, Join, LayerNorm, Norm, kind_of

Form = Literal["pre", "post"]
WIRED = {kind_of(wiring): wiring.sample() for wiring in WIRINGS}


def assembled(
    *,
    stages: Sequence[Stage],
    classes: int = 3,
    labels: Sequence[str] = (),
    norm: str = "pre",
    norm_eps: float = 1e-6,
    pool: str = "mean",
    **fields: Any,
) -> Architecture:
    """An architecture. Every stage is wired as `norm` says, and begins with 2x2 tokens where nothing else is said."""
    prefix = 1 if pool == "cls" else 0
    head = Classify(classes=classes, labels=tuple(labels), pool="first" if prefix else "mean")
    fields = {"norm": LayerNorm(eps=norm_eps), "last": LayerNorm(eps=norm_eps), "prefix": prefix, **fields}
    joined = tuple(
        stage if i == 0 or stage.merge is not None else stage.model_copy(update={"merge": Conv2x2()})
        for i, stage in enumerate(stages)
    )
    return wired(Architecture.model_validate({"stages": joined, "head": head, **fields}), norm)


def wired(architecture: Architecture, norm: str) -> Architecture:
    """The same network in the wiring of that name, without a last norm where that leaves the stream normalised ("post")."""
    stages = tuple(stage.model_copy(update={"wiring": WIRED[norm]}) for stage in architecture.stages)
    last = None if WIRED[norm].normalised else architecture.last
    return architecture.model_copy(update={"stages": stages, "last": last})


def answering(architecture: Architecture, **head: Any) -> Architecture:
    """The same network with another head."""
    return architecture.model_copy(update={"head": architecture.head.model_copy(update=head)})


def with_eps(architecture: Architecture, eps: float) -> Architecture:
    """The same network whose norms add `eps`."""
    return normed(architecture, LayerNorm(eps=eps))


def normed(architecture: Architecture, norm: Norm) -> Architecture:
    """The same network with another norm."""
    return architecture.model_copy(update={"norm": norm, "last": None if architecture.last is None else norm})


def joined(architecture: Architecture, join: Join) -> Architecture:
    """The same network with that join in every block that is not switched off."""
    return architecture.with_blocks(lambda _, block: block if block.off else block.model_copy(update={"join": join}))


def form(architecture: Architecture) -> str:
    """Where the norms of its sub-layers stand: "pre" or "post"."""
    return architecture.stages[0].wiring.kind

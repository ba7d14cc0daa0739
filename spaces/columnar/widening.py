"""How space `vit` takes an architecture that is not among its networks: in another form, or with other options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from wb.core.architecture import Architecture, Block
from wb.core.errors import WbError
from wb.core.space import Option
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.precision import is_precision

if TYPE_CHECKING:
    from wb.spaces.columnar.columns import Columnar


def forms(space: Columnar, architecture: Architecture) -> Iterator[Architecture]:
    """The same network with other switched-off blocks: as given, without any, and filled up to each depth of the space."""
    yield architecture
    compact = architecture.compact()
    yield compact
    blocks = compact.stages[0].blocks
    for depth in space.options.depth:
        if depth > len(blocks):
            filled = compact.stages[0].model_copy(update={"blocks": blocks + (Block(),) * (depth - len(blocks))})
            yield compact.model_copy(update={"stages": (filled, *compact.stages[1:])})


def widening(space: Columnar, architecture: Architecture) -> str:
    """The `--set` options that widen the space such that it contains the architecture; empty if that is impossible."""
    changes = _missing(space, architecture)
    parsed = {name: value.split(",") if name not in ("patch", "pool") else value for name, value in changes.items()}
    try:
        options = options_with(space.options, parsed)
        type(space)(options, space.input, space.classes, space.labels, space.preset).encode(architecture)
    except WbError:
        return ""
    return " ".join(f"--set {name}={value}" for name, value in changes.items())


def _missing(space: Columnar, architecture: Architecture) -> dict[str, str]:
    """Field of the options -> its values, including those of the architecture, for each field that has to be changed."""
    found: dict[str, set[Option]] = {}
    for gene, value in space.read(architecture).items():
        name = "precision" if is_precision(gene) else gene.partition(".")[2] or gene
        found.setdefault(name, set()).add(value)
    changes = {}
    for name, values in found.items():
        options: tuple[Option, ...] = getattr(space.options, name)
        together = [*options, *(values - set(options))]
        if len(together) > len(options):
            ordered = together if name in ("mixer", "stem", "precision") else sorted(map(float, together))
            changes[name] = ",".join(f"{value:.6g}" if isinstance(value, float) else str(value) for value in ordered)
    if architecture.stem.patch != space.smallest().stem.patch:
        changes["patch"] = str(architecture.stem.patch)
    if pool_of(architecture) != space.options.pool:
        changes["pool"] = pool_of(architecture)
    return changes


def pool_of(architecture: Architecture) -> str:
    """What `VitOptions.pool` says of how the architecture pools: "cls" where a class token is read."""
    return "cls" if architecture.head.pool == "first" else architecture.head.pool

"""A space of `vit` around a network: it is the largest one, and its widths and its depth may be smaller."""

from __future__ import annotations

from typing import TYPE_CHECKING

from wb.core.errors import BadOption, WbError
from wb.core.records import kind_of
from wb.spaces.operators import NONE, stem_genes, width_of
from wb.spaces.options import options_with
from wb.spaces.presets import PLAIN
from wb.spaces.vit import Vit
from wb.spaces.widening import pool_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wb.core.architecture import Architecture

PRESET = "plain"  # what the changes are changes of
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a width
LEAST = 2  # channels, of streams and of heads


def around(architecture: Architecture) -> dict[str, str]:
    """The fields of preset `plain` (`--set`) that make it a space whose largest network is the given one.

    Limits: networks that space `vit` has, whose blocks are all as wide.

    Raises:
        BadOption: another one; says what in it is not of that space.
    """
    a = architecture.compact()
    changes = _changes(a) if len(a.stages) == 1 and a.stages[0].blocks else {}
    try:
        options = options_with(
            PLAIN, {name: value.split(",") for name, value in changes.items() if name not in _SINGLE}
        )
        options = options_with(options, {name: changes[name] for name in _SINGLE if name in changes})
        space = Vit(options, a.input, a.head.classes, a.head.labels)
        if len(set(a.stages[0].blocks)) > 1:
            raise BadOption("its blocks are not all alike")
        if space.largest() != a:
            space.encode(a)  # raises
    except (WbError, ValueError) as error:
        raise BadOption(
            "a supernet cannot start from this model, since space 'vit' has no such network "
            f"({error}); `wb search --from` without --supernet takes it"
        ) from error
    return changes


_SINGLE = ("patch", "pool", "norm", "wiring", "position")


def _changes(a: Architecture) -> dict[str, str]:
    stage, (block, *_) = a.stages[0], a.stages[0].blocks
    found: dict[str, Iterable[object]] = {
        "embed": _parts(stage.embed, LEAST),
        "depth": range(-(-len(stage.blocks) // 2), len(stage.blocks) + 1),
        "stem": [a.stem.kind],
        "mixer": [NONE] if block.mixer is None else [NONE, block.mixer.kind],
        "mlp": [0],
        **{gene: [getattr(a.stem, width)] for gene, width in stem_genes(a.stem.kind).items()},
    }
    if block.mixer is not None:
        have = block.mixer.model_dump()
        found |= {
            name: _parts(have[name], 1 if name == "heads" else LEAST)
            for name in ("heads", "qk", "v", "memory")
            if name in have
        }
    if block.ffn is not None:
        ratio = width_of(block.ffn) / stage.embed
        found |= {"ffn": [kind_of(type(block.ffn))], "mlp": [0, ratio / 4, ratio / 2, ratio]}
    changes = {
        name: ",".join(f"{v:.8g}" if isinstance(v, float) else str(v) for v in some) for name, some in found.items()
    }
    kinds = {"norm": a.norm.kind, "wiring": stage.wiring.kind, "position": a.position.kind}
    return changes | kinds | {"patch": str(a.stem.patch), "pool": pool_of(a)}


def _parts(width: int, least: int) -> list[int]:
    """The shares of a width, `least` or more, and the width."""
    return sorted({round(share * width) for share in SHARES if round(share * width) >= least} | {width})

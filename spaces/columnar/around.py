"""A space of `vit` around a network: it is the largest one, and its widths and its depth may be smaller.

Everything else is the network's: its stem, norms, wiring, positions and head, and all settings of its operators, such as
activations, biases and scales.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

from wb.core.architecture import Architecture, Block
from wb.core.errors import BadOption, WbError
from wb.core.records import Operator, dims, kind_of
from wb.core.space import Choices, check_choices
from wb.spaces.columnar.options import VitOptions
from wb.spaces.columnar.precision import chosen
from wb.spaces.columnar.presets import PLAIN, options_of
from wb.spaces.columnar.space import Vit
from wb.spaces.operators import NONE, ratio_of, stem_genes

PRESET = "plain"  # what the changes are changes of
SHARES = (0.25, 0.5, 0.75, 1.0)  # of a width
LEAST = 2  # channels, of streams and of heads


class Around(Vit):
    """The architectures like `network` with the widths and depths that `options` allow."""

    def __init__(self, network: Architecture, options: VitOptions) -> None:
        self.network = network
        super().__init__(options, network.image, network.head.classes, network.head.labels, PRESET)

    def decode(self, choices: Choices) -> Architecture:
        check_choices(self.genes, choices, self.name)
        full = {**self._fixed, **choices}
        embed = int(full["embed"])
        blocks = tuple(self._block(full, i, embed) for i in range(int(full["depth"])))
        stage = self.network.stages[0].model_copy(update={"embed": embed, "blocks": blocks})
        architecture = self.network.model_copy(update={"stages": (stage,)})
        return architecture if self.options.precision == ("fp32",) else chosen(architecture, full)

    def _block(self, full: Choices, i: int, embed: int) -> Block:
        own, found = self.network.stages[0].blocks[i], super()._block(full, i, embed)
        return own.model_copy(
            update={"mixer": self._like(own.mixer, found.mixer), "ffn": self._like(own.ffn, found.ffn)}
        )

    def _like(self, own: Operator | None, found: Operator | None) -> Operator | None:
        """The network's operator with the widths that are found, if it is of the kind that is found."""
        if own is None or type(own) is not type(found):
            return found
        free = {*self.options.widths, *self._widths}
        return own.model_copy(update={name: getattr(found, name) for name in dims(type(own)) if name in free})

    @cached_property
    def _widths(self) -> frozenset[str]:
        """The widths of feed-forwards, which gene `mlp` says."""
        return frozenset(
            name for block in self.network.stages[0].blocks if block.ffn is not None for name in dims(type(block.ffn))
        )


def space_around(architecture: Architecture, changes: Mapping[str, str]) -> Around:
    """The space around a network with `changes` of preset `plain` (`around`).

    Raises:
        BadOption: the network is not its largest one.
    """
    a = architecture
    space = Around(a, options_of(PLAIN, changes))
    if space.largest() != a:
        try:
            space.encode(a)
        except WbError as error:
            raise BadOption(f"the network is not the largest of the space around it: {error}") from error
        raise BadOption("the network is not the largest of the space around it, in which --set names larger ones")
    return space


def around(architecture: Architecture) -> dict[str, str]:
    """The fields of preset `plain` (`--set`) for the space around a network.

    Limits: networks of one stage, whose blocks are all alike, none of them switched off.

    Raises:
        BadOption: another one; says what in it is not of that space.
    """
    a = architecture
    try:
        if len(a.stages) > 1 or not a.stages[0].blocks:
            raise BadOption(f"it has {len(a.stages)} stages" if len(a.stages) > 1 else "it has no blocks")
        if len({block.model_copy(update={"norm": None, "join": None}) for block in a.stages[0].blocks}) > 1:
            raise BadOption("its blocks are not all alike")
        if a.stages[0].blocks[0].off:
            raise BadOption("all its blocks are switched off")
        changes = _changes(a)
        space_around(a, changes)
    except WbError as error:
        raise BadOption(
            f"a supernet cannot start from this model, since space 'vit' has none around it ({error}); `wb search --from` "
            "without --supernet takes it"
        ) from error
    return changes


def _changes(a: Architecture) -> dict[str, str]:
    stage, (block, *_) = a.stages[0], a.stages[0].blocks
    rows, columns = a.stem.sides
    found: dict[str, Iterable[object]] = {
        "embed": _parts(stage.embed, LEAST),
        "depth": range(-(-len(stage.blocks) // 2), len(stage.blocks) + 1),
        "stem": [a.stem.kind],
        "mixer": [NONE] if block.mixer is None else [NONE, block.mixer.kind],
        "mlp": [0],
        "patch": [rows if rows == columns else 0],
        "pool": ["cls" if a.prefix else "mean"],
        "norm": [a.norm.kind],
        "wiring": [stage.wiring.kind],
        "position": [a.position.kind],
        **{gene: [getattr(a.stem, width)] for gene, width in stem_genes(a.stem.kind).items()},
    }
    if block.mixer is not None:
        have = block.mixer.model_dump()
        named = [name for name in ("heads", "qk", "v", "memory") if name in have]
        found |= {name: _parts(have[name], 1 if name == "heads" else LEAST) for name in named}
    if block.ffn is not None:
        ratio = ratio_of(block.ffn, stage.embed)
        found |= {"ffn": [kind_of(type(block.ffn))], "mlp": [0, ratio / 4, ratio / 2, ratio]}
    return {
        name: ",".join(f"{v:.8g}" if isinstance(v, float) else str(v) for v in some) for name, some in found.items()
    }


def _parts(width: int, least: int) -> list[int]:
    """The shares of a width, `least` or more, and the width."""
    return sorted({round(share * width) for share in SHARES if round(share * width) >= least} | {width})

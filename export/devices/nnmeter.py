"""nn-Meter's tables of blocks on phones, looked up for the blocks of a network.

Source: the tables of vision transformers in https://github.com/microsoft/nn-Meter (MIT), timed with TensorFlow Lite on one core.
A key says the side of the picture of tokens, the channels, and the kind: `transattn_14_192_hard_swish_4_ln` is attention whose
values have four times as many channels, `transffn_14_192_3_hard_swish_ln` a perceptron with three times as many hidden units,
`conv_32_24_24_4_1_hard_swish_3_nose` an inverted bottleneck of that expansion, stride and kernel.
Differs: the attention there has heads of 8 channels, a product between heads and a filter on its values besides, and its
activation is a hard swish; those are taken for ours of the same widths, as a note says.
Limits: stems, merges and heads have no counterpart and are not in the sum, so that sums compare blocks only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from wb.core.architecture import Architecture
from wb.core.errors import Unsupported
from wb.core.layout import Layout
from wb.core.records import Mlp, Softmax
from wb.core.records.base import Part
from wb.core.records.ffns import Inverted

NOTE = "blocks only, of phones' own kinds: no stem, merge or head, and hard swish for other activations"


def milliseconds(architecture: Architecture, table: Mapping[str, float], what: str) -> tuple[float, int]:
    """The sum of a network's blocks in `table`, and how many they are.

    Raises:
        Unsupported: a block is not in the table, or of a kind that such tables do not have; says which.
    """
    values = []
    for name, keys in wanted(architecture):
        key = next((key for key in keys if key in table), None)
        if key is None:
            raise Unsupported(
                f"{what} has no block {' or '.join(keys)}, which {name} needs; choose other widths with --set"
            )
        values.append(table[key])
    return architecture.input.views * sum(values), len(values)


def wanted(architecture: Architecture) -> Iterator[tuple[str, Sequence[str]]]:
    """The keys of each sub-layer, one of which has to be there. Raises `Unsupported` for a kind that has none."""
    layouts = list(architecture.layouts())
    for name, stage, block in architecture.blocks():
        layout = layouts[int(name[1 : name.index(".")])]
        for role, part in block.parts():
            yield f"{name}.{role}", _keys(f"{name}.{role}", part, stage.embed, layout)


def _keys(name: str, part: Part, embed: int, layout: Layout) -> list[str]:
    rows = layout.shape[0]
    if len(layout.shape) == 2 and layout.shape == (rows, rows):
        if isinstance(part, Softmax) and part.heads * part.qk == embed:
            scale, rest = divmod(part.heads * part.v, embed)
            if not rest:
                return [f"transattn_{rows}_{embed}_hard_swish_{scale}_ln"]
        if isinstance(part, Mlp | Inverted):
            ratio, rest = divmod(part.mlp, embed)
            if isinstance(part, Mlp) and not rest:
                return [f"transffn_{rows}_{embed}_{ratio}_hard_swish_ln"]
            if isinstance(part, Inverted) and not rest and part.kernel:
                se = "nose" if part.se is None else "se"
                kernel = f"{embed}_{embed}_{ratio}_1_hard_swish_{part.kernel}_{se}"
                return [f"conv_{rows}_{kernel}"]
    shape = " x ".join(map(str, layout.shape))
    raise Unsupported(
        f"nn-Meter's tables have no counterpart of {name} ({part.title}, {shape} tokens of {embed} channels): softmax attention "
        "whose queries have as many channels as the tokens, perceptrons and inverted bottlenecks of whole multiples of them"
    )

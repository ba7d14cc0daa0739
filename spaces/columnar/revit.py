"""ReViT: a vision transformer whose middle blocks are wider than the others, by a rule derived from pruned networks.

Source: NViT (Yang et al., arXiv 2110.04869), the redistribution rule for 12 blocks: H = ε·EMB/100 (to even), QK = ε·EMB/20
(to a multiple of 8), V = 64, MLP = ε·3·EMB, with ε = 2 in blocks 4 to 9 and 1 in all others.
Differs: the paper does not define the rounding. Here widths are rounded to the nearest multiple, halves upwards, and are at
least 2 heads and 8 channels. With 224x224 images and 1000 classes, EMB 384 then has the size of DeiT-S (22.05M parameters
both), EMB 192 has 5.46M (DeiT-T: 5.72M), and EMB 768 has 94.2M (DeiT-B: 86.6M). For a depth d other than 12, ε is 2 in blocks n
with d/4 < n ≤ 3d/4. The caller chooses the patch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption
from wb.core.records import Classify, ImageInput, Mlp, PatchStem, Softmax

if TYPE_CHECKING:
    from wb.spaces.columnar.space import Vit

V = 64
SEEDED = frozenset({"revit-tiny", "revit-small", "revit-base"})  # presets of space `vit` with a seed architecture


def revit(
    embed: int, depth: int = 12, *, image: ImageInput, classes: int, labels: Sequence[str] = (), patch: int = 16
) -> Architecture:
    """ReViT of width `embed`: linear patches, a class token, softmax attention. `embed` 192 is ReViT-T, 384 ReViT-S.

    Raises:
        pydantic.ValidationError: the patch does not divide the image size, or the number of labels is not `classes`.
    """
    blocks = tuple(revit_block(embed, 2 if depth < 4 * n <= 3 * depth else 1) for n in range(1, depth + 1))
    return Architecture(
        input=image,
        stem=PatchStem(patch=patch),
        stages=(Stage(embed=embed, blocks=blocks),),
        head=Classify(classes=classes, labels=tuple(labels), pool="first"),
        prefix=1,
    )


def revit_block(embed: int, epsilon: int) -> Block:
    """One block of ReViT: `epsilon` is 2 in the middle half of the network, 1 elsewhere."""
    heads, qk = _nearest(epsilon * embed, 100, 2), _nearest(epsilon * embed, 20, 8)
    return Block(mixer=Softmax(heads=heads, qk=qk, v=V), ffn=Mlp(mlp=3 * epsilon * embed))


def _nearest(value: int, over: int, multiple: int) -> int:
    """`value / over` rounded to the nearest positive multiple of `multiple`, halves upwards; exact, in integers."""
    step = over * multiple
    return multiple * max(1, (2 * value + step) // (2 * step))


def seed_architecture(space: Vit) -> Architecture:
    """The seed architecture of the space's preset: ReViT at the widest embedding and the greatest depth of its options.

    Changed options (`--set`) may leave it outside the space.

    Raises:
        BadOption: the preset has no seed architecture.
    """
    if space.preset not in SEEDED:
        raise BadOption(
            f"preset {space.preset!r} has no seed architecture 'revit'; {', '.join(sorted(SEEDED))} have, and 'largest', "
            "'smallest' or a file work with every preset"
        )
    o = space.options
    return revit(
        o.embed[-1], o.depth[-1], image=space.image, classes=space.classes, labels=space.labels, patch=space.patch
    )

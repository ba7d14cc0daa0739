"""ReViT: a vision transformer whose widths are redistributed towards the middle blocks, by a rule found in pruned networks.

Source: NViT (Yang et al., arXiv 2110.04869), the redistribution rule for 12 blocks: H = ε·EMB/100 (to even), QK = ε·EMB/20
(to a multiple of 8), V = 64, MLP = ε·3·EMB, with ε = 2 in blocks 4 to 9 and 1 in all others.
Differs: the rule does not say how it rounds; here to the nearest, a half upwards, and never below 2 heads and 8 channels.
That gives EMB 384 the very size of DeiT-S (22.05M parameters both, on 224x224 images and 1000 classes), EMB 192 5.46M where
DeiT-T has 5.72M, and EMB 768 94.2M where DeiT-B has 86.6M. For another depth d, ε is 2 in blocks n with d/4 < n ≤ 3d/4, which
is 4 to 9 of 12. The patch is the caller's.
"""

from __future__ import annotations

from collections.abc import Sequence

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.records import Mlp, PatchStem, Softmax

V = 64


def revit(
    embed: int, depth: int = 12, *, image: ImageInput, classes: int, labels: Sequence[str] = (), patch: int = 16
) -> Architecture:
    """ReViT of that width and depth: linear patches, a class token, softmax attention; `embed` 192 is ReViT-T, 384 ReViT-S.

    Raises:
        pydantic.ValidationError: the patch does not divide the images, or the labels are not one per class.
    """
    blocks = tuple(revit_block(embed, 2 if depth < 4 * n <= 3 * depth else 1) for n in range(1, depth + 1))
    return Architecture(
        input=image,
        stem=PatchStem(patch=patch),
        stages=(Stage(embed=embed, blocks=blocks),),
        pool="cls",
        classes=classes,
        labels=tuple(labels),
    )


def revit_block(embed: int, epsilon: int) -> Block:
    """One block: `epsilon` is 2 in the middle half of the network, 1 elsewhere."""
    heads, qk = _nearest(epsilon * embed, 100, 2), _nearest(epsilon * embed, 20, 8)
    return Block(mixer=Softmax(heads=heads, qk=qk, v=V), ffn=Mlp(mlp=3 * epsilon * embed))


def _nearest(value: int, over: int, multiple: int) -> int:
    """`value / over` to the nearest multiple, a half upwards, and at least one of it; in integers, so that it is exact."""
    step = over * multiple
    return multiple * max(1, (2 * value + step) // (2 * step))

"""Presets of space `hybrid`, for images of about the side in their names: maps first, tokens come where they are few.

Which sizes and blocks are worth their time is measured in `docs/results.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.records import ImageInput
from wb.spaces.hybrid.options import HybridOptions, StageOptions, fitted

# 14x14 or 16x16, 7x7 or 8x8, and 4x4 places.
TINY28 = HybridOptions(
    stem_width=(8, 16, 32),
    stages=(
        StageOptions(
            embed=(16, 24, 32),
            depth=(0, 1),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
        ),
        StageOptions(
            embed=(32, 48, 64),
            depth=(0, 1, 2),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
        StageOptions(
            embed=(64, 96, 128),
            depth=(0, 1, 2),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise", "softmax"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
    ),
)

# 32x32, 16x16, 8x8 and 4x4 places.
SMALL64 = HybridOptions(
    stem_width=(8, 16),
    stages=(
        StageOptions(
            embed=(16, 24),
            depth=(0, 1),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
        ),
        StageOptions(
            embed=(16, 32, 48),
            depth=(0, 1, 2),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
        StageOptions(
            embed=(32, 64, 96),
            depth=(0, 1, 2, 3),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise", "mask", "window", "linear"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
            channels=(32,),
        ),
        StageOptions(
            embed=(64, 96, 128),
            depth=(0, 1, 2),
            merge=("dw3", "conv3", "qpool"),
            mixer=("none", "depthwise", "softmax"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
            channels=(32,),
        ),
    ),
)

# 56x56, 28x28, 14x14 and 7x7 places: dense convolutions in the first two stages only, because of their weights.
PHOTO224 = HybridOptions(
    stem_width=(8, 16, 24),
    stages=(
        StageOptions(
            embed=(16, 24),
            depth=(0, 1),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
        ),
        StageOptions(
            embed=(24, 32, 48),
            depth=(0, 1, 2),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused", "basic"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
        StageOptions(
            embed=(48, 64, 96, 128),
            depth=(1, 2, 4, 6),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise", "mask", "window", "linear"),
            kernel=(3, 5, 7),
            ratio=(2, 3, 4),
            mid=(0, 3, 5),
            act=("relu", "silu"),
            channels=(32,),
        ),
        StageOptions(
            embed=(96, 128, 192, 256),
            depth=(0, 1, 2),
            merge=("dw3", "conv3", "qpool"),
            mixer=("none", "depthwise", "softmax"),
            kernel=(3, 5, 7),
            ratio=(2, 3, 4),
            mid=(0, 3, 5),
            act=("relu", "silu"),
            channels=(32,),
        ),
    ),
)

PRESETS: Mapping[str, HybridOptions] = {"tiny28": TINY28, "small64": SMALL64, "photo224": PHOTO224}
SHORTEST: Mapping[str, int] = {
    "tiny28": 0,
    "small64": 48,
    "photo224": 112,
}  # side of the smallest images it is chosen for


def default_for(image: ImageInput) -> str:
    """The preset for images of that size: the largest whose stages can halve their sides, else the one for their size."""
    side = min(image.height, image.width)
    suited = [name for name, shortest in SHORTEST.items() if side >= shortest]
    return next((name for name in reversed(suited) if fitted(PRESETS[name], image)), suited[-1])

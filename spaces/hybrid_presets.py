"""Presets of space `hybrid`, by the size of the images: the two first stages are maps, tokens come where they are few.

Which sizes and blocks are worth their time is measured in `docs/results.md`.
"""

from __future__ import annotations

from collections.abc import Mapping

from wb.spaces.hybrid_options import HybridOptions, StageOptions

# 14x14 or 16x16, 7x7 or 8x8, and 4x4 places.
TINY28 = HybridOptions(
    stem_width=(8, 16, 32),
    stages=(
        StageOptions(
            embed=(16, 24, 32), depth=(0, 1, 2), mixer=("none", "depthwise"), ffn=("inverted", "fused"), ratio=(1, 2)
        ),
        StageOptions(
            embed=(32, 48, 64),
            depth=(1, 2, 3),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise"),
            ffn=("inverted", "fused"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
        StageOptions(
            embed=(64, 96, 128),
            depth=(0, 1, 2),
            merge=("dw3", "conv3"),
            mixer=("none", "depthwise", "softmax"),
            ffn=("inverted", "fused"),
            ratio=(1, 2),
            mid=(0, 3),
        ),
    ),
)

PRESETS: Mapping[str, HybridOptions] = {"tiny28": TINY28}


def preset_for(side: int) -> str:
    """The preset for images whose larger side has that many pixels."""
    return "tiny28"

"""Ready-made options of space `vit`. The largest network of a `deit-*` preset is the published one of that name."""

from __future__ import annotations

from collections.abc import Mapping

from wb.core.errors import BadOption
from wb.spaces.vit import VitOptions

# Reaches from one tiny block, on which accuracy is really lost, to a network that solves small images.
TINY = VitOptions(
    embed=(8, 16, 32, 64),
    depth=(1, 2, 3, 4),
    stem=("conv",),
    stem_width=(8, 16, 32),
    pool="mean",
    grid=8,
    mixer=("none", "pool", "lmu", "cosformer", "sla", "softmax"),
    heads=(1, 2, 4, 8),
    qk=(8, 16),
    v=(8, 16),
    memory=(8, 16),
    mlp=(0, 1, 2),
)

SMALL = VitOptions(
    embed=(32, 64, 96, 128),
    depth=(2, 3, 4, 5, 6),
    stem=("conv",),
    stem_width=(16, 32, 64),
    pool="mean",
    grid=14,
    mixer=("none", "pool", "lmu", "cosformer", "sla", "softmax"),
    heads=(1, 2, 4, 8),
    qk=(8, 16, 32),
    v=(8, 16, 32),
    memory=(16, 32),
    mlp=(0, 1, 2, 4),
)


def _deit(embed: tuple[int, ...], heads: tuple[int, ...]) -> VitOptions:
    """Linear patches of 16, a class token, heads of 64 channels at most, twelve blocks at most."""
    return VitOptions(
        embed=embed,
        depth=(6, 8, 10, 12),
        stem=("patch",),
        stem_width=(16,),
        pool="cls",
        patch=16,
        mixer=("none", "lmu", "cosformer", "softmax"),
        heads=heads,
        qk=(16, 32, 64),
        v=(32, 64),
        memory=(32, 64),
        mlp=(0, 1, 2, 3, 4),
    )


PRESETS: Mapping[str, VitOptions] = {
    "tiny": TINY,
    "small": SMALL,
    "deit-tiny": _deit((96, 128, 160, 192), (1, 2, 3)),
    "deit-small": _deit((192, 256, 320, 384), (2, 4, 6)),
    "deit-base": _deit((384, 512, 640, 768), (4, 6, 8, 12)),
}


def preset(name: str) -> VitOptions:
    """The options of one preset.

    Raises:
        BadOption: no preset of that name.
    """
    if name not in PRESETS:
        raise BadOption(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]

"""Precision genes: one for every group of linear maps (`wb.core.precision`) of a network of space `vit`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

from wb.core.architecture import Architecture
from wb.core.precision import CONVOLUTIONS, PRECISIONS, precisions, with_precisions
from wb.core.records import Precision
from wb.core.space import Choices, Option

# One and two bits are left out: they need training, and a supernet trains its weights for all precisions at once.
Searched = Literal["int4", "int8", "fp32"]
SEARCHED: tuple[Searched, ...] = get_args(Searched)
MIXER = ("mixer_in", "mixer_out")
FFN = ("ffn_in", "ffn_out")
WHOLE = ("stem_precision", "head_precision")


def gene_of(group: str) -> str:
    """`s0.b3.mixer.in` -> `b3.mixer_in`, `stem` -> `stem_precision`."""
    if group in ("stem", "head"):
        return f"{group}_precision"
    _, block, part, way = group.split(".")
    return f"{block}.{part}_{way}"


def is_precision(gene: str) -> bool:
    """Whether the gene chooses a precision."""
    return gene in WHOLE or gene.partition(".")[2] in (*MIXER, *FFN)


def precision_genes(
    depth: int, options: Sequence[Searched], *, mixers: bool, ffns: bool
) -> dict[str, tuple[Option, ...]]:
    """Every precision gene of networks of at most `depth` blocks, with its options, from small to large.

    The stem is a convolution, which has fewer options; if none is left it stays in fp32. Without `mixers` no mixer has
    weights, and without `ffns` there are no feed-forwards, so their genes are left out.
    """
    convolution = tuple(option for option in options if option in CONVOLUTIONS) or ("fp32",)
    genes: dict[str, tuple[Option, ...]] = {"stem_precision": convolution, "head_precision": tuple(options)}
    names = (*(MIXER if mixers else ()), *(FFN if ffns else ()))
    for i in range(depth):
        genes |= {f"b{i}.{name}": tuple(options) for name in names}
    return genes


def chosen(architecture: Architecture, choices: Choices) -> Architecture:
    """`architecture` with the precisions that the genes choose."""
    policy: dict[str, Precision] = {}
    for group in precisions(architecture):
        value = choices[gene_of(group)]
        policy[group] = next(precision for precision in PRECISIONS if precision == value)
    return with_precisions(architecture, policy)


def kept_by_gene(architecture: Architecture) -> dict[str, Option]:
    """The precision of each group of the architecture, by gene."""
    return {gene_of(group): precision for group, precision in precisions(architecture).items()}

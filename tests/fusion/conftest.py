"""Random networks in double precision, copies of them that only look different, and what they compute.

All in one fixture, `kit`, for test modules cannot import this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage, axis_dims, axis_sizes
from wb.core.records import ConvStem, Cosformer, ImageInput, Lmu, Mixer, Mlp, PatchStem, Pool, Sla, Softmax, Stem
from wb.fusion.forms.canonical import canonical, foldable, restored
from wb.models.axes import Couple, Map, Select, SelectWithin, nested, remap
from wb.models.model import Model, from_network
from wb.models.named import axes_of
from wb.models.network import Network, build, describe

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
MIXERS: tuple[Mixer | None, ...] = (
    Softmax(heads=3, qk=4, v=3),
    Softmax(heads=2, qk=2, v=4, scale=0.7),
    Softmax(heads=2, qk=3, v=2, scale=-0.5),
    Cosformer(heads=2, qk=3, v=4),
    Sla(heads=2, qk=4, v=3, kernel=3),
    Lmu(memory=4, hidden=6),
    Pool(),
    None,
)
STEMS: tuple[Stem, ...] = (PatchStem(patch=2), ConvStem(patch=2, width=3), ConvStem(patch=4, width=4))


class Kit:
    """What the tests of fusion have in common."""

    softmax = Block(mixer=Softmax(heads=3, qk=4, v=3), ffn=Mlp(mlp=9))
    off = Block()

    def network(
        self, *stages: tuple[Block, ...], embed: tuple[int, ...] = (8, 6), stem: Stem | None = None, **other: object
    ) -> Architecture:
        """A network of those blocks, or of two with softmax."""
        blocks = stages or ((self.softmax, self.softmax),)
        shape: dict[str, Any] = {
            "input": IMAGE,
            "stem": stem or PatchStem(patch=2),
            "stages": [Stage(embed=width, blocks=part) for width, part in zip(embed, blocks, strict=False)],
            "labels": ("a", "b", "c"),
        }
        return assembled(**{**shape, **other})

    @property
    def networks(self) -> st.SearchStrategy[Architecture]:
        """Small ones of all kinds."""
        return _networks()

    def model(self, architecture: Architecture | None = None, seed: int = 0) -> Model:
        """In float64, no weight zero and no gain one."""
        architecture = architecture or self.network()
        built = build(architecture)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, weight in built.named_parameters():
                centre, spread = (1.0, 0.2) if "gain" in name else (0.0, 0.4)
                weight.normal_(centre, spread, generator=generator)
        model = from_network(architecture, built)
        return replace(model, weights={name: weight.double() for name, weight in model.weights.items()})

    def single(self, model: Model) -> Model:
        """In float32."""
        return replace(model, weights={name: weight.float() for name, weight in model.weights.items()})

    def pictures(self, n: int = 24) -> Tensor:
        """Images without a meaning, float32 in [0, 1]."""
        return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(1))

    def run(self, model: Model, images: Tensor | None = None) -> Tensor:
        """Logits in float64."""
        weights = {name: weight.double() for name, weight in model.weights.items()}
        x = self.pictures(6) if images is None else images
        with torch.no_grad():
            logits: Tensor = functional_call(build(model.architecture).double(), weights, x.double())
        return logits

    def apart(self, one: Model, other: Model) -> float:
        """The largest difference of their logits, by the size of the largest logit of the other."""
        expected = self.run(other)
        return float((self.run(one) - expected).abs().max() / expected.abs().max())

    def same(self, one: Model, other: Model, tolerance: float = 1e-9, what: object = "") -> None:
        """They compute the same."""
        assert self.apart(one, other) <= tolerance, what

    def permuted(self, model: Model, seed: int = 0) -> Model:
        """The same function with units, heads, channels of heads and of streams in another order."""
        built = build(model.architecture, "meta")
        maps = _orders(built, axis_sizes(model.architecture), torch.Generator().manual_seed(seed))
        return replace(model, weights=remap(model.weights, axes_of(built), maps))

    def turned(self, model: Model, seed: int = 0) -> Model:
        """The same function, permuted and with all the freedom there is besides.

        Streams rotated where they may be, channels of heads under any invertible matrix where they are linear, norms with
        other gains and shifts.
        """
        generator = torch.Generator().manual_seed(seed)
        twin = canonical(self.permuted(model, seed), balance=False)
        built = build(twin.architecture, "meta")
        weights = dict(twin.weights)
        for sublayer in built.walk():
            for axis in ("qk", "v"):
                if sublayer.operator.symmetries.get(axis) == "rotation":
                    _regauge(weights, sublayer.prefix, axis, generator)
        maps = {
            f"s{i}.embed": _rotation(stage.embed, generator)
            for i, stage in enumerate(twin.architecture.stages)
            if foldable(built, i)
        }
        twin = replace(twin, weights=remap(weights, axes_of(built), maps))
        norms = [name for name in twin.weights if name.endswith((".gain", ".shift"))]
        drawn = {name: torch.rand(twin.weights[name].shape, generator=generator).double() for name in norms}
        return restored(twin, replace(model, weights={n: w + n.endswith("gain") for n, w in drawn.items()}))


@pytest.fixture(scope="session")
def kit() -> Kit:
    """The only one."""
    return Kit()


@st.composite
def _networks(draw: st.DrawFn) -> Architecture:
    """Any stem, one or two stages, a class token or none, up to three blocks of any kind, any part of which may be missing."""
    norm = draw(st.sampled_from(["pre", "pre", "post"]))
    cls = draw(st.booleans())
    mixers = [m for m in MIXERS if not (cls and m is not None and not m.supports.prefix)]
    blocks = st.builds(Block, mixer=st.sampled_from(mixers), ffn=st.sampled_from([Mlp(mlp=7), Mlp(mlp=10), None]))
    stage = st.lists(blocks, max_size=3).map(tuple)
    stages = [draw(stage) for _ in range(1 if cls else draw(st.integers(1, 2)))]
    stem = draw(st.sampled_from(STEMS))
    embed = (draw(st.sampled_from([5, 8])), 6)
    return Kit().network(*stages, embed=embed, stem=stem, pool="cls" if cls else "mean", norm=norm)


def _orders(network: Network, sizes: Mapping[str, int], generator: torch.Generator) -> dict[str, Map]:
    """A random order of every axis that bears one, for each head its own where that may be."""
    outer = nested(axes_of(network), axis_dims(describe(network)))
    maps: dict[str, Map] = {
        axis: Select(torch.randperm(size, generator=generator))
        for axis, size in sizes.items()
        if axis.endswith((".embed", ".width"))
    }
    for sublayer in network.walk():
        for name in sublayer.operator.symmetries:
            axis = f"{sublayer.place}.{name}"
            orders = [
                torch.randperm(sizes[axis], generator=generator) for _ in range(sizes.get(outer.get(axis, ""), 1))
            ]
            maps[axis] = SelectWithin(torch.stack(orders), outer[axis]) if axis in outer else Select(orders[0])
    return maps


def _rotation(size: int, generator: torch.Generator) -> Couple:
    """A rotation that takes the vector of ones to itself."""
    ones = torch.ones(size, 1, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([ones, _normal(generator, size, size - 1)], dim=1)).Q
    turn = torch.eye(size, dtype=torch.float64)
    turn[1:, 1:] = torch.linalg.qr(_normal(generator, size - 1, size - 1)).Q
    matrix = basis @ turn @ basis.T
    return Couple(matrix, matrix)


def _regauge(weights: dict[str, Tensor], prefix: str, axis: str, generator: torch.Generator) -> None:
    """In each head any invertible matrix on one side of a product, and its inverse on the other."""
    writer, bias = (f"{prefix}.{letter}{axis[0]}" for letter in "wb")
    heads, size, _ = weights[writer].shape
    g = torch.eye(size) + 0.5 * _normal(generator, heads, size, size)
    inverse = torch.linalg.inv(g)
    weights[writer], weights[bias] = g @ weights[writer], (g @ weights[bias][..., None])[..., 0]
    if axis == "v":
        weights[f"{prefix}.wo"] = torch.einsum("dhv,hvw->dhw", weights[f"{prefix}.wo"], inverse)
    else:
        for name, spec in (("wk", "hkl,hkd->hld"), ("bk", "hkl,hk->hl")):
            weights[f"{prefix}.{name}"] = torch.einsum(spec, inverse, weights[f"{prefix}.{name}"])


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)

"""Costs as sums over parts: exact where the operator's cost is a sum of products of sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.foreign.checkpoints import REFERENCES
from tests.networks import Form, assembled
from wb.compress.nvit.cost import Piece, Surface, alone, design, parameters_by_part, pieces
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.records import ConvStem, ImageInput, Lmu, Mlp, PatchStem, Pool, Sla, Softmax
from wb.foreign.importing import read_checkpoint
from wb.models.counting import count_parameters

SIZES = st.lists(st.integers(1, 64), min_size=1, max_size=4)


def planted(sizes: list[int], seed: int) -> tuple[Surface, Surface]:
    """A surface with random coefficients, some of them zero, and one fitted to what it says at the places of the design."""
    axes = tuple(f"a{i}" for i in range(len(sizes)))
    rng = np.random.default_rng(seed)
    coefficients = rng.random(2 ** len(sizes)) * (rng.random(2 ** len(sizes)) < 0.7)
    truth = Surface(axes, coefficients=coefficients)
    return truth, Surface(axes, {place: truth(place) for place in design(sizes)})


@settings(max_examples=40)
@given(sizes=SIZES, seed=st.integers(0, 2**16), data=st.data())
def test_a_surface_finds_planted_coefficients(sizes: list[int], seed: int, data: st.DataObject) -> None:
    truth, surface = planted(sizes, seed)
    surface.fit()
    place = [data.draw(st.integers(max(1, size // 4), size)) for size in sizes]
    assert surface(place) == pytest.approx(truth(place), rel=1e-6, abs=1e-9)
    assert surface.error() < 1e-6


@settings(max_examples=20)
@given(sizes=st.lists(st.integers(1, 64), min_size=5, max_size=5), seed=st.integers(0, 2**16), data=st.data())
def test_axes_that_do_not_meet_need_no_samples_together(sizes: list[int], seed: int, data: st.DataObject) -> None:
    groups, axes = ((0, 1), (1, 2, 3), (3, 4)), tuple("abcde")
    rng = np.random.default_rng(seed)
    truth = Surface(axes, coefficients=rng.random(4 + 8 + 4), groups=groups)
    places = design(sizes, extra=False, groups=groups)
    assert len(places) <= 4 + 8 + 4 - 2, "and each once"
    surface = Surface(axes, {place: truth(place) for place in places}, groups=groups)
    surface.fit()
    place = [data.draw(st.integers(max(1, size // 4), size)) for size in sizes]
    assert surface(place) == pytest.approx(truth(place), rel=1e-6)


@settings(max_examples=40)
@given(sizes=SIZES, seed=st.integers(0, 2**16), data=st.data())
def test_a_surface_never_falls_with_a_size(sizes: list[int], seed: int, data: st.DataObject) -> None:
    """Whatever was timed: noise must not make a smaller part dearer."""
    rng = np.random.default_rng(seed)
    surface = Surface(
        tuple(f"a{i}" for i in range(len(sizes))), {place: float(rng.random()) for place in design(sizes)}
    )
    surface.fit()
    place = [data.draw(st.integers(1, size)) for size in sizes]
    for i in range(len(sizes)):
        more = [size + (i == j) for j, size in enumerate(place)]
        assert surface(more) >= surface(place) >= 0


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=5), extra=st.booleans())
def test_the_design_has_all_corners_once(sizes: list[int], extra: bool) -> None:
    places = design(sizes, extra=extra)
    assert len(set(places)) == len(places)
    assert tuple(sizes) in places
    assert all(1 <= size <= most for place in places for size, most in zip(place, sizes, strict=True))
    corners = 2 ** sum(size > 1 for size in sizes)
    assert sum(all(s in (m, max(1, m // 4)) for s, m in zip(p, sizes, strict=True)) for p in places) >= corners


@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4), data=st.data())
def test_the_design_has_whole_multiples(sizes: list[int], data: st.DataObject) -> None:
    align = [data.draw(st.sampled_from([1, 8, 16])) for _ in sizes]
    for place in design(sizes, align):
        assert all(size == most or size % step == 0 for size, most, step in zip(place, sizes, align, strict=True))
        assert all(1 <= size <= most for size, most in zip(place, sizes, strict=True))


def architecture(image: ImageInput, norm: Form = "pre") -> Architecture:
    both = Block(mixer=Softmax(heads=2, qk=3, v=4, scale=0.5), ffn=Mlp(mlp=6))
    first = Stage(embed=8, blocks=(both, Block(), Block(mixer=Softmax(heads=1, qk=2, v=2)), Block(mixer=Pool())))
    rest = Stage(
        embed=10, blocks=(Block(mixer=Sla(heads=2, qk=3, v=4), ffn=Mlp(mlp=5)), Block(mixer=Lmu(memory=3, hidden=4)))
    )
    return assembled(input=image, stem=PatchStem(patch=2), stages=(first, rest), classes=3, norm=norm)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_parts_cover_the_network_once(image: ImageInput, norm: Form) -> None:
    """Parameters add up, every axis belongs to a part, and parts of one family cost the same at the same sizes."""
    a = architecture(image, norm)
    found = list(pieces(a))
    ends = count_parameters(alone(a, found[0])).value
    assert found[0].name == "ends"
    total = ends + sum(count_parameters(alone(a, piece)).value - ends for piece in found[1:])
    assert total == count_parameters(a).value
    assert {axis for piece in found for axis in piece.local} == set(axis_sizes(a))
    families = {piece.name: piece.family for piece in found}
    assert families["s0.b0.mixer"] == families["s0.b2.mixer"], "neither widths nor the value of a scale matter"
    assert families["s0.b0.ffn"] != families["s1.b0.ffn"], "the second stage has fewer tokens"
    assert len(set(families.values())) == len(families) - 1
    for piece in found[1:]:
        only = alone(a, piece)
        assert [p.name.rsplit(".", 1)[1] for p in list(pieces(only))[1:]] == [piece.name.rsplit(".", 1)[1]]
        assert list(pieces(only))[1].family == piece.family


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_parameters_by_part_add_up(image: ImageInput, norm: Form) -> None:
    a = architecture(image, norm)
    found = parameters_by_part(a)
    assert list(found) == [piece.name for piece in pieces(a)]
    assert sum(found.values()) == count_parameters(a).value
    assert all(count > 0 for count in found.values()), "a pool has a norm"
    assert parameters_by_part(a.bare()) == {"ends": found["ends"]}


def test_the_width_of_a_stem_comes_squared(image: ImageInput) -> None:
    """One convolution reads what another writes."""
    a = architecture(image).model_copy(update={"stem": ConvStem(patch=2, width=6)})
    ends = next(pieces(a))
    assert ends.squared == ("stem.width",)
    assert sorted(ends.place({"stem.width": 6, "s0.embed": 8, "s1.embed": 10})) == [6, 6, 8, 10]
    assert ends.groups == (("stem.width", "s0.embed"), ("s0.embed", "s1.embed"))


@pytest.mark.parametrize(("name", "samples"), [("hf-hiera", 96), ("timm-mobilenetv3", 40)])
def test_ends_of_many_stages_take_few_samples_and_are_exact(name: str, samples: int) -> None:
    """All corners of Hiera's 13 axes would be 8,192 networks."""
    a = read_checkpoint(REFERENCES / name).model.architecture
    ends = next(pieces(a))
    sizes = axis_sizes(a)
    whole = [sizes[axis] for axis in ends.local]
    places = design(whole, extra=False, groups=ends.grouped())
    assert len(places) <= samples
    found = {place: _parameters(a, ends, place) for place in places}
    surface = Surface(tuple(ends.local), found, groups=ends.grouped())
    surface.fit()
    less = tuple(max(1, size - 1) for size in whole)
    assert surface(less) == pytest.approx(_parameters(a, ends, less), rel=1e-6)


def _parameters(a: Architecture, ends: Piece, place: Sequence[int]) -> float:
    changed = resize(a, {**axis_sizes(a), **dict(zip(ends.local, place, strict=True))})
    return count_parameters(changed.bare()).value

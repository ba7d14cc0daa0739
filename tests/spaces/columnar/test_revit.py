from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.architecture import Architecture
from wb.core.errors import BadOption, NotInSpace
from wb.core.records import ImageInput, Mlp, Softmax
from wb.models.counting import count_macs, count_parameters
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import PRESETS, preset
from wb.spaces.columnar.revit import SEEDED, revit, revit_block, seed_architecture
from wb.spaces.columnar.space import Vit

IMAGE224 = ImageInput(channels=3, height=224, width=224, mean=(0.5,) * 3, std=(0.2,) * 3)


def published(embed: int) -> Architecture:
    return revit(embed, image=IMAGE224, classes=1000)


def widths(architecture: Architecture) -> list[tuple[int, int, int, int]]:
    found = []
    for _, _, block in architecture.blocks():
        assert isinstance(block.mixer, Softmax)
        assert isinstance(block.ffn, Mlp)
        found.append((block.mixer.heads, block.mixer.qk, block.mixer.v, block.ffn.mlp))
    return found


@pytest.mark.parametrize(
    ("embed", "outer", "middle"),
    [
        (192, (2, 8, 64, 576), (4, 16, 64, 1152)),
        (384, (4, 16, 64, 1152), (8, 40, 64, 2304)),
        (768, (8, 40, 64, 2304), (16, 80, 64, 4608)),
    ],
)
def test_blocks_4_to_9_of_12_are_twice_as_wide(
    embed: int, outer: tuple[int, int, int, int], middle: tuple[int, int, int, int]
) -> None:
    assert widths(published(embed)) == [outer] * 3 + [middle] * 6 + [outer] * 3


@given(st.integers(1, 2000), st.sampled_from([1, 2]))
def test_no_multiple_is_nearer_to_the_rule(embed: int, epsilon: int) -> None:
    block = revit_block(embed, epsilon)
    assert isinstance(block.mixer, Softmax)
    for width, exact, multiple in (
        (block.mixer.heads, Fraction(epsilon * embed, 100), 2),
        (block.mixer.qk, Fraction(epsilon * embed, 20), 8),
    ):
        assert width % multiple == 0
        assert abs(width - exact) <= Fraction(multiple, 2) or (width == multiple and exact < multiple)


@given(st.integers(1, 24))
def test_the_middle_half_of_any_depth(depth: int) -> None:
    wide = [i for i, found in enumerate(widths(revit(64, depth, image=IMAGE224, classes=3)), 1) if found[-1] == 6 * 64]
    assert wide == [n for n in range(1, depth + 1) if Fraction(depth, 4) < n <= Fraction(3 * depth, 4)]


@pytest.mark.parametrize(
    ("embed", "parameters", "stock", "near"),
    [(192, 5.46e6, "deit-tiny", 0.05), (384, 22.05e6, "deit-small", 2e-3), (768, 94.24e6, "deit-base", 0.09)],
)
def test_redistribution_keeps_about_the_size_of_deit(embed: int, parameters: float, stock: str, near: float) -> None:
    found = count_parameters(published(embed)).value
    assert found == pytest.approx(parameters, rel=2e-3)
    largest = Vit(preset(stock), IMAGE224, 1000).largest()
    assert found == pytest.approx(count_parameters(largest).value, rel=near)
    assert count_macs(published(embed)).value == pytest.approx(count_macs(largest).value, rel=0.12)


@pytest.mark.parametrize(("name", "embed"), [("revit-tiny", 192), ("revit-small", 384), ("revit-base", 768)])
def test_a_revit_preset_contains_its_seed_and_what_is_around_it(name: str, embed: int) -> None:
    space = Vit(preset(name), IMAGE224, 1000, preset=name)
    seed = seed_architecture(space)
    assert seed == published(embed)
    choices = space.encode(seed)
    assert space.decode(choices) == seed
    below = space.decode({**choices, **{f"b{i}.mlp": 3.0 for i in range(12)}})
    assert count_parameters(below).value < count_parameters(seed).value


@pytest.mark.parametrize(("side", "patch"), [(8, 2), (28, 2), (32, 4), (64, 8), (224, 16)])
def test_seeds_work_on_images_of_any_size(side: int, patch: int) -> None:
    image = ImageInput(channels=1, height=side, width=side, mean=(0.5,), std=(0.2,))
    for name in SEEDED:
        space = Vit(preset(name), image, 10, tuple("0123456789"), name)
        seed = seed_architecture(space)
        assert seed.stem.patch == patch
        assert space.decode(space.encode(seed)) == seed


def test_a_seed_follows_the_options_as_far_as_they_go() -> None:
    small = options_with(preset("revit-tiny"), {"embed": [32, 64], "depth": [2, 4]})
    space = Vit(small, IMAGE224, 10, preset="revit-tiny")
    assert seed_architecture(space) == revit(64, 4, image=IMAGE224, classes=10)
    assert space.encode(seed_architecture(space))["embed"] == 64
    narrow = Vit(options_with(preset("revit-tiny"), {"heads": [1, 2]}), IMAGE224, 10, preset="revit-tiny")
    with pytest.raises(NotInSpace, match=r"b3\.heads=4 is not in space"):
        narrow.encode(seed_architecture(narrow))


def test_other_presets_have_none() -> None:
    assert set(PRESETS) >= SEEDED
    with pytest.raises(
        BadOption, match="preset 'deit-small' has no seed architecture 'revit'; revit-base, revit-small"
    ):
        seed_architecture(Vit(preset("deit-small"), IMAGE224, 10, preset="deit-small"))

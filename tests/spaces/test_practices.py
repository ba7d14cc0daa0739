"""The best practices of space `vit`, on networks that keep to them and networks that do not."""

from __future__ import annotations

import random

import pytest

from wb.core.records import ImageInput
from wb.core.space import Option, Practised, random_choices
from wb.spaces.columnar.presets import PRESETS
from wb.spaces.columnar.space import Vit
from wb.spaces.practices import HYBRID, VIT, asked_of

IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.3,))
SPACE = Vit(PRESETS["tiny"], IMAGE, 10, preset="tiny")
GOOD: dict[str, Option] = {name: options[-1] for name, options in SPACE.genes.items()} | {"embed": 64}


def kept(**changes: Option) -> dict[str, bool]:
    choices = {**GOOD, **{name.replace("_", ".", 1): value for name, value in changes.items()}}
    return {name: keeps(choices) for name, keeps in SPACE.practices.items()}


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({"b0_heads": 4, "b1_heads": 4, "b2_heads": 4, "b3_heads": 4}, None),
        ({"b0_mixer": "none", "b0_mlp": 0}, "every block does something"),
        ({f"b{i}_mixer": "none" for i in range(4)}, "some block mixes tokens"),
        ({"b2_heads": 8, "b2_v": 16}, "heads are together no wider than the embedding"),
    ],
)
def test_each_practice_names_what_is_wrong(changes: dict[str, Option], broken: str | None) -> None:
    fitting = {f"b{i}_heads": 4 for i in range(4)}
    found = kept(**{**fitting, **changes})
    assert [name for name, keeps in found.items() if not keeps] == ([broken] if broken else [])


def test_blocks_beyond_the_depth_do_not_matter() -> None:
    few = {f"b{i}_heads": 1 for i in range(4)}
    assert all(kept(**{**few, "depth": 3, "b3_heads": 8}).values())
    assert not all(kept(**{**few, "depth": 4, "b3_heads": 8}).values())


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_has_many_networks_that_keep_to_all(name: str) -> None:
    side = 224 if name.startswith("deit") else 32
    space = Vit(PRESETS[name], IMAGE.model_copy(update={"height": side, "width": side}), 10, preset=name)
    assert isinstance(space, Practised)
    assert list(space.practices) == list(VIT)
    rng = random.Random(0)
    drawn = [random_choices(space, rng) for _ in range(100)]
    assert 5 < sum(all(keeps(choices) for keeps in space.practices.values()) for choices in drawn) < 95


@pytest.mark.parametrize(
    ("widths", "depths", "kept"),
    [
        ((16, 32, 32), (1, 2, 1), [True, True]),
        ((32, 16, 64), (1, 2, 1), [False, True]),
        ((16, 32, 64), (3, 2, 0), [True, False]),
    ],
)
def test_stages_get_wider_and_the_first_is_not_the_deepest(
    widths: tuple[int, ...], depths: tuple[int, ...], kept: list[bool]
) -> None:
    fixed: dict[str, Option] = {f"s{i}.embed": width for i, width in enumerate(widths)}
    choices: dict[str, Option] = {f"s{i}.depth": depth for i, depth in enumerate(depths)}
    assert [keeps(choices) for keeps in asked_of(HYBRID, fixed).values()] == kept

"""Which known networks are trained beside a search's finalists."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BadOption
from wb.core.records import ImageInput, Softmax
from wb.search.ending.known.baselines import MOST, WITHIN, check_baselines, comparable
from wb.spaces.columnar.options import VitOptions
from wb.spaces.columnar.presets import PLAIN, TINY
from wb.spaces.columnar.space import Vit
from wb.spaces.hybrid.presets import PRESETS as HYBRID
from wb.spaces.hybrid.published import offered
from wb.spaces.hybrid.space import Hybrid

DIGITS = ImageInput(channels=1, height=8, width=8, mean=(0.5,), std=(0.3,))
PHOTO = ImageInput(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3)
times = st.floats(0.01, 100)


@given(st.dictionaries(st.sampled_from("abcdefgh"), times, min_size=1), st.lists(times, min_size=1, max_size=6))
def test_comparable_networks_are_near_the_front_and_as_many_as_there_are(
    latencies: dict[str, float], front: list[float]
) -> None:
    names = comparable(latencies, front)
    near = {n for n, ms in latencies.items() if min(front) / WITHIN * 0.999 <= ms <= max(front) * WITHIN * 1.001}
    assert [latencies[name] for name in names] == sorted(latencies[name] for name in names)
    assert len(set(names)) == len(names)
    if set(names) <= near:
        assert min(MOST, len(near)) - 1 <= len(names) <= MOST
    else:  # none is near
        assert len(names) == 1


def test_they_are_spread_over_the_front() -> None:
    latencies = {"a": 0.1, "b": 0.11, "c": 0.12, "d": 0.32, "e": 1.0, "f": 9.0}
    assert comparable(latencies, [0.1, 0.5, 1.0]) == ["a", "d", "e"]
    assert comparable({"f": 9.0, "g": 8.0}, [0.1, 1.0]) == ["g"]


@pytest.mark.parametrize("options", [TINY, PLAIN], ids=["tiny", "plain"])
def test_ordinary_transformers_are_points_of_the_space(options: VitOptions) -> None:
    space = Vit(options, DIGITS, 10)
    assert len(space.known) == len(space.options.embed)
    for name, architecture in space.known.items():
        assert space.decode(space.encode(architecture)) == architecture
        (stage,) = architecture.stages
        assert name == f"transformer-{stage.embed}"
        mixers = [block.mixer for block in stage.blocks]
        assert all(isinstance(one, Softmax) and one.heads * one.qk >= min(stage.embed, 16) for one in mixers)
        assert len(mixers) == space.options.depth[len(space.options.depth) // 2]


def test_known_networks_of_stages_are_the_published_ones() -> None:
    for options in HYBRID.values():
        assert tuple(Hybrid(options, PHOTO, 5).known) == offered(options)


def test_a_space_without_known_networks_is_refused() -> None:
    space = Vit(TINY.model_copy(update={"mixer": ("none", "pool")}), DIGITS, 10)
    with pytest.raises(BadOption, match="space 'vit' with these options has no known network"):
        check_baselines(space)
    check_baselines(Vit(TINY, DIGITS, 10))

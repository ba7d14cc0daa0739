"""A supernet that starts from a model: the space around it, and its axes sorted without changing what it computes."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from tests.networks import assembled, hybrid, of_digits, wired
from wb.core.architecture import Architecture, Block, Stage, axes_of_part, axis_sizes, resize
from wb.core.errors import BadData, BadOption
from wb.core.records import ImageInput, Mlp, PatchStem
from wb.core.records.attention import Linear
from wb.core.records.ffns import Glu
from wb.core.space import random_choices
from wb.data import Dataset
from wb.models.axes import Leading
from wb.models.model import Model, remap_model
from wb.search.beginning.config import SearchConfig
from wb.search.supernet import Supernet
from wb.search.trained.start import sorted_axes, space_of, started
from wb.spaces.columnar.around import around, space_around

GATED = assembled(
    input=ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,)),
    stem=PatchStem(patch=4),
    stages=(Stage(embed=8, blocks=(Block(mixer=Linear(heads=3, qk=4, v=6), ffn=Glu(mlp=12)),) * 2),),
    pool="cls",
)


OWN = of_digits(depth=1).with_blocks(
    lambda _, block: Block(
        mixer=block.mixer and block.mixer.model_copy(update={"qkv_bias": False, "scale": 0.3}),
        ffn=Mlp(mlp=24, activation="relu"),
    )
)


@pytest.mark.parametrize("a", [OWN, GATED, wired(of_digits(depth=3), "post")])
def test_the_space_around_a_network_has_it_as_the_largest_and_smaller_ones(a: Architecture) -> None:
    space = space_around(a, around(a))
    assert space.largest() == a
    small = axis_sizes(space.smallest())
    assert all(size <= axis_sizes(a)[axis] for axis, size in small.items())
    assert small["s0.embed"] == a.stages[0].embed / 4
    rng = random.Random(0)
    for _ in range(20):
        other = space.decode(random_choices(space, rng))
        assert space.decode(space.encode(other)) == other
        shared = {name: part for name, part in other.parts() if type(part) is type(dict(a.parts())[name])}
        for name, part in shared.items():
            sizes = {axis: axis_sizes(other)[axis] for axis in axes_of_part(name, part)}
            assert part == dict(resize(a, sizes).parts())[name], "its settings are the network's"


def test_what_space_vit_lacks_is_refused() -> None:
    narrow = resize(of_digits(), {"s0.b1.mlp": 7})
    shallow = of_digits().with_blocks(lambda name, block: Block() if name == "s0.b0" else block)
    same = "blocks are not all alike"
    for a, said in (hybrid(), "it has 2 stages"), (narrow, same), (shallow, same):
        with pytest.raises(BadOption, match=f"{said}.*without --supernet takes it"):
            around(a)


def test_sorted_axes_change_nothing_and_the_leading_entries_do_most(striped: Model, stripes: Dataset) -> None:
    x = torch.from_numpy(stripes.train.pixels())
    found = sorted_axes(striped, x)
    with torch.no_grad():
        whole = striped.network()(x)
        torch.testing.assert_close(found.network()(x), whole, rtol=1e-3, atol=1e-3)
        for part in ("mlp", "heads", "qk", "v", "embed"):
            half = {axis: size // 2 for axis, size in axis_sizes(striped.architecture).items() if axis.endswith(part)}
            missed = []
            for model in (found, striped):
                cut = remap_model(model, {axis: Leading(size) for axis, size in half.items()})
                missed.append((cut.network()(x) - whole).square().mean().item())
            assert missed[0] < missed[1], part


def test_the_largest_network_of_the_supernet_is_the_model(striped: Model, stripes: Dataset) -> None:
    changes = around(striped.architecture) | {"mixer": "none,linear,softmax"}
    space = space_around(striped.architecture, changes)
    supernet = Supernet.of(space, striped, 0)
    again = supernet.extract(striped.architecture, stripes.train)
    assert again.fingerprint() == striped.fingerprint()
    assert supernet.run(space.smallest(), torch.from_numpy(stripes.train.pixels()[:2])).isfinite().all()


def test_the_model_is_in_the_space_of_its_own_and_of_no_other(striped: Model, stripes: Dataset) -> None:
    options = started({"data": "stripes"}, striped)
    assert space_of(SearchConfig.model_validate(options), stripes).largest() == striped.architecture
    with pytest.raises(BadOption, match="not the largest of the space around it"):
        started({"changes": {"heads": "1"}}, striped)
    with pytest.raises(BadData, match="classes"):
        space_of(SearchConfig.model_validate(options), replace(stripes, classes=("a", "c", "b")))
    with pytest.raises(BadOption, match="--preset says another space"):
        started({"preset": "small"}, striped)

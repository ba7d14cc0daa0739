"""A supernet that starts from a model: the space around it, and its axes sorted without changing what it computes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.networks import assembled, hybrid, of_digits, wired
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.errors import BadOption
from wb.core.records import ImageInput, PatchStem
from wb.core.records.attention import Linear
from wb.core.records.ffns import Glu
from wb.data import Dataset
from wb.models.axes import Leading
from wb.models.model import Model, remap_model
from wb.search.config import SearchConfig
from wb.search.supernet import Supernet
from wb.search.trained.start import sorted_axes, space_of, started
from wb.spaces.around import PRESET, around
from wb.spaces.options import options_with
from wb.spaces.presets import PLAIN, vit_space
from wb.spaces.vit import Vit

GATED = assembled(
    input=ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,)),
    stem=PatchStem(patch=4),
    stages=(Stage(embed=8, blocks=(Block(mixer=Linear(heads=3, qk=4, v=6), ffn=Glu(mlp=12)),) * 2),),
    pool="cls",
)


@pytest.mark.parametrize("a", [of_digits(depth=1), GATED, wired(of_digits(depth=3), "post")])
def test_the_space_around_a_network_has_it_as_the_largest_and_smaller_ones(a: Architecture) -> None:
    single = {"norm", "wiring", "position", "patch", "pool"}
    changes = {name: text if name in single else text.split(",") for name, text in around(a).items()}
    space = Vit(options_with(PLAIN, changes), a.input, a.head.classes, a.head.labels)
    assert space.largest() == a
    small = axis_sizes(space.smallest())
    assert all(size <= axis_sizes(a)[axis] for axis, size in small.items())
    assert small["s0.embed"] == a.stages[0].embed / 4


def test_what_space_vit_lacks_is_refused() -> None:
    for a, said in (hybrid(), ""), (resize(of_digits(), {"s0.b1.mlp": 7}), "its blocks are not all alike"):
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
    space = vit_space(stripes, PRESET, changes)
    supernet = Supernet.of(space, striped, 0)
    again = supernet.extract(striped.architecture, stripes.train)
    assert again.fingerprint() == striped.fingerprint()
    assert supernet.run(space.smallest(), torch.from_numpy(stripes.train.pixels()[:2])).isfinite().all()


def test_the_model_is_in_the_space_of_its_own_and_of_no_other(striped: Model, stripes: Dataset) -> None:
    options = started({"data": "stripes"}, striped)
    assert space_of(SearchConfig.model_validate(options), stripes).largest() == striped.architecture
    smaller = {**options, "changes": {**options["changes"], "heads": "1"}}
    with pytest.raises(BadOption, match="--set names other largest sizes"):
        space_of(SearchConfig.model_validate(smaller), stripes)
    with pytest.raises(BadOption, match="classes are others"):
        space_of(SearchConfig.model_validate(options), replace(stripes, classes=("a", "c", "b")))
    with pytest.raises(BadOption, match="--preset says another space"):
        started({"preset": "small"}, striped)

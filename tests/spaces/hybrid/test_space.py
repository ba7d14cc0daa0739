"""Space `hybrid`: laws of a space, shared weights, published networks, and what is refused."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from wb.core.architecture import Architecture
from wb.core.errors import BadData, BadOption, NotInSpace
from wb.core.layout import Layout
from wb.core.records import ImageInput
from wb.core.records.attention import MaskUnit, Window
from wb.core.records.merges import QPool
from wb.core.space import random_choices
from wb.data import Dataset, load
from wb.data.split import Images
from wb.export.graph import export
from wb.models.counting import count_parameters
from wb.models.network import build
from wb.search.beginning.config import SEED_NAMES
from wb.search.supernet import Supernet
from wb.spaces.columnar.space import Vit
from wb.spaces.hybrid.options import HybridOptions, StageOptions
from wb.spaces.hybrid.presets import PRESETS, default_for
from wb.spaces.hybrid.published import PUBLISHED, offered
from wb.spaces.hybrid.space import Hybrid
from wb.spaces.operators import squared
from wb.spaces.spaces import space_for
from wb.training.recipes.recipe import Recipe
from wb.training.train import train

WIDTHS_OF = ("wide", "middle", "narrow")
PHOTO = ImageInput(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3)
WIDE = HybridOptions(
    stem_width=(8, 16),
    stages=(
        StageOptions(
            embed=(8, 16), depth=(0, 1), kernel=(3, 5), ffn=("inverted", "fused"), ratio=(1, 4), mid=(0, 3), se=(0, 0.5)
        ),
        StageOptions(
            embed=(16,), depth=(1, 2), mixer=("none", "pool", "softmax"), act=("relu", "silu"), merge=("dw3", "conv3")
        ),
        StageOptions(
            embed=(16, 32), depth=(0, 1), mixer=("softmax", "linear"), merge=("conv", "qpool"), channels=(8, 16)
        ),
    ),
)


@pytest.fixture(params=["wide", *PRESETS])
def space(request: pytest.FixtureRequest) -> Hybrid:
    return Hybrid(WIDE if request.param == "wide" else PRESETS[request.param], PHOTO, 5)


def drawn(space: Hybrid, count: int = 60) -> list[Architecture]:
    """Random networks of the space."""
    rng = random.Random(0)
    return [space.decode(random_choices(space, rng)) for _ in range(count)]


def test_choices_are_read_back(space: Hybrid) -> None:
    rng = random.Random(1)
    for _ in range(100):
        choices = random_choices(space, rng)
        architecture = space.decode(choices)
        assert space.encode(architecture) == choices
        assert space.decode(space.encode(architecture)) == architecture


def test_every_network_has_the_same_traits(space: Hybrid) -> None:
    """Also those with stages of tokens, whose feed-forward is no choice."""
    rng = random.Random(3)
    found = [space.traits(random_choices(space, rng)) for _ in range(40)]
    assert len({len(traits) for traits in found}) == 1


def test_equal_networks_have_equal_choices_and_active_genes_matter(space: Hybrid) -> None:
    rng = random.Random(2)
    for _ in range(20):
        choices = random_choices(space, rng)
        for gene, options in space.genes.items():
            other = {**choices, gene: next(option for option in options if option != choices[gene])}
            assert (space.decode(other) != space.decode(choices)) == (gene in space.active(choices)), gene


def test_every_network_has_traits(space: Hybrid) -> None:
    rng = random.Random(3)
    networks = [random_choices(space, rng) for _ in range(20)]
    assert any(stage.plane == "tokens" for one in networks for stage in space.decode(one).stages)
    found = np.array([space.traits(choices) for choices in networks])
    assert np.isfinite(found).all()
    assert len(np.unique(found, axis=0)) == len({space.decode(one).key for one in networks})


def test_the_store_has_the_weights_of_every_network(space: Hybrid) -> None:
    supernet = Supernet.fresh(space, 0)
    for architecture in drawn(space, 10):
        views, network = supernet.views(architecture), build(architecture, "meta")
        for name, weight in network.named_parameters():
            assert name in network.statistics() or views[name].shape == weight.shape


def test_smaller_kernels_are_the_centre_of_larger_ones() -> None:
    space = Hybrid(WIDE, PHOTO, 5)
    supernet, last = Supernet.fresh(space, 0), {name: options[-1] for name, options in space.genes.items()}
    small, large = (supernet.views(space.decode({**last, "s0.kernel": side})) for side in (3, 5))
    name = "stages.0.0.mixer.filters"
    assert small[name].data_ptr() == large[name][:, :, 1:4, 1:4].data_ptr()


def test_published_networks_are_there_or_say_how_they_would_be() -> None:
    every = {"kernel": "3,5,7", "ratio": "1,2,3,4", "act": "relu,gelu", "merge": "dw3,conv,conv3", "se": "0,0.25"}
    whole = Hybrid(PRESETS["tiny28"].replaced({**every, "mixer": "none,pool,depthwise,softmax,window,mask"}), PHOTO, 5)
    found = {name: whole.seeds[name]() for name in PUBLISHED}
    assert len({architecture.key for architecture in found.values()}) == len(PUBLISHED)
    assert all(whole.decode(whole.encode(one)) == one for one in found.values())
    with pytest.raises(BadOption, match=r"does not offer s0\.mixer='pool'.*--set s0\.mixer=none,depthwise,pool"):
        Hybrid(PRESETS["tiny28"], PHOTO, 5).seeds["poolformer"]()


def test_published_networks_differ_and_are_those_of_the_search() -> None:
    assert set(SEED_NAMES) >= set(PUBLISHED)
    for options in PRESETS.values():
        space = Hybrid(options, PHOTO, 5)
        found = {name: space.seeds[name]() for name in offered(options)}
        assert len({architecture.key for architecture in found.values()}) == len(found) >= 4
        assert all(space.decode(space.encode(one)) == one for one in (*found.values(), space.usual()))
        for name in PUBLISHED.keys() - found.keys():
            with pytest.raises(BadOption, match=f"makes a {name} network; widen it with --set"):
                space.seeds[name]()


def test_regular_networks_are_the_published_ones_at_three_widths(space: Hybrid) -> None:
    found = space.regular
    assert len({one.key for one in found.values()}) == len(found) == 3 * len(offered(space.options))
    assert all(space.decode(space.encode(one)) == one for one in found.values())
    for name in offered(space.options):
        wide, middle, narrow = (count_parameters(found[f"{name}, {width}"]).value for width in WIDTHS_OF)
        assert wide > middle >= narrow
        assert found[f"{name}, middle"] == space.seeds[name]()


def test_what_the_error_says_widens_the_space() -> None:
    for name in PUBLISHED.keys() - set(offered(PRESETS["tiny28"])):
        with pytest.raises(BadOption) as refused:
            Hybrid(PRESETS["tiny28"], PHOTO, 5).seeds[name]()
        changes = dict(re.findall(r"--set (\S+)=([^\s,]+(?:,[^\s,]+)*)", str(refused.value)))
        Hybrid(PRESETS["tiny28"].replaced(changes), PHOTO, 5).seeds[name]()


@pytest.mark.parametrize(("preset", "name"), [(p, name) for p, options in PRESETS.items() for name in offered(options)])
def test_published_networks_are_built_trained_and_exported(preset: str, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    architecture, rng = Hybrid(PRESETS[preset], PHOTO, 5).seeds[name](), np.random.default_rng(0)
    split = Images(rng.random((8, 3, 32, 32), dtype=np.float32), rng.integers(5, size=8))
    data = Dataset("noise", "noise", split, split, split, tuple("abcde"), "0")
    before, after = (train(architecture, data, Recipe(epochs=1, batch=8, learning_rate=rate)) for rate in (0.0, 0.01))
    moved = [name for name, weight in after.weights.items() if not torch.equal(weight, before.weights[name])]
    assert len(moved) > 0.9 * len(after.weights)
    assert export(after, tmp_path / "a.onnx").value < 1e-4


def test_every_second_block_of_windows_is_shifted() -> None:
    space = Hybrid(
        PRESETS["small64"].replaced({"s2.depth": "4"}), PHOTO.model_copy(update={"height": 64, "width": 64}), 5
    )
    mixers = [block.mixer for block in space.seeds["swin"]().stages[2].blocks]
    assert [isinstance(mixer, Window) and (mixer.window, mixer.shift) for mixer in mixers] == [
        (4, False),
        (4, True),
    ] * 2


@pytest.mark.parametrize(
    ("part", "shape", "even", "side"),
    [
        (Window(heads=1, qk=4, v=4), (14, 14), False, 7),
        (Window(heads=1, qk=4, v=4), (8, 8), False, 4),
        (Window(heads=1, qk=4, v=4), (5, 5), False, 7),  # one window
        (MaskUnit(heads=1, qk=4, v=4), (16, 24), False, 8),
        (MaskUnit(heads=1, qk=4, v=4), (14, 14), False, 7),
        (QPool(heads=1, qk=4, v=4), (28, 28), True, 4),
        (QPool(heads=1, qk=4, v=4), (14, 14), True, 14),
    ],
)
def test_squares_fit_the_picture(
    part: Window | MaskUnit | QPool, shape: tuple[int, ...], even: bool, side: int
) -> None:
    found = squared(part, Layout(shape), even=even)
    assert getattr(found, "window", getattr(found, "side", 0)) == side
    assert found.refuses(Layout(shape)) is None


def test_a_network_beside_the_space_names_what_would_widen_it() -> None:
    space = Hybrid(PRESETS["tiny28"], PHOTO, 5)
    wider = Hybrid(PRESETS["tiny28"].replaced({"s1.embed": "32,48,64,80"}), PHOTO, 5)
    other = wider.decode({**wider.encode(space.largest()), "s1.embed": 80})
    with pytest.raises(NotInSpace, match=r"s1\.embed=80 is not in space 'hybrid'"):
        space.encode(other)
    assert space.widening(other) == "--set s1.embed=32,48,64,80"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embd": "8"}, "no field 'embd'.*did you mean 'embed'"),
        ({"s7.embed": "8"}, r"no field 's7\.embed'"),
        ({"s0.embed": "16,8"}, "from small to large"),
        ({"kernel": "3,4"}, "a kernel cannot be 4 wide; choose 3, 5 or 7"),
        ({"mid": "0,9"}, "choose 3, 5 or 7, or 0"),
        ({"s1.mixer": "fourier"}, "'fourier' is not known"),
        ({"patch": "x"}, "patch"),
    ],
)
def test_wrong_options(changes: dict[str, str], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        PRESETS["tiny28"].replaced(changes)


def test_images_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(BadData, match=r"images of 28x31 cannot be halved as often as 3 stages need.*multiples of 8"):
        Hybrid(PRESETS["tiny28"], PHOTO.model_copy(update={"height": 28, "width": 31}), 5)


def test_convolutions_halve_odd_sides() -> None:
    space = Hybrid(PRESETS["tiny28"], PHOTO.model_copy(update={"height": 28, "width": 30}), 5)
    for architecture in (space.smallest(), space.largest(), *space.tops()):
        assert [layout.shape for layout in architecture.layouts()] == [(14, 15), (7, 8), (4, 4)]
        assert space.decode(space.encode(architecture)) == architecture


def test_merges_that_cannot_halve_the_images_are_left_out() -> None:
    image = PHOTO.model_copy(update={"height": 28, "width": 28})
    space = Hybrid(PRESETS["tiny28"].replaced({"merge": "dw3,conv"}), image, 5)
    assert [stage.merge for stage in space.options.stages[1:]] == [("dw3", "conv"), ("dw3",)]
    with pytest.raises(BadData, match="cannot be halved"):
        Hybrid(PRESETS["tiny28"].replaced({"merge": "conv"}), image, 5)


@pytest.mark.parametrize(
    ("height", "width", "preset"),
    [
        (24, 24, "tiny28"),
        (32, 32, "tiny28"),
        (64, 64, "small64"),
        (96, 64, "small64"),
        (56, 56, "small64"),
        (28, 28, "tiny28"),
        (100, 98, "small64"),
        (112, 112, "photo224"),
        (224, 224, "photo224"),
        (256, 256, "photo224"),
    ],
)
def test_the_preset_follows_from_the_size_of_the_images(height: int, width: int, preset: str) -> None:
    image = PHOTO.model_copy(update={"height": height, "width": width})
    assert default_for(image) == preset


def test_images_that_no_preset_suits_are_refused_with_a_size_that_one_does() -> None:
    image = PHOTO.model_copy(update={"height": 101, "width": 101})
    with pytest.raises(BadData, match="multiples of 16 can always be; choose --image-size 96") as refused:
        Hybrid(PRESETS[default_for(image)], image, 5)
    assert "4 stages" in str(refused.value)
    Hybrid(PRESETS["small64"], PHOTO.model_copy(update={"height": 96, "width": 96}), 5)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load("digits", limit=100)


def test_the_space_follows_from_the_images_unless_it_is_named(digits: Dataset) -> None:
    larger = load("digits", limit=100, image_size=24)
    assert isinstance(space_for(digits), Vit)
    assert isinstance(space_for(larger), Hybrid)
    assert isinstance(space_for(larger, preset="small"), Vit)
    assert isinstance(space_for(larger, "vit"), Vit)
    with pytest.raises(BadOption, match=r"no preset 'tiny29' .did you mean 'tiny28'"):
        space_for(larger, "hybrid", "tiny29")

"""Space `hybrid`: laws of a space, shared weights, published networks, and what is refused."""

from __future__ import annotations

import random

import pytest

from wb.core.architecture import Architecture
from wb.core.errors import BadData, BadOption, NotInSpace
from wb.core.records import ImageInput
from wb.core.space import random_choices
from wb.data import Dataset, load
from wb.models.network import build
from wb.search.supernet import Supernet
from wb.spaces.hybrid import Hybrid
from wb.spaces.hybrid_options import HybridOptions, StageOptions
from wb.spaces.hybrid_presets import PRESETS
from wb.spaces.published import PUBLISHED
from wb.spaces.spaces import space_for
from wb.spaces.vit import Vit

PHOTO = ImageInput(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.2,) * 3)
WIDE = HybridOptions(
    stem_width=(8, 16),
    stages=(
        StageOptions(embed=(8, 16), depth=(0, 1), kernel=(3, 5), ffn=("inverted", "fused"), ratio=(1, 2), mid=(0, 3)),
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


def test_the_store_has_the_weights_of_every_network(space: Hybrid) -> None:
    supernet = Supernet.fresh(space, 0)
    for architecture in drawn(space, 20):
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
    every = {"kernel": "3,5,7", "ratio": "1,2,3,4", "act": "relu,gelu", "merge": "dw3,conv,conv3"}
    whole = Hybrid(PRESETS["tiny28"].replaced({**every, "mixer": "none,pool,depthwise,softmax"}), PHOTO, 5)
    found = {name: whole.seeds[name]() for name in PUBLISHED}
    assert len({architecture.key for architecture in found.values()}) == len(PUBLISHED)
    assert all(whole.decode(whole.encode(one)) == one for one in found.values())
    with pytest.raises(BadOption, match=r"does not offer s0\.mixer='pool'.*--set s0\.mixer=none,depthwise,pool"):
        Hybrid(PRESETS["tiny28"], PHOTO, 5).seeds["poolformer"]()


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
    with pytest.raises(BadData, match=r"images of 28x30 cannot be halved as often as 3 stages need.*multiples of 8"):
        Hybrid(PRESETS["tiny28"], PHOTO.model_copy(update={"height": 28, "width": 30}), 5)


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

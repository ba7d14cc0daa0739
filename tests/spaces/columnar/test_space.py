from __future__ import annotations

import random

import pytest

from tests.networks import wired
from wb.core.architecture import Architecture, Block
from wb.core.errors import BadData, BadOption, NotInSpace
from wb.core.layout import Layout
from wb.core.records import FFNS, MIXERS, NORMS, POSITIONS, WIRINGS, Ffn, ImageInput, Mlp, Pool, kind_of
from wb.core.space import canonical, random_choices
from wb.models.block import build_operator
from wb.models.counting import count_macs, count_parameters, operator_macs
from wb.spaces.columnar.options import options_with, smallest_patch
from wb.spaces.columnar.presets import PRESETS, TINY, preset
from wb.spaces.columnar.space import Vit
from wb.spaces.operators import ffn_of

IMAGE224 = ImageInput(channels=3, height=224, width=224, mean=(0.5,) * 3, std=(0.2,) * 3)


@pytest.fixture(params=list(PRESETS))
def any_space(request: pytest.FixtureRequest) -> Vit:
    return Vit(PRESETS[request.param], IMAGE224, 10)


def test_encode_inverts_decode_everywhere(any_space: Vit) -> None:
    rng = random.Random(0)
    for _ in range(100):
        choices = random_choices(any_space, rng)
        architecture = any_space.decode(choices)
        assert any_space.encode(architecture) == choices
        assert any_space.decode(any_space.encode(architecture)) == architecture


def test_encode_inverts_decode_where_widths_are_rounded(image: ImageInput) -> None:
    space, rng = Vit(options_with(TINY, {"mlp": [0, 0.3, 0.7, 1.3], "embed": [7, 10]}), image, 3), random.Random(0)
    for _ in range(100):
        a = space.decode(random_choices(space, rng))
        assert space.decode(space.encode(a)) == a


def test_the_order_in_which_options_are_given_does_not_matter(image: ImageInput) -> None:
    """The smallest and the largest network depend on it."""
    given = options_with(TINY, {"mixer": ["softmax", "pool"], "stem": ["conv", "patch"]})
    assert given.mixer == ("pool", "softmax")
    assert given.stem == ("patch", "conv")
    with pytest.raises(BadOption, match="names one twice"):
        options_with(TINY, {"mixer": ["pool", "pool"]})
    with pytest.raises(BadOption, match="a convolutional stem cannot have patch=1"):
        Vit(options_with(TINY, {"patch": 1}), image, 3)


def test_a_gene_is_active_just_where_it_changes_the_architecture(any_space: Vit) -> None:
    rng = random.Random(1)
    for _ in range(10):
        choices = random_choices(any_space, rng)
        active = any_space.active(choices)
        before = any_space.decode(choices)
        for name, options in any_space.genes.items():
            others = [any_space.decode({**choices, name: option}) for option in options if option != choices[name]]
            assert any(other != before for other in others) is (name in active), name


def test_sizes_follow_from_the_image(image: ImageInput) -> None:
    assert Vit(TINY, image, 10).patch == 2
    sides = {8: 2, 28: 4, 32: 4, 64: 8, 224: 32}
    for side, patch in sides.items():
        shape = image.model_copy(update={"height": side, "width": side})
        assert smallest_patch(shape, 8) == patch, side
    with pytest.raises(BadData, match="images of 7x9 cannot be cut into patches"):
        Vit(TINY, image.model_copy(update={"height": 7, "width": 9}), 10)


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [("deit-tiny", 1.254e9, 5.717e6), ("deit-small", 4.6e9, 22.05e6), ("deit-base", 17.56e9, 86.57e6)],
)
def test_the_largest_of_a_deit_preset_is_the_published_network(name: str, macs: float, parameters: float) -> None:
    largest = Vit(preset(name), IMAGE224, 1000).largest()
    assert count_macs(largest).value == pytest.approx(macs, rel=2e-3)
    assert count_parameters(largest).value == pytest.approx(parameters, rel=2e-3)


def test_the_smallest_and_the_largest_bound_all_others(image: ImageInput) -> None:
    space, rng = Vit(TINY, image, 10), random.Random(2)
    smallest = count_parameters(space.smallest()).value
    largest = max(count_parameters(top).value for top in space.tops())
    for _ in range(30):
        assert smallest <= count_parameters(space.decode(random_choices(space, rng))).value <= largest


def test_wide_and_shallow_shapes_are_inside(image: ImageInput) -> None:
    space = Vit(TINY, image, 10)
    choices = {name: options[-1] for name, options in space.genes.items()} | {"depth": 1}
    (block,) = space.decode(canonical(space, choices)).stages[0].blocks
    assert block.mixer is not None
    assert block.mixer.kind == "softmax"
    assert block.mixer.heads * block.mixer.v > 64


def test_what_is_outside_is_named(image: ImageInput) -> None:
    space = Vit(TINY, image, 10)
    choices = random_choices(space, random.Random(3))
    with pytest.raises(NotInSpace, match=r"depth=13 is not in space 'vit' \(1, 2, 3, 4\)"):
        space.decode({**choices, "depth": 13})
    with pytest.raises(NotInSpace, match="choice 'embed' is missing"):
        space.decode({name: value for name, value in choices.items() if name != "embed"})
    with pytest.raises(NotInSpace, match="no choice named colour"):
        space.decode({**choices, "colour": "red"})
    small = space.smallest()
    odd = small.model_copy(update={"stages": (small.stages[0].model_copy(update={"embed": 9}),)})
    with pytest.raises(NotInSpace, match="embed=9 is not in space 'vit'"):
        space.encode(odd)
    block = Block(mixer=Pool(kernel=5), ffn=Mlp(mlp=8))
    other = small.model_copy(update={"stages": (small.stages[0].model_copy(update={"blocks": (block,)}),)})
    with pytest.raises(NotInSpace, match="operator settings are others"):
        space.encode(Architecture.model_validate(other.model_dump()))
    for a in (small, odd):
        with pytest.raises(NotInSpace, match="is post-norm, but space 'vit' has pre-norm networks only; give one with"):
            space.encode(wired(a, "post"))


@pytest.mark.parametrize("norm", [kind_of(norm) for norm in NORMS])
@pytest.mark.parametrize("wiring", [kind_of(wiring) for wiring in WIRINGS])
def test_all_networks_of_a_space_have_one_norm_and_one_wiring(image: ImageInput, norm: str, wiring: str) -> None:
    space, rng = Vit(options_with(TINY, {"norm": norm, "wiring": wiring}), image, 10), random.Random(0)
    plain = Vit(TINY, image, 10)
    for _ in range(10):
        a = space.decode(random_choices(space, rng))
        assert (a.norm.kind, {stage.wiring.kind for stage in a.stages}) == (norm, {wiring})
        assert a.last == (None if wiring == "post" else a.norm)
        assert space.decode(space.encode(a)) == a
        if norm != "layer" and wiring == "pre":
            with pytest.raises(
                NotInSpace, match="but space 'vit' has layer norm networks only; give one with norm='layer'"
            ):
                plain.encode(a)


@pytest.mark.parametrize("position", [kind_of(position) for position in POSITIONS])
def test_all_networks_of_a_space_have_positions_of_one_kind(image: ImageInput, position: str) -> None:
    space = Vit(options_with(TINY, {"position": position}), image, 10)
    a = space.decode(random_choices(space, random.Random(0)))
    assert a.position.kind == position
    assert space.decode(space.encode(a)) == a
    if position != "learned":
        with pytest.raises(NotInSpace, match="space 'vit' has networks with learned positions only; give one with pos"):
            Vit(TINY, image, 10).encode(a)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"embed": [32, 16]}, "from small to large"),
        ({"norm": "instance"}, "norm: .*'instance' is not known; expected some of layer"),
        ({"wiring": "crossed"}, "wiring: .*'crossed' is not known; expected some of pre, post"),
        (
            {"position": "rotary"},
            "position: .*'rotary' is not known; expected some of learned, sinusoid, tiled, nowhere",
        ),
        ({"mixer": ["fourier"]}, "mixer: .*'fourier' is not known; expected some of none, pool, lmu"),
        ({"width": [3]}, "no field 'width'"),
        ({"heads": [0]}, "heads.0"),
    ],
)
def test_wrong_options(changes: dict[str, object], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        options_with(TINY, changes)


def test_a_class_token_excludes_mixers_of_the_grid(image: ImageInput) -> None:
    with pytest.raises(BadOption, match="mixers pool, sla need the grid"):
        Vit(options_with(TINY, {"pool": "cls"}), image, 10)


def test_unknown_preset() -> None:
    with pytest.raises(BadOption, match="no preset 'huge'; there are tiny, plain, small"):
        preset("huge")


def test_every_width_of_a_mixer_may_have_options(image: ImageInput) -> None:
    """Also one that no preset names: an LMU's hidden layer."""
    space, rng = Vit(options_with(TINY, {"mixer": ["lmu"], "hidden": [3, 5]}), image, 3), random.Random(0)
    assert space.genes["b0.hidden"] == (3, 5)
    for _ in range(20):
        choices = random_choices(space, rng)
        architecture = space.decode(choices)
        assert {getattr(block.mixer, "hidden", None) for block in architecture.stages[0].blocks} <= {3, 5}
        assert space.encode(architecture) == choices
    with pytest.raises(BadOption, match=r"has no field 'hiden' \(did you mean 'hidden'\?\); its fields are .*features"):
        options_with(TINY, {"hiden": [3]})
    with pytest.raises(BadOption, match="from small to large"):
        options_with(TINY, {"hidden": [5, 3]})


OFFERED = [kind_of(ffn) for ffn in FFNS if "tokens" in ffn.supports.planes]


@pytest.mark.parametrize("ffns", [tuple(OFFERED), *[(kind,) for kind in OFFERED]])
def test_feed_forwards_are_chosen_by_name(image: ImageInput, ffns: tuple[str, ...]) -> None:
    space, rng = Vit(options_with(TINY, {"ffn": list(ffns)}), image, 3), random.Random(0)
    seen = set()
    for _ in range(40):
        choices = random_choices(space, rng)
        architecture = space.decode(choices)
        seen |= {block.ffn.kind for block in architecture.stages[0].blocks if block.ffn is not None}
        assert space.encode(architecture) == choices
    assert seen == set(ffns)
    tops = [{ffn.kind for ffn in _ffns(top)} for top in space.tops()]
    assert set().union(*tops) == set(ffns)


@pytest.mark.parametrize(("embed", "side"), [(64, 8), (192, 14)])
def test_feed_forwards_of_one_gene_cost_about_as_much(embed: int, side: int) -> None:
    """Parameters or multiply-accumulates are those of a perceptron, but for a factor of 1.6."""
    layout = Layout((side, side))
    costs = {}
    for kind in OFFERED:
        ffn = ffn_of(kind, 4, embed)
        module = build_operator(ffn, embed, layout, "meta")
        costs[kind] = sum(p.numel() for p in module.parameters()), operator_macs(ffn, embed, layout).value
    for kind, of in costs.items():
        beside = [own / usual for own, usual in zip(of, costs["mlp"], strict=True)]
        assert any(1 / 1.6 < ratio < 1.6 for ratio in beside), (kind, beside)


def _ffns(architecture: Architecture) -> list[Ffn]:
    return [block.ffn for block in architecture.stages[0].blocks if block.ffn is not None]


@pytest.mark.parametrize(
    "kind",
    [
        kind_of(mixer)
        for mixer in MIXERS
        if not mixer.untaught and mixer.unexported is None and "tokens" in mixer.supports.planes and mixer.supports.grid
    ],
)
def test_every_mixer_that_training_can_find_is_chosen_by_name(image: ImageInput, kind: str) -> None:
    space = Vit(options_with(TINY, {"mixer": [kind]}), image, 3)
    for architecture in (space.smallest(), space.largest()):
        assert {block.mixer.kind for block in architecture.stages[0].blocks if block.mixer is not None} == {kind}
        assert space.decode(space.encode(architecture)) == architecture


@pytest.mark.parametrize(("side", "window"), [(8, 4), (14, 7), (16, 4)])
def test_windows_divide_the_grid(side: int, window: int) -> None:
    """The side that is usual where it fits, else the largest smaller one that does."""
    large = ImageInput(channels=1, height=4 * side, width=4 * side, mean=(0.0,), std=(1.0,))
    space = Vit(options_with(TINY, {"mixer": ["window"], "patch": 4}), large, 3)
    for architecture in (space.smallest(), space.largest()):
        assert {getattr(block.mixer, "window", None) for block in architecture.stages[0].blocks} == {window}
        assert space.decode(space.encode(architecture)) == architecture

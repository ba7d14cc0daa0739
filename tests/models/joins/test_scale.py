"""LayerScale against its formula, in every wiring; how it begins, what it counts for and what fusion does with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tests.networks import WIRED, assembled, joined
from wb.compress.nvit.cost import parameters_by_part, pieces
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadOption, Unsupported
from wb.core.records import ImageInput, Mlp, PatchStem, Pool, Scale, Softmax
from wb.export.timing.blocks import parts
from wb.fusion.forms.canonical import canonical, restored
from wb.fusion.forms.compatible import check_together
from wb.fusion.forms.conform import conform
from wb.fusion.fuse import fuse
from wb.fusion.paper.paper import Paper
from wb.fusion.settings import Settings
from wb.models.counting import count_macs, count_parameters
from wb.models.model import from_network
from wb.models.network import Network, build

Per = Literal["channel", "layer"]
FACTORS: Mapping[Per, int] = {"channel": 6, "layer": 1}


def plain(image: ImageInput, norm: str = "pre") -> Architecture:
    block = Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=5))
    stages = (Stage(embed=6, blocks=(block, Block(), Block(mixer=Pool(kernel=3)))),)
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, norm=norm)


def drawn(architecture: Architecture) -> Network:
    built = build(architecture)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.4, generator=generator)
    return built.eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("per", FACTORS)
@pytest.mark.parametrize("norm", WIRED)
@torch.no_grad()
def test_what_is_added_is_multiplied(image: ImageInput, pictures: Tensor, norm: str, per: Per) -> None:
    """Against the same network without scales, whose outputs are multiplied by hooks."""
    built = drawn(joined(plain(image, norm), Scale(per=per)))
    other = build(plain(image, norm))
    weights = built.state_dict()
    other.load_state_dict({name: weight for name, weight in weights.items() if ".join" not in name})
    for at in other.walk():
        scale = weights[f"{at.join_prefix}.scale"]
        assert scale.numel() == FACTORS[per]
        at.operator.register_forward_hook(lambda _module, _inputs, output, scale=scale: output * scale)
    torch.testing.assert_close(built(pictures), other(pictures))


@pytest.mark.parametrize("per", FACTORS)
def test_it_begins_with_the_factor_of_its_record(image: ImageInput, per: Per) -> None:
    built = build(joined(plain(image), Scale(per=per, init=0.25)))
    built.reset()
    scales = [weight for name, weight in built.named_parameters() if ".join" in name]
    assert len(scales) == 3
    assert all((scale == 0.25).all() for scale in scales)


@pytest.mark.parametrize("init", [-0.1, 1.5, float("nan")])
def test_a_factor_out_of_range_is_refused(init: float) -> None:
    with pytest.raises(ValidationError, match="init"):
        Scale(init=init)


@pytest.mark.parametrize("per", FACTORS)
def test_it_has_parameters_and_no_products(image: ImageInput, per: Per) -> None:
    without = plain(image)
    scaled = joined(without, Scale(per=per))
    more = 3 * FACTORS[per]
    assert count_parameters(scaled).value == count_parameters(without).value + more
    assert count_macs(scaled).value == count_macs(without).value
    assert sum(parameters_by_part(scaled).values()) == count_parameters(scaled).value


def test_networks_without_it_are_written_as_before(image: ImageInput) -> None:
    assert "join" not in plain(image).to_json()
    assert plain(image).key != joined(plain(image), Scale()).key


def test_time_and_cost_depend_on_it_but_not_on_where_it_begins(image: ImageInput) -> None:
    given = [plain(image), *(joined(plain(image), s) for s in (Scale(), Scale(init=0.1), Scale(per="layer")))]
    for found in (
        [[part.key for part in parts(a)][1:] for a in given],
        [[piece.family for piece in pieces(a)][1:] for a in given],
    ):
        assert found[1] == found[2]
        assert not {*found[0]} & {*found[1]}
        assert not {*found[1]} & {*found[3]}


@pytest.mark.parametrize("norm", WIRED)
def test_the_canonical_form_takes_it_over_where_there_are_weights(image: ImageInput, norm: str) -> None:
    architecture = joined(plain(image, norm), Scale())
    model = from_network(architecture, drawn(architecture))
    found = canonical(model)
    back = restored(found, model)
    for at in build(architecture, "meta").walk():
        name = f"{at.join_prefix}.scale"
        folded = torch.ones(6) if at.writers else model.weights[name]
        assert torch.equal(found.weights[name], folded)
        assert torch.equal(back.weights[name], model.weights[name])


def test_networks_with_and_without_it_are_not_fused(image: ImageInput) -> None:
    with pytest.raises(Unsupported, match=r"joins layer scale per channel and .* has none"):
        check_together([plain(image), joined(plain(image), Scale())], ["one", "other"], 0)
    alike = [joined(plain(image), scale).with_labels(("a", "b", "c")) for scale in (Scale(), Scale(init=0.1))]
    assert not check_together(alike, ["one", "other"], 0)
    (stage,) = alike[0].stages
    empty = alike[0].model_copy(update={"stages": (stage.model_copy(update={"blocks": ()}),)})
    assert not check_together([alike[0], empty], ["one", "other"], 0), "without blocks there is nothing to differ in"


def test_depth_grows_by_blocks_that_have_one_and_add_nothing(image: ImageInput, pictures: Tensor) -> None:
    architecture = joined(plain(image), Scale())
    (stage,) = architecture.stages
    deeper = architecture.model_copy(
        update={"stages": (stage.model_copy(update={"blocks": stage.blocks + stage.blocks}),)}
    )
    model = from_network(architecture, drawn(architecture))
    grown = conform(canonical(model), deeper, origins=((0, None, 2, None, None, None),))
    torch.testing.assert_close(grown.network()(pictures), model.network()(pictures), rtol=1e-4, atol=1e-4)
    with pytest.raises(BadOption, match="kind of join of the target is none"):
        conform(canonical(model), plain(image))


def test_the_published_transport_refuses_it(image: ImageInput) -> None:
    block = Block(mixer=Softmax(heads=2, qk=3, v=2), ffn=Mlp(mlp=5), join=Scale())
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=6, blocks=(block,)),))
    model = from_network(a, drawn(a))
    with pytest.raises(Unsupported, match="given layer scale per channel; ot transports networks without joins"):
        Paper(stat="weights")(model, model, None)


def test_an_average_that_is_not_in_canonical_form_is_repaired_as_it_is(image: ImageInput, pictures: Tensor) -> None:
    architecture = joined(plain(image), Scale())
    model = from_network(architecture, drawn(architecture))
    settings = Settings(method="vanilla", repair=True, anchor=1)
    found = fuse([model, model], ["one", "other"], settings, pictures)
    torch.testing.assert_close(found.model.network()(pictures), model.network()(pictures), rtol=1e-4, atol=1e-4)

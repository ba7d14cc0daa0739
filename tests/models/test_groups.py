"""Which weights are in which group of linear maps, and rounding them once and for all."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.networks import Form, assembled
from wb.core.architecture import Architecture, Block, Stage, axis_sizes
from wb.core.precision import allowed, in_floating_point, precisions, with_precisions
from wb.core.records import (
    ConvStem,
    Cosformer,
    ImageInput,
    Lmu,
    Mixer,
    Mlp,
    Nowhere,
    PatchStem,
    Pool,
    Sla,
    Softmax,
    Stem,
)
from wb.core.records.ffns import Inverted
from wb.core.records.mixers import Depthwise
from wb.core.records.norms import BatchNorm
from wb.core.records.stems import MobileStem
from wb.models.axes import Leading
from wb.models.block import BlockModule
from wb.models.groups import block_groups, groups_of, kept, kept_in_block, settle
from wb.models.model import Model, from_network, remap_model
from wb.models.network import build, describe, skeleton

MIXERS: tuple[Mixer, ...] = (
    Softmax(heads=2, qk=4, v=6),
    Sla(heads=2, qk=4, v=3),
    Cosformer(heads=2, qk=4, v=3),
    Pool(),
    Lmu(memory=4, hidden=5),
)
STEMS: tuple[Stem, ...] = (PatchStem(patch=2), ConvStem(patch=2, width=4), ConvStem(patch=4, width=4))
FORMS: tuple[Form, ...] = ("pre", "post")


def network_of(image: ImageInput, stem: Stem, norm: Form = "pre") -> Architecture:
    """Every mixer, in two stages."""
    blocks = tuple(Block(mixer=mixer, ffn=Mlp(mlp=9)) for mixer in MIXERS)
    stages = (Stage(embed=8, blocks=(*blocks, Block())), Stage(embed=10, blocks=blocks[:1]))
    return assembled(input=image, stem=stem, stages=stages, classes=3, norm=norm)


def mixed(a: Architecture, seed: int = 0) -> Architecture:
    draw = random.Random(seed)
    return with_precisions(a, {group: draw.choice(options) for group, options in allowed(a).items()})


def random_model(a: Architecture) -> Model:
    network = build(a)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.4, generator=generator)
    return from_network(a, network)


def images(a: Architecture) -> Tensor:
    return torch.rand(3, a.image.channels, 8, 8, generator=torch.Generator().manual_seed(1))


def block_modules(network: torch.nn.Module) -> Iterator[BlockModule]:
    return (module for module in network.modules() if isinstance(module, BlockModule))


@pytest.mark.parametrize("stem", STEMS)
def test_every_linear_map_is_in_one_group(image: ImageInput, stem: Stem) -> None:
    """All parameters of two dimensions or more, but for positions and the depthwise convolution of SLA."""
    a = network_of(image, stem)
    network = build(a, "meta")
    groups = groups_of(network)
    assert list(groups) == list(precisions(a))
    listed = [name for names in groups.values() for name in names]
    assert len(listed) == len(set(listed))
    biases = {"bq", "bk", "bv", "position", "depthwise"}
    expected = {n for n, p in network.named_parameters() if p.dim() >= 2 and n.rsplit(".", 1)[-1] not in biases}
    assert set(listed) == expected


def test_what_reads_the_stream_is_apart_from_what_writes_to_it(image: ImageInput) -> None:
    groups = groups_of(build(network_of(image, STEMS[0]), "meta"))
    assert groups["s0.b0.mixer.in"] == tuple(f"stages.0.0.mixer.{name}" for name in ("wq", "wk", "wv"))
    assert groups["s0.b0.mixer.out"] == ("stages.0.0.mixer.wo",)
    assert groups["s0.b4.mixer.in"] == tuple(f"stages.0.4.mixer.{name}" for name in ("wu", "wm", "wx"))
    assert groups["s0.b4.mixer.out"] == ("stages.0.4.mixer.out",)
    assert groups["s1.b0.ffn.in"] == ("stages.1.0.ffn.up",)
    assert groups["s1.merge"] == ("merges.0.merge",)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("seed", range(3))
def test_a_network_and_its_blocks_say_the_same(image: ImageInput, stem: Stem, seed: int) -> None:
    a = mixed(network_of(image, stem), seed)
    network = build(a, "meta")
    assert describe(network) == a
    whole = kept(network)
    assert {group: {whole[name] for name in names} for group, names in groups_of(network).items()} == {
        group: {precision} for group, precision in precisions(a).items()
    }
    for name, module in network.named_modules():
        if isinstance(module, BlockModule):
            by_block = {f"{name}.{local}": precision for local, precision in kept_in_block(module).items()}
            assert by_block == {key: whole[key] for key in by_block}
            assert set(by_block) == {key for key in whole if key.startswith(f"{name}.")}
            assert list(block_groups(module)) == [
                group.split(".", 2)[2]
                for group in precisions(a)
                if group.startswith("s{}.b{}.".format(*name.split(".")[1:]))
            ]


@pytest.mark.parametrize("norm", FORMS)
def test_settled_weights_compute_what_latent_ones_do(image: ImageInput, norm: Form) -> None:
    """`settle` rounds in place, so that the network without any precision is the same function."""
    a = network_of(image, STEMS[1], norm)
    low = with_precisions(a, {group: "w1" if i % 2 else "w2" for i, group in enumerate(_linear(a))})
    model = random_model(low)
    x = images(a)
    expected = model.network()(x).detach()
    plain = Model(in_floating_point(low), model.weights).network()(x).detach()
    assert (plain - expected).abs().max() > 0.1, "rounding changes something"
    network = model.network()
    settle(network)
    torch.testing.assert_close(network(x).detach(), expected, rtol=1e-5, atol=1e-5)
    assert describe(network) == in_floating_point(low), "the weights are what they are"
    once = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    settle(network)
    assert all(torch.equal(weight, once[name]) for name, weight in network.named_parameters())
    torch.testing.assert_close(Model(low, once).network()(x).detach(), expected, rtol=1e-5, atol=1e-5)
    changed = {name for name, weight in once.items() if not torch.equal(weight, model.weights[name])}
    assert changed == {name for name, precision in kept(build(low, "meta")).items() if precision != "fp32"}


def test_settling_a_block_settles_its_matrices(image: ImageInput) -> None:
    a = network_of(image, STEMS[0])
    low = with_precisions(a, dict.fromkeys(_linear(a), "w1"))
    for module in block_modules(random_model(low).network()):
        names = kept_in_block(module)
        settle(module)
        for name in names:
            weight = module.get_parameter(name).flatten(1)
            if not name.endswith(("wq", "wk", "wv")):
                torch.testing.assert_close(weight.abs(), weight.abs()[:, :1].expand_as(weight))
        assert set(kept_in_block(module).values()) <= {"fp32"}


def test_only_one_and_two_bits_change_the_forward_pass(image: ImageInput) -> None:
    a = network_of(image, STEMS[0])
    model = random_model(a)
    x = images(a)
    expected = model.network()(x)
    for precision in ("int4", "int8"):
        low = with_precisions(a, {g: precision for g, options in allowed(a).items() if precision in options})
        assert torch.equal(Model(low, model.weights).network()(x), expected)


def test_remapping_keeps_precisions(image: ImageInput) -> None:
    model = random_model(mixed(network_of(image, STEMS[1])))
    sizes = {name: max(1, size - 1) for name, size in axis_sizes(model.architecture).items()}
    small = remap_model(model, {name: Leading(size) for name, size in sizes.items()})
    assert axis_sizes(small.architecture) == sizes
    assert precisions(small.architecture) == precisions(model.architecture)


def _linear(a: Architecture) -> list[str]:
    """The groups that may be kept in one or two bits."""
    return [group for group, options in allowed(a).items() if "w1" in options]


@pytest.mark.parametrize("precision", ["fp32", "w2"])
def test_a_head_takes_over_the_batch_norm_in_front_of_it_where_its_bits_allow(
    image: ImageInput, precision: str
) -> None:
    blocks = (Block(mixer=Depthwise(), ffn=Inverted(mlp=12)),)
    stage = Stage(embed=8, blocks=blocks, plane="map")
    a = assembled(input=image, stem=MobileStem(patch=2, width=6), stages=(stage,), position=Nowhere(), last=BatchNorm())
    a = with_precisions(a, {"head": precision})  # type: ignore[dict-item]
    model = random_model(a)
    positive = {name: model.weights[name].abs() + 0.1 for name in skeleton(a).statistics()}
    network = replace(model, weights={**model.weights, **positive}).network()
    expected = network(images(a)).detach()
    settle(network)
    assert (network.norm is None) == (precision == "fp32")
    torch.testing.assert_close(network(images(a)), expected, rtol=1e-4, atol=1e-4)

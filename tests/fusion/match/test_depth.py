"""Streams are those of the network, probes look like its images, and what is added or left out changes what it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import Unsupported
from wb.core.records import ImageInput, Mlp, PatchStem, Pool, Softmax
from wb.fusion.match.depth import arranged, probes, streams
from wb.models.model import Model, from_network
from wb.models.network import build

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.4, 0.5), std=(0.1, 0.08))
ON = Block(mixer=Softmax(heads=2, qk=4, v=4, scale=1.0), ffn=Mlp(mlp=9))
OFF = Block()


def network(*stages: tuple[Block, ...], patch: int = 2, norm: str = "pre") -> Architecture:
    described = [Stage(embed=8 + 4 * i, blocks=blocks) for i, blocks in enumerate(stages)]
    return assembled(input=IMAGE, stem=PatchStem(patch=patch), stages=described, norm=norm)


def random_model(architecture: Architecture, seed: int = 0) -> Model:
    built = build(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.3, generator=generator)
    return from_network(architecture, built)


def pictures(n: int = 8) -> Tensor:
    return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def padded(source: Model, *origins: tuple[int | None, ...]) -> Model:
    """`source` with blocks that write nothing where there is no origin."""
    return arranged(source, network(*((ON,) * len(stage) for stage in origins)), origins)


def test_streams_are_those_of_the_network() -> None:
    model = random_model(network((ON, OFF, ON), (ON,)))
    batches = list(streams(model, pictures(70)))
    whole = [[torch.cat(parts) for parts in zip(*stage, strict=True)] for stage in zip(*batches, strict=True)]
    assert [len(stage) for stage in whole] == [4, 2]
    assert torch.equal(whole[0][1], whole[0][2]), "a block that is off changes nothing"
    built = model.network()
    with torch.no_grad():
        torch.testing.assert_close(built.answered(whole[1][-1]), built(pictures(70)))


def test_streams_keep_the_type_of_the_weights() -> None:
    model = random_model(network((ON,)))
    double = replace(model, weights={name: weight.double() for name, weight in model.weights.items()})
    (batch,) = streams(double, pictures())
    assert batch[0][1].dtype == torch.float64


def test_probes_look_like_images_of_the_network() -> None:
    state = torch.get_rng_state()
    architecture = network((ON,))
    images = probes(architecture, 500)
    assert images.shape == (500, 2, 8, 8)
    assert images.dtype == torch.float32
    assert probes(architecture).shape[0] == 64
    assert torch.equal(images, probes(architecture, 500))
    assert torch.equal(state, torch.get_rng_state())
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.tensor(IMAGE.mean), atol=0.01, rtol=0)
    for place in ((0, 0), (0, 3), (4, 4)):  # in a corner, on a side, in the middle
        spread = images[:, :, *place].std(dim=0)
        torch.testing.assert_close(spread, torch.tensor(IMAGE.std), atol=0, rtol=0.15)
    z = (images[:, 0] - IMAGE.mean[0]) / IMAGE.std[0]
    assert float((z[:, 4, 4] * z[:, 4, 5]).mean()) == pytest.approx(2 / 3, abs=0.15)


def test_probes_of_a_single_pixel() -> None:
    one = ImageInput(channels=1, height=1, width=1, mean=(0.5,), std=(0.2,))
    architecture = assembled(input=one, stem=PatchStem(patch=1), stages=(Stage(embed=2, blocks=()),), classes=2)
    assert torch.isfinite(probes(architecture, 3)).all()


def test_what_is_added_writes_nothing_and_what_is_left_out_is_gone() -> None:
    model = random_model(network((ON,)))
    bare = Block(ffn=Mlp(mlp=9))
    result = arranged(model, network((ON, bare, OFF)), ((None, 0, None),))
    assert result.architecture == network((ON, bare, OFF))
    result.check()
    for name in ("mixer.wo", "mixer.bo", "ffn.down", "ffn.down_bias"):
        assert not result.weights[f"stages.0.0.{name}"].any(), name
    assert result.weights["stages.0.0.mixer.wq"].any(), "what reads could learn"
    assert result.weights["stages.0.1.ffn.up"] is model.weights["stages.0.0.ffn.up"]
    again = arranged(model, network((ON, bare, OFF)), ((None, 0, None),))
    assert all(torch.equal(weight, again.weights[name]) for name, weight in result.weights.items())


@settings(max_examples=20)
@given(st.lists(st.sampled_from([0, 1, None]), max_size=4))
def test_only_one_of_each_block_is_needed(origins: list[int | None]) -> None:
    """A block may go to several places or to none."""
    model = random_model(network((ON, ON)))
    padded(model, tuple(origins)).check()


def test_a_block_of_another_kind_is_named() -> None:
    model = random_model(network((ON, ON)))
    other = Block(mixer=Pool(), ffn=Mlp(mlp=9))
    with pytest.raises(
        Unsupported, match=r"mixer kind='pool'.* of block s0\.b1 of the target cannot be made from heads=2"
    ):
        arranged(model, network((ON, other)), ((0, 1),))
    kernel = random_model(network((other,)))
    with pytest.raises(Unsupported, match=r"kernel=5.* of block s0\.b0"):
        arranged(kernel, network((Block(mixer=Pool(kernel=5)),)), ((0,),))


def test_a_block_that_is_added_to_a_post_norm_network_is_nearly_the_identity() -> None:
    model = random_model(network((ON, ON), norm="post"))
    weights = {name: (w.abs() + 0.5 if name.endswith("gain") else w) for name, w in model.weights.items()}
    model = replace(model, weights=weights)
    goal = network((ON, ON, ON), norm="post")
    result = arranged(model, goal, ((0, None, 1),))
    (before,), (after,) = streams(model, pictures()), streams(result, pictures())
    torch.testing.assert_close(before[0][1], after[0][1])
    error = (after[0][2] - before[0][1]).square().mean() / before[0][1].square().mean()
    assert float(error) < 0.1
    with pytest.raises(Unsupported, match=r"s0\.b1\.mixer of the target has no counterpart"):
        arranged(model, network((ON, Block(mixer=Pool())), norm="post"), ((0, None),))

"""CKA against its definition, the match against all matches, and what a match has to be whatever the networks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.errors import BadOption, Unsupported
from wb.core.records import Mlp, PatchStem, Pool, Softmax
from wb.fusion import depth
from wb.fusion.depth import arranged, cka, increasing, match_blocks, probes, streams
from wb.models.model import Model, from_network
from wb.models.network import build

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.4, 0.5), std=(0.1, 0.08))
ON = Block(mixer=Softmax(heads=2, qk=4, v=4, scale=1.0), ffn=Mlp(mlp=9))
OFF = Block()


def network(*stages: tuple[Block, ...], patch: int = 2, norm: str = "pre") -> Architecture:
    return Architecture.model_validate(
        {
            "input": IMAGE,
            "stem": PatchStem(patch=patch),
            "stages": [Stage(embed=8 + 4 * i, blocks=blocks) for i, blocks in enumerate(stages)],
            "classes": 3,
            "norm": norm,
        }
    )


def random_model(architecture: Architecture, seed: int = 0) -> Model:
    built = build(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 0.3, generator=generator)
    return from_network(architecture, built)


def pictures(n: int = 8) -> Tensor:
    return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_definition(x: Tensor, y: Tensor) -> float:
    """HSIC(K, L) / √(HSIC(K, K) HSIC(L, L)) with the centring matrix written out."""
    n = len(x)
    h = torch.eye(n, dtype=torch.float64) - 1 / n
    k, g = h @ x @ x.T @ h, h @ y @ y.T @ h
    return float((k @ g).trace() / ((k @ k).trace() * (g @ g).trace()).sqrt())


@pytest.mark.parametrize("shapes", [(30, 4, 6), (5, 12, 9), (7, 3, 20), (10, 10, 10)])
def test_cka_is_what_its_definition_says(shapes: tuple[int, int, int]) -> None:
    """Whichever form it takes."""
    rows, one, other = shapes
    x, y = normal(0, rows, one) + 3, normal(1, rows, other)
    assert cka(x, y) == pytest.approx(by_definition(x, y), rel=1e-9)
    assert cka(x, y) == pytest.approx(cka(y, x), rel=1e-9)


@given(rows=st.integers(3, 12), channels=st.integers(1, 6), scale=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_cka_of_a_rotated_scaled_and_shifted_copy_is_one(rows: int, channels: int, scale: float, seed: int) -> None:
    x = normal(seed, rows, channels)
    rotation = torch.linalg.qr(normal(seed + 1, channels, channels)).Q
    assert cka(x, scale * x @ rotation + normal(seed + 2, channels)) == pytest.approx(1)


def test_cka_of_what_has_nothing_in_common_or_is_constant_is_zero() -> None:
    x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
    y = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    assert cka(x, y) == 0
    assert cka(x, torch.full((4, 3), 0.1)) == 0
    assert cka(torch.full((10, 1), 0.1), normal(0, 10, 1)) == 0


@st.composite
def similarities(draw: st.DrawFn) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Up to 4 by 7, of few values too, so that there are ties."""
    n = draw(st.integers(0, 4))
    m = draw(st.integers(n, 7))
    values = st.sampled_from([0.0, 0.5, 1.0]) if draw(st.booleans()) else st.floats(0, 1)
    return np.array(draw(st.lists(values, min_size=n * m, max_size=n * m)), dtype=float).reshape(n, m)


@given(similarities())
def test_the_match_is_the_best_of_all(similarity: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    n, m = similarity.shape
    found = increasing(similarity)
    best = max(sum(similarity[range(n), list(columns)]) for columns in itertools.combinations(range(m), n))
    assert len(found) == n
    assert all(a < b for a, b in itertools.pairwise(found))
    assert sum(similarity[range(n), found]) == pytest.approx(best)


def test_as_many_blocks_match_in_order_and_no_image_is_looked_at() -> None:
    source = random_model(network((ON, OFF, ON), (OFF, ON)))
    reference = random_model(network((OFF, ON, ON, OFF), (ON,)))
    assert match_blocks(source, reference, torch.empty(0)) == ((None, 0, 2, None), (1,))


def padded(source: Model, *origins: tuple[int | None, ...]) -> Model:
    """`source` with blocks that write nothing where there is no origin."""
    return arranged(source, network(*((ON,) * len(stage) for stage in origins)), origins)


@pytest.mark.parametrize("count", [8, 300])
def test_blocks_are_found_among_those_that_write_nothing(count: int) -> None:
    shallow = random_model(network((ON, ON), (ON, ON, ON)))
    deep = padded(shallow, (0, None, 1, None), (0, 1, 2))
    images = pictures(count)
    assert match_blocks(shallow, deep, images) == ((0, None, 1, None), (0, 1, 2))
    assert match_blocks(deep, shallow, images) == ((0, 2), (0, 1, 2))


def test_noise_is_made_only_where_depths_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def spy(architecture: Architecture) -> Tensor:
        made.append(probes(architecture))
        return made[-1]

    monkeypatch.setattr(depth, "probes", spy)
    shallow = random_model(network((ON, ON)))
    match_blocks(shallow, random_model(network((ON, ON)), seed=1))
    assert not made
    assert match_blocks(shallow, padded(shallow, (0, None, 1))) == ((0, None, 1),)
    assert len(made) == 1


def test_all_blocks_of_the_shallower_find_one_whatever_the_weights() -> None:
    deep = random_model(network((ON, OFF, ON, ON, ON, ON)), seed=1)
    shallow = random_model(network((ON, ON, OFF, ON)), seed=2)
    (up,) = match_blocks(shallow, deep, pictures())
    assert [block for block in up if block is not None] == [0, 1, 3]
    assert up[1] is None
    (down,) = match_blocks(deep, shallow, pictures())
    there = [block for block in down if block is not None]
    assert down[2] is None
    assert len(there) == 3
    assert there == sorted(set(there) - {1})


def test_a_stage_without_blocks_matches_nothing() -> None:
    source, reference = random_model(network((ON,), (OFF,))), random_model(network((ON, ON), (ON, OFF, ON)))
    match = match_blocks(source, reference, pictures())
    assert match[1] == (None, None, None)
    assert match_blocks(reference, source, pictures())[1] == (None,)


def test_both_are_seen_on_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(x: Tensor, y: Tensor) -> float:
        seen.append((x, y))
        return cka(x, y)

    monkeypatch.setattr(depth, "cka", spy)
    shallow = random_model(network((ON,)))
    images = pictures(300)
    match_blocks(shallow, padded(shallow, (0, None)), images)
    for x, y in seen:
        assert torch.equal(x, y)
        assert len(x) == 2048
    rows = torch.cat([batch[0][1].flatten(0, 1) for batch in streams(shallow, images)])
    places = {i % 16 for i in range(len(rows)) if (rows[i] == seen[0][0]).all(dim=1).any()}
    assert places == set(range(16)), "tokens of all places"


def test_networks_of_other_tokens_are_refused() -> None:
    model = random_model(network((ON,)))
    with pytest.raises(Unsupported, match=r"given 4x4 tokens in 1 stages.*and 2x2 tokens in 1 stages"):
        match_blocks(model, random_model(network((ON,), patch=4)), pictures())
    with pytest.raises(Unsupported, match="and 4x4 tokens in 2 stages"):
        match_blocks(model, random_model(network((ON,), (ON,))), pictures())


@pytest.mark.parametrize("shape", [(3, 1, 8, 8), (3, 2, 8, 4), (2, 8, 8), (0, 2, 8, 8)])
def test_images_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    one, two = random_model(network((ON,))), random_model(network((ON, ON)))
    with pytest.raises(BadOption, match=r"are not what the model reads; give some of shape \(n, 2, 8, 8\)"):
        match_blocks(one, two, torch.zeros(shape))


def test_streams_are_those_of_the_network() -> None:
    model = random_model(network((ON, OFF, ON), (ON,)))
    batches = list(streams(model, pictures(70)))
    whole = [[torch.cat(parts) for parts in zip(*stage, strict=True)] for stage in zip(*batches, strict=True)]
    assert [len(stage) for stage in whole] == [4, 2]
    assert torch.equal(whole[0][1], whole[0][2]), "a block that is off changes nothing"
    built = model.network()
    with torch.no_grad():
        torch.testing.assert_close(built.classify(whole[1][-1]), built(pictures(70)))


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
    architecture = Architecture(input=one, stem=PatchStem(patch=1), stages=(Stage(embed=2, blocks=()),), classes=2)
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

"""What the published transport keeps, what it does not, and that it is the published one where sizes are equal."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any, get_args

import numpy as np
import ot
import pytest
import torch
from torch import Tensor

from tests.networks import assembled
from tests.pairs import pairwise
from wb.core.architecture import Architecture, Block, Stage, axis_sizes
from wb.core.errors import BadData, BadOption, Unsupported
from wb.core.records import Conv2x2, ConvStem, ImageInput, Mlp, Nowhere, PatchStem, Pool, Sinusoid, Softmax
from wb.fusion.align.solvers import Matrix
from wb.fusion.paper.maps import (
    Residual,
    Tokens,
    compared,
    compared_tokens,
    correlated,
    coupled,
    distances,
    mixed,
    sizes,
    trace,
)
from wb.fusion.paper.paper import Paper
from wb.models.axes import Couple, Select
from wb.models.model import Model, Step, from_network, remap_model
from wb.models.network import build

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.4, 0.5), std=(0.2, 0.3))
RESIDUALS: tuple[Residual, ...] = get_args(Residual)
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
QUERIES: tuple[Any, ...] = ("separate", "equal", "joint")
STATS = ("weights", "activations")
stats = pytest.mark.parametrize("stat", STATS)


def block(**sizes: Any) -> Block:
    widths = {"heads": 2, "qk": 4, "v": 3, "mlp": 9, **sizes}
    return Block(
        mixer=Softmax.model_validate({k: v for k, v in widths.items() if k != "mlp"}), ffn=Mlp(mlp=widths["mlp"])
    )


def network(*blocks: Block, embed: int = 8, patch: int = 2, pool: str = "mean", norm: str = "pre") -> Architecture:
    stage = Stage(embed=embed, blocks=blocks or (block(), block(heads=1, mlp=7)))
    return assembled(input=IMAGE, stem=PatchStem(patch=patch), stages=[stage], pool=pool, norm=norm)


def random_model(architecture: Architecture, seed: int = 0) -> Model:
    built = build(architecture)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in built.named_parameters():
            weight.normal_(1.0 if name.endswith("gain") else 0.0, 0.4, generator=generator)
    return from_network(architecture, built)


def pictures(n: int = 40) -> Tensor:
    return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def logits(model: Model) -> Tensor:
    with torch.no_grad():
        found: Tensor = model.network()(pictures())
    return found


def same_function(one: Model, other: Model) -> bool:
    a, b = logits(one), logits(other)
    return float((a - b).abs().max()) < 1e-4 * float(b.abs().max())


def same_weights(one: Model, other: Model) -> bool:
    return all(torch.allclose(one.weights[name], w, rtol=1e-4, atol=1e-5) for name, w in other.weights.items())


def permuted(model: Model, *axes: str) -> Model:
    """The same function, the units of `axes` (by default of all) in another order."""
    generator = torch.Generator().manual_seed(5)
    sizes = axis_sizes(model.architecture)
    return remap_model(
        model, {axis: Select(torch.randperm(sizes[axis], generator=generator)) for axis in axes or sizes}
    )


def doubled(model: Model, *axes: str) -> Model:
    """The same function, every unit of `axes` (by default of all) twice."""
    sizes = axis_sizes(model.architecture)
    maps = {}
    for axis in axes or tuple(sizes):
        twice = torch.eye(sizes[axis], dtype=torch.float64).repeat_interleave(2, dim=0)
        maps[axis] = Couple(twice / 2**0.5, twice) if axis.endswith(".qk") else Couple(twice, twice / 2)
    return remap_model(model, maps)


@pairwise(stat=STATS, queries=QUERIES, residual=RESIDUALS, pool=("mean", "cls"))
def test_a_model_goes_to_itself(stat: Any, queries: Any, residual: Any, pool: str) -> None:
    model = random_model(network(pool=pool))
    moved, plans = Paper(stat, "emd", None, residual, queries)(model, model, pictures())
    assert same_weights(moved, model)
    for plan in plans.values():
        np.testing.assert_allclose(plan, np.eye(len(plan)) / len(plan), atol=1e-12)


PARTIAL = (block(), Block(), Block(ffn=Mlp(mlp=5)), Block(mixer=Softmax(heads=2, qk=3, v=3)))


@pairwise(stat=STATS, pool=("mean", "cls"), norm=("pre", "post"), solver=("emd", "lap"))
def test_a_copy_with_its_units_exchanged_comes_back(stat: Any, pool: str, norm: str, solver: Any) -> None:
    """Channels of the stream, heads and their channels, hidden units; blocks may lack sub-layers."""
    for blocks, residual in itertools.product(((), PARTIAL), RESIDUALS):
        model = random_model(network(*blocks, pool=pool, norm=norm))
        twin = permuted(model)
        assert same_function(twin, model)
        assert not same_weights(twin, model)
        order = "mean" if residual == "identity" else residual  # which is what the order of these is not
        moved, _ = Paper(stat, solver, None, order)(twin, model, pictures())
        assert same_weights(moved, model)


@pairwise(stat=STATS, queries=QUERIES, residual=RESIDUALS)
def test_a_copy_with_its_hidden_units_exchanged_comes_back(stat: Any, queries: Any, residual: Any) -> None:
    model = random_model(network())
    twin = permuted(model, "s0.b0.mlp", "s0.b1.mlp", "s0.b0.v")
    moved, _ = Paper(stat, "emd", None, residual, queries)(twin, model, pictures())
    assert same_weights(moved, model)


AXES = [(), ("s0.embed",), ("s0.b0.heads",), ("s0.b0.qk",), ("s0.b0.v",), ("s0.b0.mlp", "s0.b1.mlp")]


CHOICES: list[Any] = [*((r, "separate") for r in RESIDUALS), ("mean", "equal"), ("mean", "joint")]


@pairwise(stat=STATS, axes=AXES, choice=CHOICES)
def test_doubled_units_keep_the_function_in_both_directions(stat: Any, axes: tuple[str, ...], choice: Any) -> None:
    small = random_model(network())
    large = doubled(small, *axes)
    assert same_function(large, small)
    for source, reference in ((small, large), (large, small)):
        moved, _ = Paper(stat, "emd", None, *choice)(source, reference, pictures())
        assert moved.architecture == reference.architecture
        assert same_function(moved, small)
        if len(axes) == 1 and axes[0] != "s0.embed":
            assert same_weights(moved, reference), "the average of the two is then the reference"


@pytest.mark.parametrize("scales", [(None, None), (0.7, None), (None, 1.3), (0.2, 0.9)])
@pytest.mark.parametrize("axes", [(), ("s0.b0.qk",)])
def test_another_softmax_scale_is_made_up_for(scales: tuple[float | None, ...], axes: tuple[str, ...]) -> None:
    base = random_model(network(block(scale=0.5)))
    pair = []
    for model, scale in zip((base, doubled(base, *axes)), scales, strict=True):
        (stage,) = model.architecture.stages
        mixer = stage.blocks[0].mixer
        assert isinstance(mixer, Softmax)
        changed = stage.blocks[0].model_copy(update={"mixer": mixer.model_copy(update={"scale": scale})})
        stages = (stage.model_copy(update={"blocks": (changed,)}),)
        root = (0.5 / (mixer.qk**-0.5 if scale is None else scale)) ** 0.5
        weights = {n: w * root if n[-2:] in ("wq", "bq", "wk", "bk") else w for n, w in model.weights.items()}
        pair.append(Model(model.architecture.model_copy(update={"stages": stages}), weights))
    assert same_function(*pair)
    for source, reference in (pair, pair[::-1]):
        moved, _ = Paper(solver="emd")(source, reference, pictures())
        assert same_function(moved, source)


@stats
def test_sinkhorn_blurs_even_a_model_with_itself(stat: Any) -> None:
    model = random_model(network())
    moved, _ = Paper(stat)(model, model, pictures())
    assert not same_function(moved, model)
    sharp, _ = Paper(stat, reg=1e-3)(model, model, pictures())
    distance = [float((logits(m) - logits(model)).norm()) for m in (sharp, moved)]
    assert distance[0] < 0.1 * distance[1]


def test_a_copy_rotated_within_heads_comes_out_with_another_function() -> None:
    """For queries and keys have maps of their own, which transport and do not rotate."""
    model = random_model(network(block()))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(3))).Q
    names = ("wq", "bq", "wk", "bk")
    turned = {n: torch.einsum("ij,hj...->hi...", turn, w) if n[-2:] in names else w for n, w in model.weights.items()}
    twin = replace(model, weights=turned)
    assert same_function(twin, model)
    moved, _ = Paper(solver="emd")(twin, model, pictures())
    assert not same_function(moved, twin)


def test_with_weights_a_class_token_is_compared_by_signs_first() -> None:
    one, two = (random_model(network(pool="cls"), seed).weights["cls"] for seed in (0, 1))
    base = random_model(network(pool="cls"))
    source, reference = (replace(base, weights={**base.weights, "cls": cls}) for cls in (one, two))
    _, plans = Paper("weights", "emd")(source, reference, None)
    positive = [(cls > 0).double().numpy() for cls in (one, two)]
    both = positive[0] @ plans["cls"] @ positive[1]
    assert both == pytest.approx(min(sign.mean() for sign in positive)), "as few signs change as can be"


SOURCE = network(block(), block(heads=3, qk=2), pool="cls", patch=1)
REFERENCE = network(block(heads=4, mlp=5), block(v=7, scale=0.3), embed=12, pool="cls", patch=1)


@pairwise(stat=STATS, queries=QUERIES, residual=RESIDUALS, tokens=TOKENS)
def test_every_choice_runs_between_unequal_sizes(stat: Any, queries: Any, residual: Any, tokens: Any) -> None:
    source, reference = random_model(SOURCE), random_model(REFERENCE, seed=1)
    source = source.then(Step(name="trained"))
    moved, plans = Paper(stat, "sinkhorn", None, residual, queries, tokens)(source, reference, pictures(3))
    moved.check()
    assert moved.architecture == reference.architecture
    assert moved.history == source.history
    assert all(w.dtype == torch.float32 and torch.isfinite(w).all() for w in moved.weights.values())
    letters = ["q", "k"] if queries == "separate" else ["qk"]
    blocks = [f"s0.b{i}.{name}" for i in range(2) for name in (*letters, "v", "o", "mlp", "down")]
    assert list(plans) == ["position", "cls", "patch", *blocks]
    for plan in plans.values():
        np.testing.assert_allclose(plan.sum(axis=0), 1 / plan.shape[1], rtol=0.02)
        np.testing.assert_allclose(plan.sum(axis=1), 1 / plan.shape[0], rtol=0.02)


@pairwise(residual=RESIDUALS, solver=("sinkhorn", "emd", "lap"), wide=(True, False))
def test_scaling_is_right_on_both_sides(residual: Any, solver: Any, wide: bool) -> None:
    """Norms with gains of one keep them, and what the head makes of a stream of ones stays."""
    source, reference = random_model(SOURCE), random_model(REFERENCE, seed=1)
    if not wide:
        source, reference = reference, source
    ones = {name: torch.ones_like(w) for name, w in source.weights.items() if name.endswith("gain")}
    source = replace(source, weights={**source.weights, **ones})
    moved, _ = Paper("activations", solver, None, residual)(source, reference, pictures(3))
    for name in ones:
        torch.testing.assert_close(moved.weights[name], torch.ones_like(reference.weights[name]))
    if residual != "matrix":  # which weighs the entries of the reference
        torch.testing.assert_close(moved.weights["head"].sum(dim=1), source.weights["head"].sum(dim=1))
    torch.testing.assert_close(moved.weights["head_bias"], source.weights["head_bias"])


@dataclass
class Published:
    """One block, equal sizes, by weights, residuals `mean`: the formulas as they are printed, T scaled by n everywhere."""

    a: Model
    b: Model
    solver: str
    reg: float
    out: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self) -> dict[str, Tensor]:
        weights, out, prefix = {n: w.double() for n, w in self.a.weights.items()}, self.out, "stages.0.0"
        t_position = self.plan(weights["position"].T, self.b.weights["position"].double().T)
        out["position"] = weights["position"] @ t_position
        stream = (self.layer("stem.patches", "stem.patches_bias") + t_position) / 2
        out |= {n: weights[n] @ stream for n in (f"{prefix}.norm1.gain", f"{prefix}.norm1.shift")}
        for letter in "qk":
            self.layer(f"{prefix}.mixer.w{letter}", f"{prefix}.mixer.b{letter}", stream)
        t_v = self.layer(f"{prefix}.mixer.wv", f"{prefix}.mixer.bv", stream)
        stream = (stream + self.layer(f"{prefix}.mixer.wo", f"{prefix}.mixer.bo", t_v)) / 2
        out |= {n: weights[n] @ stream for n in (f"{prefix}.norm2.gain", f"{prefix}.norm2.shift")}
        t_up = self.layer(f"{prefix}.ffn.up", f"{prefix}.ffn.up_bias", stream)
        stream = (stream + self.layer(f"{prefix}.ffn.down", f"{prefix}.ffn.down_bias", t_up)) / 2
        out |= {n: weights[n] @ stream for n in ("norm.gain", "norm.shift", "head")}
        out["head_bias"] = weights["head_bias"]
        return {n: value.reshape(self.b.weights[n].shape).float() for n, value in out.items()}

    def layer(self, weight: str, bias: str, into: Tensor | None = None) -> Tensor:
        n = self.a.weights[bias].numel()
        own, other = (model.weights[weight].double().reshape(n, -1) for model in (self.a, self.b))
        own = own if into is None else own @ into
        t = self.plan(own, other)
        self.out[weight], self.out[bias] = t.T @ own, t.T @ self.a.weights[bias].double().flatten()
        return t

    def plan(self, own: Tensor, other: Tensor) -> Tensor:
        own, other = (rows / rows.norm(dim=1, keepdim=True) for rows in (own, other))
        cost = ((own[:, None] - other[None]) ** 2).sum(-1).sqrt().numpy()
        n, mass = len(own), np.full(len(own), 1 / len(own))
        cost = cost / cost.max()
        plan = ot.emd(mass, mass, cost) if self.solver == "emd" else ot.bregman.sinkhorn(mass, mass, cost, self.reg)
        return n * torch.from_numpy(plan)


@pytest.mark.parametrize("solver", ["emd", "sinkhorn"])
def test_equal_sizes_are_moved_as_published(solver: Any) -> None:
    a, b = (random_model(network(block()), seed) for seed in (0, 1))
    moved, _ = Paper("weights", solver)(a, b, None)
    expected = Published(a, b, solver, 0.06)()
    assert set(expected) == set(moved.weights)
    for name, weight in expected.items():
        torch.testing.assert_close(moved.weights[name], weight, rtol=1e-4, atol=1e-5)


def whole(model: Model, tokens: Tokens) -> dict[str, Tensor]:
    parts: dict[str, list[Tensor]] = {}
    for found in trace(model, pictures(), tokens):
        for name, values in found.items():
            parts.setdefault(name, []).append(values.double())
    return {name: torch.cat(part) for name, part in parts.items()}


def standardised(x: Tensor) -> Tensor:
    return (x - x.mean(dim=0)) / (x.std(dim=0) + 1e-9)


@pytest.mark.parametrize("tokens", ["all", "cls", "window_2"])
def test_activations_are_compared_as_standardised_columns(tokens: Any) -> None:
    one, two = random_model(network(pool="cls")), random_model(network(pool="cls", embed=6), 1)
    a, b = whole(one, tokens), whole(two, tokens)
    found = compared(one, two, pictures(), tokens, joint=True)
    for name in ("patch", "s0.b0.v", "s0.b1.q", "s0.b1.o", "s0.b0.mlp", "s0.b1.down"):
        if tokens == "cls" and name == "s0.b0.v":
            assert not correlated(found, name).any(), "the class token is the same for all images here"
            continue
        expected = distances(standardised(a[name]).T, standardised(b[name]).T)
        np.testing.assert_allclose(relative(correlated(found, name)), relative(expected), atol=1e-6)
    both = [standardised(torch.cat([x["s0.b1.q"], x["s0.b1.k"]], dim=1)).T for x in (a, b)]
    np.testing.assert_allclose(relative(correlated(found, "s0.b1.qk")), relative(distances(*both)), atol=1e-6)


def relative(cost: Matrix) -> Matrix:
    return np.asarray(cost / cost.max())


def test_activations_are_those_of_the_network() -> None:
    model = random_model(network(pool="cls"))
    built, found = model.network(), whole(model, "all")
    last: Any = built.stages[0][-1]  # type: ignore[index]
    with torch.no_grad():
        x = built.tokens(pictures())
        assert torch.equal(found["s0.b0.in"].float(), x.flatten(0, 1))
        x = next(built.blocks(0))(built.wiring(0), built.begin(pictures())).stream
        after = x + last.mixer(last.norm1(x))
        up = torch.nn.functional.linear(last.norm2(after), last.ffn.up, last.ffn.up_bias)
        expected = {"in": x, "o": after - x, "mlp": up, "down": last.ffn(last.norm2(after))}
    for name, values in expected.items():
        torch.testing.assert_close(found[f"s0.b1.{name}"].float(), values.flatten(0, 1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", ["all", "window_2"])
def test_residuals_are_weighed_by_mean_sizes(tokens: Any) -> None:
    model = random_model(network(pool="cls"))
    z = {name: standardised(values) for name, values in whole(model, tokens).items()}
    found = sizes(model, pictures(), tokens)
    assert set(found) == {"embedding", *(f"s0.b{i}.{kind}" for i in range(2) for kind in ("mixer", "ffn"))}
    expected = {
        "embedding": (model.weights["position"].double(), z["patch"]),
        "s0.b0.mixer": (z["s0.b0.in"], z["s0.b0.o"]),
        "s0.b1.ffn": (z["s0.b1.in"] + z["s0.b1.attention"], z["s0.b1.down"]),
    }
    for name, pair in expected.items():
        for size, values in zip(found[name], pair, strict=True):
            torch.testing.assert_close(size, values.abs().mean(dim=0))


def test_maps_are_mixed_by_policy() -> None:
    rng = np.random.default_rng(0)
    own, other = (coupled(rng.random((3, 2))) for _ in range(2))
    found = (torch.tensor([1.0, 0.0]).double(), torch.tensor([3.0, 0.0]).double())
    shares: dict[str, Any] = {
        "mean": 0.5,
        "none": 0.0,
        "only": 1.0,
        "scalar": 0.25,
        "matrix": torch.tensor([[0.25], [0.5]]),
    }
    for policy, share in shares.items():
        mix = mixed(policy, own, other, found)  # type: ignore[arg-type]
        torch.testing.assert_close(mix.write, share * own.write + (1 - share) * other.write)
        torch.testing.assert_close(mix.read, share * own.read + (1 - share) * other.read)
    order = mixed("identity", own, other, None)
    expected = torch.tensor([[1, 0.5, 0], [0, 0.5, 1]], dtype=torch.float64)
    torch.testing.assert_close(order.read, expected)
    torch.testing.assert_close(order.write, expected * torch.tensor([2 / 3]))
    square = coupled(rng.random((4, 4)))
    assert torch.equal(mixed("identity", square, square, None).write, torch.eye(4, dtype=torch.float64))


def test_windows_are_in_the_middle_of_any_grid() -> None:
    cls, mean = network(pool="cls", patch=1), network(patch=1)
    assert compared_tokens(cls, "window_2").tolist() == [0, 28, 29, 36, 37]
    assert compared_tokens(mean, "window_2").tolist() == [27, 28, 35, 36]
    assert compared_tokens(mean, "window_2", last=True).tolist() == [27, 28, 35, 36]
    assert compared_tokens(cls, "window_8").tolist() == list(range(65)) == compared_tokens(cls, "all").tolist()
    assert compared_tokens(network(), "window_4").tolist() == list(range(16))
    assert compared_tokens(cls, "cls").tolist() == [0] == compared_tokens(cls, "window_4", last=True).tolist()
    assert compared_tokens(cls, "all", last=True).tolist() == list(range(65))
    model = random_model(network(pool="cls"))
    found = whole(model, "window_2")
    rows = {name: len(values) // 40 for name, values in found.items()}
    assert rows["patch"] == 16
    assert {rows[f"s0.b0.{name}"] for name in ("q", "k", "v", "o", "mlp", "down")} == {5}
    assert [rows[f"s0.b1.{name}"] for name in ("v", "attention", "o", "mlp", "down")] == [5, 5, 1, 1, 1]


def test_tokens_that_are_not_there_are_refused() -> None:
    model = random_model(network())
    with pytest.raises(BadOption, match="have no class token; take 'all' or a window"):
        Paper(tokens="cls")(model, model, pictures())
    with pytest.raises(BadOption, match="'window_6' does not fit into 4x4 tokens; take 'all' or a smaller window"):
        Paper(tokens="window_6")(model, model, pictures())


@pytest.mark.parametrize(("paper", "what"), [(Paper(), "stat"), (Paper("weights", residual="matrix"), "residual")])
def test_images_are_asked_for(paper: Paper, what: str) -> None:
    model = random_model(network())
    with pytest.raises(BadOption, match=rf"{what} '\w+' looks at activations and there are no images; give some"):
        paper(model, model, None)
    with pytest.raises(BadData, match="the models read images of 2x8x8"):
        paper(model, model, torch.zeros(3, 1, 8, 8))


MEAN = network()
POOLED = Block(mixer=Pool(), ffn=Mlp(mlp=9))
REFUSED = {
    "depth": (network(block()), MEAN, "the source has 1 blocks and the reference 2; .*take orth or regress"),
    "mixer": (network(POOLED), network(POOLED), r"the mixer of block s0\.b0 is pool in the source and pool in the ref"),
    "one": (network(block(), POOLED), MEAN, r"the mixer of block s0\.b1 is pool in the source and softmax in the ref"),
    "lack": (network(block(), Block()), MEAN, r"the mixer of block s0\.b1 is none in the source and softmax in"),
    "ffn": (
        MEAN,
        network(block(), Block(mixer=block().mixer)),
        r"the ffn of block s0\.b1 is mlp in the .*none in the ref",
    ),
    "patch": (network(patch=4), MEAN, "the source has the stem patch of patch 4 and the reference has"),
    "norm": (
        MEAN,
        network(norm="post"),
        "the source has norms pre-norm and the reference has post-norm",
    ),
    "pool": (MEAN, network(pool="cls"), "the source has a prefix of 0 tokens and the reference has 1"),
}
STAGES = MEAN.model_copy(update={"stages": (*MEAN.stages, Stage(embed=6, blocks=(), merge=Conv2x2()))})
CONV = MEAN.model_copy(update={"stem": ConvStem(patch=2, width=4)})
REFUSED["stages"] = (STAGES, STAGES, "given 2 stages; ot transports networks of one stage: take orth or regress")
REFUSED["stem"] = (CONV, CONV, "given a conv stem; ot transports patches and tables of tokens: take orth or regress")

UNTRAINED = [MEAN.model_copy(update={"position": position}) for position in (Sinusoid(), Nowhere())]
REFUSED |= {a.position.kind: (a, a, f"given {a.position.title}; ot transports learned positions") for a in UNTRAINED}

NEGATIVE = network(block(scale=-0.5), block(heads=1, mlp=7))
REFUSED["scale"] = (NEGATIVE, MEAN, r"the softmax scales of block s0\.b0 are of different signs or zero")


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_flow_does_not_know_is_refused(name: str) -> None:
    source, reference, message = REFUSED[name]
    with pytest.raises(Unsupported, match=message):
        Paper()(random_model(source), random_model(reference), pictures())

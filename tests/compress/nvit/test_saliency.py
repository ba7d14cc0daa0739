"""The saliency against gates that are really there, and against slow, obvious implementations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from tests.networks import Form, assembled
from wb.compress.nvit.saliency import LABEL_SMOOTHING, Scores, score
from wb.compress.nvit.settings import METHODS, Method, Settings
from wb.core.architecture import Block, Stage
from wb.core.errors import BadData, BadOption
from wb.core.records import Cosformer, ImageInput, Lmu, Mixer, Mlp, PatchStem, Pool, Sla, Softmax
from wb.models.network import Network, build
from wb.models.walk import State, Sublayer

MIXERS: list[Mixer] = [
    Softmax(heads=2, qk=3, v=4),
    Sla(heads=2, qk=3, v=4),
    Cosformer(heads=2, qk=3, v=4),
    Lmu(memory=3, hidden=5),
]
FORMS: tuple[Form, ...] = ("pre", "post")
SUMMED: tuple[Method, ...] = ("taylor", "magnitude", "random")
Weights = dict[str, Tensor]
Gate = Callable[[Weights, Tensor], Weights]  # the weights with a gate on the units


def network_of(image: ImageInput, *mixers: Mixer, norm: Form = "pre") -> Network:
    """Random weights in float64, one block for each mixer."""
    stage = Stage(embed=6, blocks=tuple(Block(mixer=mixer, ffn=Mlp(mlp=7)) for mixer in mixers))
    a = assembled(input=image, stem=PatchStem(patch=2), stages=(stage,), classes=3, norm=norm)
    network = build(a)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():
            weight.normal_(0, 0.4, generator=generator)
    return network.double().eval()


@pytest.fixture(scope="module")
def data() -> list[tuple[Tensor, Tensor]]:
    """Three batches, the last of them smaller."""
    generator = torch.Generator().manual_seed(1)
    return [
        (torch.rand(n, 1, 8, 8, generator=generator).double(), torch.randint(3, (n,), generator=generator))
        for n in (4, 4, 2)
    ]


def loss_of(network: Network, weights: Weights, images: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(functional_call(network, weights, images), labels, label_smoothing=LABEL_SMOOTHING)


def gated(network: Network, data: list[tuple[Tensor, Tensor]], shape: tuple[int, ...], gate: Gate) -> Tensor:
    """(dL/dg)^2 at g = 1, batch by batch, averaged: the definition."""
    weights = {name: weight.detach() for name, weight in network.named_parameters()}
    squares = []
    for images, labels in data:
        g = torch.ones(shape, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(loss_of(network, weights | gate(weights, g), images, labels), g)
        squares.append(found.square())
    return torch.stack(squares).mean(dim=0)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("norm", FORMS)
@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: mixer.kind)
def test_gates_that_are_there(image: ImageInput, mixer: Mixer, norm: Form, data: list[tuple[Tensor, Tensor]]) -> None:
    network = network_of(image, mixer, mixer, norm=norm)
    found = score(network, data, "nvit")
    m, f = "stages.0.1.mixer", "stages.0.1.ffn"
    sizes = mixer.model_dump()
    close(found["s0.b1.mlp"], gated(network, data, (7,), lambda w, g: {f"{f}.down": w[f"{f}.down"] * g}))
    if mixer.kind == "lmu":
        expected = gated(network, data, (sizes["hidden"],), lambda w, g: {f"{m}.out": w[f"{m}.out"] * g})
        close(found["s0.b1.hidden"], expected)
        assert "s0.b1.memory" not in found, "its coefficients cannot be chosen freely"
        return
    heads, qk, v = sizes["heads"], sizes["qk"], sizes["v"]
    wo = f"{m}.wo"
    close(found["s0.b1.heads"], gated(network, data, (heads,), lambda w, g: {wo: w[wo] * g[:, None]}))
    per_head = (v,) if mixer.kind == "sla" else (heads, v)
    close(found["s0.b1.v"], gated(network, data, per_head, lambda w, g: {wo: w[wo] * g}))

    def queries(w: Weights, g: Tensor) -> Weights:
        return {f"{m}.wq": w[f"{m}.wq"] * g[:, :, None], f"{m}.bq": w[f"{m}.bq"] * g}

    def keys(w: Weights, g: Tensor) -> Weights:
        return {f"{m}.wk": w[f"{m}.wk"] * g[:, :, None], f"{m}.bk": w[f"{m}.bk"] * g} | (
            {f"{m}.position": w[f"{m}.position"] * g} if mixer.kind == "sla" else {}
        )

    close(found["s0.b1.qk"], gated(network, data, (heads, qk), queries))
    close(found["s0.b1.qk"], gated(network, data, (heads, qk), keys))


@pytest.mark.parametrize("norm", FORMS)
def test_residual_channels_are_gated_where_they_are_read(
    image: ImageInput, norm: Form, data: list[tuple[Tensor, Tensor]]
) -> None:
    network = network_of(image, *MIXERS, norm=norm)
    readers = ("wq", "wk", "wv", "up", "wu", "wx", "head")  # the residual channel is the last dimension of each

    def gate(w: Weights, g: Tensor) -> Weights:
        return {name: weight * g for name, weight in w.items() if name.rsplit(".", 1)[-1] in readers}

    close(score(network, data, "nvit")["s0.embed"], gated(network, data, (6,), gate))


def partly(name: str, factor: float) -> Callable[[State, Sublayer], State]:
    """A step in which one sub-layer changes the stream by `factor` of what it would."""

    def step(state: State, at: Sublayer) -> State:
        after = at(state)
        changed = state.stream + factor * (after.stream - state.stream)
        return after._replace(stream=changed) if at.name == name else after

    return step


@pytest.mark.parametrize("norm", FORMS)
def test_whole_sublayers(
    image: ImageInput, norm: Form, data: list[tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By differences of the loss where what the sub-layer changes of the stream is a little larger or smaller."""
    network = network_of(image, *MIXERS, Pool(), norm=norm)
    found = score(network, data, "nvit")
    layers = [at.name for at in network.walk()]
    assert {name for name in found if name.endswith((".mixer", ".ffn"))} == set(layers)
    weights: Weights = dict(network.named_parameters())
    step = 1e-4
    run = network.run
    for name in layers:
        slopes = []
        for images, labels in data:
            losses = []
            for factor in (1 + step, 1 - step):
                with monkeypatch.context() as patch:
                    patch.setattr(network, "forward", partial(run, step=partly(name, factor)))
                    losses.append(loss_of(network, weights, images, labels).item())
            slopes.append((losses[0] - losses[1]) / (2 * step))
        expected = sum(slope**2 for slope in slopes) / len(slopes)
        assert found[name].shape == ()
        assert found[name].item() == pytest.approx(expected, rel=1e-3, abs=1e-9), name


def test_a_sublayer_without_parameters_is_scored_by_its_gate_alone(
    image: ImageInput, data: list[tuple[Tensor, Tensor]]
) -> None:
    """The others sum over units: a pool has none and no score with them, which is not a score of zero."""
    network = network_of(image, MIXERS[0], Pool())
    assert "s0.b1.mixer" in score(network, data, "nvit")
    for method in SUMMED:
        assert "s0.b1.mixer" not in score(network, data, method)


@pytest.mark.parametrize("method", SUMMED)
@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: mixer.kind)
def test_a_sublayer_is_worth_all_its_units(
    image: ImageInput, mixer: Mixer, data: list[tuple[Tensor, Tensor]], method: Method
) -> None:
    """Else a whole sub-layer would go for less, or only for more, than what it is made of."""
    network = network_of(image, mixer)
    found = score(network, data, method)
    kinds = ("hidden",) if mixer.kind == "lmu" else ("heads", "qk", "v")
    sums = [float(found[f"s0.b0.{kind}"].sum()) for kind in kinds]
    assert found["s0.b0.mixer"].item() == pytest.approx(max(sums))
    assert found["s0.b0.ffn"].item() == pytest.approx(float(found["s0.b0.mlp"].sum()))


def by_hand(values: Weights) -> Scores:
    """`values` of a softmax network of two blocks, summed over what reads each unit; qk: over half of both writers."""
    found: Scores = {"s0.embed": values["head"].sum(0)}
    for b in (0, 1):
        w = {name.split(".")[-1]: value for name, value in values.items() if name.startswith(f"stages.0.{b}.")}
        for name in ("wq", "wk", "wv"):
            found["s0.embed"] = found["s0.embed"] + w[name].sum((0, 1))
        found["s0.embed"] = found["s0.embed"] + w["up"].sum(0)
        found[f"s0.b{b}.mlp"] = w["down"].sum(0)
        found[f"s0.b{b}.heads"] = w["wo"].sum((0, 2))
        found[f"s0.b{b}.v"] = w["wo"].sum(0)
        found[f"s0.b{b}.qk"] = (w["wq"].sum(2) + w["wk"].sum(2) + w["bq"] + w["bk"]) / 2
    return found


@pytest.fixture
def softmax(image: ImageInput) -> Network:
    return network_of(image, MIXERS[0], MIXERS[0])


def test_magnitudes_are_those_without_bases_unless_these_are_asked_for() -> None:
    assert not Settings(method="magnitude").rotate
    assert Settings(method="magnitude", rotate=True).rotate
    assert Settings(method="taylor").rotate


def test_magnitude_is_the_squared_weights_that_read_a_unit(softmax: Network) -> None:
    found = score(softmax, [], "magnitude")
    weights = {name: weight.detach() for name, weight in softmax.named_parameters()}
    expected = by_hand({name: weight.square() for name, weight in weights.items()})
    for name, value in expected.items():
        close(found[name], value)
    assert found.keys() == expected.keys() | {at.name for at in softmax.walk()}


def test_taylor_is_the_absolute_product_with_the_mean_gradient(
    softmax: Network, data: list[tuple[Tensor, Tensor]]
) -> None:
    weights: Weights = {name: weight.detach().requires_grad_() for name, weight in softmax.named_parameters()}
    mean = torch.stack([loss_of(softmax, weights, *batch) for batch in data]).mean()
    gradients = dict(zip(weights, torch.autograd.grad(mean, list(weights.values())), strict=True))
    found = score(softmax, data, "taylor")
    for name, value in by_hand({n: (w.detach() * gradients[n]).abs() for n, w in weights.items()}).items():
        close(found[name], value)


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_score_the_same_units(softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method) -> None:
    shapes = {name: value.shape for name, value in score(softmax, data, "nvit").items()}
    assert {name: value.shape for name, value in score(softmax, data, method).items()} == shapes


def test_random_depends_on_the_seed_alone(softmax: Network, data: list[tuple[Tensor, Tensor]]) -> None:
    first, again, other = (score(softmax, d, "random", seed=s) for d, s in (([], 3), (data, 3), ([], 4)))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not any(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("method", ["nvit", "taylor"])
def test_every_batch_counts_alike(softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method) -> None:
    ticks: list[int] = []
    backwards = score(softmax, data[::-1], method, report=lambda: ticks.append(1))
    assert len(ticks) == len(data)
    for name, value in score(softmax, data, method).items():
        torch.testing.assert_close(value, backwards[name], rtol=1e-6, atol=1e-12)
    if method == "nvit":
        alone = [score(softmax, [batch], method) for batch in data]
        for name, value in score(softmax, data, method).items():
            torch.testing.assert_close(value, torch.stack([one[name] for one in alone]).mean(0), rtol=1e-6, atol=1e-12)


def untouched(network: Network, before: Weights) -> None:
    assert not network.training
    for name, weight in network.named_parameters():
        assert weight.grad is None, name
        assert weight.requires_grad, name
        assert torch.equal(weight.detach(), before[name]) or name == "head_bias"
        assert not weight._post_accumulate_grad_hooks
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("method", METHODS)
def test_the_network_is_left_as_it_was(softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method) -> None:
    before = {name: weight.detach().clone() for name, weight in softmax.named_parameters()}
    score(softmax, data, method)
    untouched(softmax, before)


@pytest.mark.parametrize("method", ["nvit", "taylor"])
def test_what_cannot_be_scored_is_said(softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method) -> None:
    before = {name: weight.detach().clone() for name, weight in softmax.named_parameters()}
    with pytest.raises(BadData, match="no images to score"):
        score(softmax, [], method)
    untouched(softmax, before)
    with torch.no_grad():
        softmax.head_bias[1] = float("nan")
    with pytest.raises(BadData, match="the loss on the calibration images is nan"):
        score(softmax, data, method)
    untouched(softmax, before)


def test_a_gradient_that_is_not_finite_is_named(softmax: Network, data: list[tuple[Tensor, Tensor]]) -> None:
    softmax.head.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(BadData, match="the gradient of head on the calibration images is NaN or infinite"):
        score(softmax, data, "nvit")


@pytest.mark.parametrize("method", ["nvit", "taylor"])
def test_a_batch_may_go_through_in_parts(
    softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory for activations is bounded; what counts is the gradient of the whole mini-batch."""
    whole = score(softmax, data, method)
    monkeypatch.setattr("wb.compress.nvit.saliency.MICRO_TOKENS", 3 * 16)  # three images at once, and one
    for name, value in score(softmax, data, method).items():
        torch.testing.assert_close(value, whole[name], rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_kinds_that_are_kept_are_not_scored(
    softmax: Network, data: list[tuple[Tensor, Tensor]], method: Method
) -> None:
    whole = score(softmax, data, method)
    some = score(softmax, data, method, keep=("embed", "qk", "blocks"))
    assert some.keys() == {name for name in whole if not name.endswith((".embed", ".qk"))}
    if method != "random":
        assert all(torch.equal(value, whole[name]) for name, value in some.items())


def test_an_unknown_method(softmax: Network) -> None:
    with pytest.raises(BadOption, match="no method 'hessian'; there are nvit, taylor"):
        score(softmax, [], "hessian")  # type: ignore[arg-type]

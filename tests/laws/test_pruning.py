"""Laws of pruning that hold for every architecture of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.combinations import in_graphs
from tests.networks import axes_within, exactly, fed, images, random_model
from tests.networks import noise as meaningless
from wb.compress.nvit.bases import rebased
from wb.compress.nvit.compensate import compensated
from wb.compress.nvit.costs import counted
from wb.compress.nvit.nvit import NViT, Pruned
from wb.compress.nvit.saliency import Scores, score
from wb.compress.nvit.settings import Method, Settings
from wb.compress.prune.landing import Landing
from wb.compress.prune.stages import Stage
from wb.core.architecture import Architecture, axis_dims, axis_sizes
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading
from wb.data import Dataset
from wb.export.graph import export
from wb.hardware.device import Device, session
from wb.models.axes import Map, Select, SelectWithin
from wb.models.counting import count_macs
from wb.models.layers.attention import ScoredAttention
from wb.models.layers.operator import PartModule
from wb.models.model import Model, load, remap_model, save
from wb.models.named import axes_of
from wb.models.network import build, skeleton
from wb.models.passes.base import apply
from wb.training.statistics import settled, shown, with_statistics


@pytest.fixture
def model(any_architecture: Architecture) -> Model:
    """Each architecture of the catalogue with random weights."""
    return random_model(any_architecture)


@pytest.fixture
def combined(any_combination: Architecture) -> Model:
    """Each of few networks of many parts with random weights."""
    return random_model(any_combination)


@pytest.fixture
def noise(any_combination: Architecture) -> Dataset:
    """Examples and labels without a meaning, in the shape that the network takes."""
    return meaningless(any_combination)


def run(model: Model) -> Tensor:
    """Logits in float64, where rounding hides nothing."""
    with torch.no_grad():
        logits: Tensor = model.network().double()(exactly(images(model.architecture)))
    return logits


def some(size: int, seed: int) -> Tensor:
    """About half of the indices, not the first ones and not in order."""
    return torch.randperm(size, generator=torch.Generator().manual_seed(seed))[: -(-size // 2)]


def masked(model: Model, kept: Mapping[str, Tensor]) -> Model:
    """Every parameter on each axis multiplied by ones where it is kept and zeros elsewhere, (heads, units) within heads."""
    weights = dict(model.weights)
    for name, dimensions in axes_of(build(model.architecture, "meta")).items():
        for place, axis in enumerate(dimensions):
            index = kept.get(axis.name) if axis is not None else None
            if axis is None or index is None:
                continue
            weight = weights[name].clone()
            shape = [1] * weight.dim()
            shape[place] = weight.shape[place]
            if index.dim() == 1:
                mask = torch.zeros(shape[place])
                mask[index] = 1
                weights[name] = weight * mask.reshape(shape)
                continue
            around = f"{axis.name.rsplit('.', 1)[0]}.{axis_dims(model.architecture)[axis.name].within}"
            heads = dimensions.index(axis._replace(name=around))
            for head, chosen in enumerate(index):
                mask = torch.zeros(shape[place])
                mask[chosen] = 1
                part = [1] * (weight.dim() - 1)
                part[place - (heads < place)] = -1
                weight.select(heads, head).mul_(mask.reshape(part))
            weights[name] = weight
    return Model(model.architecture, weights)


def exact(model: Model) -> dict[str, int]:
    """The axes on which pruning equals masking.

    What goes from the others changes the statistics of a norm, or is not scored: the impulse response of those that stay, how
    often signs can agree (a masked bit is always -1), the mean distance to all anchors (a masked one is in the middle).
    """
    dims = axis_dims(model.architecture)
    sizes, averaged = axis_sizes(model.architecture).items(), averages(model.architecture)
    return {n: size for n, size in sizes if dims[n].scored and n not in averaged}


def averages(architecture: Architecture) -> dict[str, int]:
    """The axes over which a norm takes statistics, with their sizes."""
    network = build(architecture, "meta")
    axes, sizes = axes_of(network), axis_sizes(architecture)
    on = {
        axes[f"{name}.{parameter}"][dim]
        for name, module in network.named_modules()
        if isinstance(module, PartModule)
        for parameter, dimensions in module.axes.items()
        for dim, axis in enumerate(dimensions)
        if axis is not None and axis.name in module.averaged
    }
    return {axis.name: sizes[axis.name] for axis in on if axis is not None}


def test_pruning_equals_masking(combined: Model) -> None:
    kept = {name: some(size, i) for i, (name, size) in enumerate(exact(combined).items())}
    for name, index in kept.items():
        pruned = remap_model(combined, {name: Select(index)})
        assert axis_sizes(pruned.architecture)[name] == len(index)
        expected = run(masked(combined, {name: index}))
        torch.testing.assert_close(run(pruned), expected, rtol=1e-6, atol=1e-7, msg=name)
    together = remap_model(combined, {name: Select(index) for name, index in kept.items()})
    torch.testing.assert_close(run(together), run(masked(combined, kept)), rtol=1e-6, atol=1e-7)


def test_pruning_within_heads_equals_masking(any_with_heads: Architecture) -> None:
    model = random_model(any_with_heads)
    sizes, apart = axis_sizes(any_with_heads), averages(any_with_heads)
    outer = {name: around for name, around in axes_within(any_with_heads).items() if name not in apart}
    kept = {n: torch.stack([some(sizes[n], 7 * i) for i in range(sizes[o])]) for n, o in outer.items()}
    heads = {o: some(sizes[o], 3) for o in outer.values()}
    within: dict[str, Map] = {n: SelectWithin(index, outer[n]) for n, index in kept.items()}
    pruned = remap_model(remap_model(model, within), {o: Select(index) for o, index in heads.items()})
    torch.testing.assert_close(run(pruned), run(masked(model, kept | heads)), rtol=1e-6, atol=1e-7)


def test_pruning_differs_from_masking_where_norms_see_the_axis(model: Model) -> None:
    """Residual and stem channels: LayerNorm and GroupNorm take their statistics over fewer channels. It is never exact."""
    for name, size in averages(model.architecture).items():
        index = some(size, 5)
        difference = run(remap_model(model, {name: Select(index)})) - run(masked(model, {name: index}))
        assert difference.abs().max() > 1e-7, name  # in float64; gates hide much of it


def test_pruning_to_the_same_size_changes_nothing(combined: Model, noise: Dataset) -> None:
    whole: dict[str, Map] = {name: Select(torch.arange(n)) for name, n in axis_sizes(combined.architecture).items()}
    same = remap_model(combined, whole)
    assert axis_sizes(same.architecture) == axis_sizes(combined.architecture)
    assert same.weights.keys() == combined.weights.keys()
    assert all(torch.equal(weight, combined.weights[name]) for name, weight in same.weights.items())
    assert torch.equal(run(same), run(combined))
    costs = {"params": counted(combined.architecture, "params")}
    target = costs["params"](combined.architecture)
    pruned = apply(
        NViT(noise, {"params": target}, costs, Settings(rounds=2, method="magnitude", rotate=False)), combined
    )
    assert pruned.architecture == combined.architecture
    restated = settled(combined, shown(noise.train))
    assert all(torch.equal(weight, restated.weights[name]) for name, weight in pruned.weights.items())


def test_heads_in_their_bases_compute_the_same(any_of_images: Architecture) -> None:
    """Every softmax changes, and what else passes the biases of values; nothing else does."""
    model = random_model(any_of_images)
    turned = rebased(model, [images(model.architecture, 12)])
    mixers = {at.prefix: at.operator for at in skeleton(model.architecture).walk() if at.kind == "mixer"}
    scored = {f"{prefix}.wq" for prefix, mixer in mixers.items() if isinstance(mixer, ScoredAttention)}
    passing = {f"{prefix}.wo" for prefix, mixer in mixers.items() if mixer.convex}
    changed = {name for name, weight in turned.weights.items() if not torch.equal(weight, model.weights[name])}
    assert {name for name in changed if name.endswith(("wq", "wo"))} == scored | passing
    assert {name.rsplit(".", 1)[1] for name in changed} <= {"wq", "bq", "wk", "bk", "wv", "bv", "wo"}
    assert turned.architecture == model.architecture
    torch.testing.assert_close(run(turned), run(model), rtol=1e-5, atol=1e-6)


def test_norms_with_the_statistics_of_images_compute_the_same(combined: Model, noise: Dataset) -> None:
    """Finding them anew then changes nothing, where one batch has all the images."""
    turned = settled(combined, [torch.from_numpy(noise.train.inputs())])
    torch.testing.assert_close(run(turned), run(combined), rtol=1e-4, atol=1e-5)
    again = with_statistics(turned, noise.train)
    torch.testing.assert_close(run(again), run(combined), rtol=1e-3, atol=1e-4)
    assert (turned is combined) == (not skeleton(combined.architecture).statistics())


def test_compensation_leaves_what_was_not_cut(combined: Model, noise: Dataset) -> None:
    """With the fit itself, as a pass that cuts nothing does not begin it."""
    whole = with_statistics(combined, noise.train)
    # In float64, as one of the networks enlarges the roundings of weights in float32 beyond any bound that says something.
    whole = replace(whole, weights={name: exactly(weight) for name, weight in whole.weights.items()})
    fitted = compensated(whole, whole, {}, noise)
    assert fitted.architecture == whole.architecture
    torch.testing.assert_close(run(fitted), run(whole), rtol=0, atol=1e-5)


def test_compensation_brings_a_cut_network_nearer(combined: Model, noise: Dataset) -> None:
    """On the images that it looks at, whatever was cut."""
    whole = with_statistics(combined, noise.train)
    sizes = {n: s for n, s in axis_sizes(whole.architecture).items() if axis_dims(whole.architecture)[n].scored}
    kept = {name: some(size, i) for i, (name, size) in enumerate(sizes.items())}
    cut = with_statistics(remap_model(whole, {name: Select(index) for name, index in kept.items()}), noise.train)
    streams = {name: index for name, index in kept.items() if name.endswith(".embed")}
    x = exactly(torch.from_numpy(noise.train.inputs()))
    with torch.no_grad():
        wanted, before, after = (
            one.network().double()(x) for one in (whole, cut, compensated(cut, whole, streams, noise))
        )
    assert (after - wanted).square().mean() < 0.9 * (before - wanted).square().mean()


@pytest.mark.parametrize("method", ["nvit", "taylor", "magnitude"])
def test_a_permuted_twin_has_permuted_saliencies(combined: Model, noise: Dataset, method: Method) -> None:
    sizes = {n: s for n, s in axis_sizes(combined.architecture).items() if axis_dims(combined.architecture)[n].scored}
    outer = {name: around for name, around in axes_within(combined.architecture).items() if name in sizes}

    def scores_of(model: Model) -> Scores:
        x, labels = exactly(torch.from_numpy(noise.train.inputs())), torch.from_numpy(noise.train.labels)
        data = [(x[:5], labels[:5]), (x[5:8], labels[5:8])]
        return score(model.network().double(), data, method)

    order = {n: torch.randperm(s, generator=torch.Generator().manual_seed(i)) for i, (n, s) in enumerate(sizes.items())}
    own = {
        n: torch.rand(sizes[o], sizes[n], generator=torch.Generator().manual_seed(9)).argsort(1)
        for n, o in outer.items()
    }
    twin = remap_model(combined, {n: SelectWithin(index, outer[n]) for n, index in own.items()})
    twin = remap_model(twin, {n: Select(index) for n, index in order.items()})
    before, after = scores_of(combined), scores_of(twin)
    assert before.keys() == after.keys() >= sizes.keys()
    assert all(value.isfinite().all() for value in before.values())
    for name, expected in before.items():
        if name in own:
            expected = expected.gather(1, own[name])[order[outer[name]]]
        if name in order:
            expected = expected[..., order[name]]
        torch.testing.assert_close(after[name].double(), expected.double(), rtol=1e-4, atol=1e-9, msg=name)


def test_a_pruned_network_counts_exports_and_computes(combined: Model, noise: Dataset, tmp_path: Path) -> None:
    """Through the correcting last round, as some mixers' costs are predicted only nearly."""
    dense = count_macs(combined.architecture)
    target = 0.6 * dense.value
    costs = {"macs": counted(combined.architecture, "macs")}
    pruner = NViT(noise, {}, costs, Settings(calibration=16, batch=8))

    def read(models: Mapping[str, Model], **_: object) -> dict[str, dict[str, Reading]]:
        return {name: {"macs": count_macs(m.architecture)} for name, m in models.items()}

    stage = Stage("", (Limit(METRICS["macs"], target),), 1)
    landing = Landing(pruner.cut, lambda model: model, read, stage, combined, lambda *_: None)  # type: ignore[arg-type]
    _, state = landing(pruner.scored(Pruned(combined)))
    save(state.model, tmp_path / "pruned.safetensors")
    pruned = load(tmp_path / "pruned.safetensors")
    assert pruned.architecture == state.model.architecture
    assert count_macs(pruned.architecture).value <= target
    if not in_graphs(pruned.architecture):
        return
    export(pruned, tmp_path / "pruned.onnx")
    x = images(pruned.architecture, 5)
    (logits,) = runtime(tmp_path / "pruned.onnx", x)
    torch.testing.assert_close(torch.from_numpy(logits), pruned.network()(x).detach(), rtol=1e-4, atol=1e-4)


def runtime(path: Path, x: Tensor) -> Sequence[np.ndarray]:
    outputs: Sequence[np.ndarray] = session(path, Device()).run(None, fed(x))
    return outputs

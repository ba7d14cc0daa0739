"""Pruning foreign modules: the saliency against explicit gates, the graph against masks, budgets, and what is refused."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from wb.compress.depgraph.foreign import (
    check_module,
    finetune,
    import_factory,
    label_loss,
    load_weights,
    publish,
    recalibrate,
)
from wb.compress.depgraph.graph import Family, Traced, differs, layer_macs, masked, measure_size, pruned, trusted
from wb.compress.depgraph.importance import GateFisher
from wb.compress.depgraph.latency import check_limits, judged
from wb.compress.depgraph.pruning import Batches, Pruned, family_chunks, prune_module
from wb.core.errors import BadArtefact, BadData, BadOption, BudgetMissed, MissingExtra, StorageFailed, Unsupported
from wb.core.measures.metrics import parse_budget
from wb.core.measures.readings import Reading
from wb.core.specs import PIXELS
from wb.data import Dataset
from wb.export.counting.graph import count_graph
from wb.export.graph import export_module
from wb.export.timing.measure import Latency
from wb.training.fit import Recipe


class Residual(nn.Module):
    """Two convolutions with norms beside a shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.shortcut(x) + self.second(torch.relu(self.norm(self.first(x)))))


class Heads(nn.Module):
    """Attention of two heads written by hand, which no graph can know of, before a feed-forward of 48."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.qkv = nn.Linear(16, 48)
        self.out = nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 48), nn.Linear(48, 16), nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.embed(images.flatten(1, 2))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        q, k, v = (t.reshape(len(t), t.shape[1], 2, -1).transpose(1, 2) for t in (q, k, v))
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        logits: Tensor = self.head((x + self.down(torch.relu(self.up(x)))).mean(1))
        return logits


def weight(module: nn.Module, name: str) -> Tensor:
    """The weight of one layer."""
    found: Tensor = module.get_parameter(f"{name}.weight")
    return found


def convnet() -> nn.Sequential:
    """Plain, residual, depthwise, and flattened channels, with norms whose statistics are not the initial ones."""
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(1, 24, 3, 1, 1), nn.BatchNorm2d(24), nn.ReLU()),
        Residual(24, 32),
        *(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Conv2d(32, 40, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(160, 3)),
    )
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.2)
    return net.eval()


def perceptron() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))


def grouped() -> nn.Sequential:
    """Convolutions in groups, and a transposed one."""
    torch.manual_seed(2)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, groups=4), nn.ReLU()),
        *(nn.ConvTranspose2d(24, 12, 3), nn.ReLU(), nn.Conv2d(12, 8, 3), nn.Flatten(), nn.Linear(128, 3)),
    ).eval()


def some_batches(count: int = 3, size: int = 4) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (torch.rand(size, 1, 8, 8, generator=generator), torch.randint(3, (size,), generator=generator))
        for _ in range(count)
    ]


EXAMPLE = some_batches(1, 2)[0][0]


def observed(module: nn.Module, batches: Batches, cost: str = "none") -> tuple[Traced, GateFisher]:
    traced = Traced(module, EXAMPLE)
    importance = GateFisher(traced, EXAMPLE, cost)  # type: ignore[arg-type]
    for images, labels in batches:
        module.zero_grad()
        label_loss(module(images), labels).backward()
        importance.observe(module)
    return traced, importance


def gate_gradient(module: nn.Module, readers: Sequence[str], channels: int, batch: tuple[Tensor, Tensor]) -> Tensor:
    """dL/dg with a gate of ones at the input of the readers, as plain as can be; flattened inputs are spread."""
    gate = torch.ones(channels, requires_grad=True)

    def spread(_: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        (x,) = inputs
        wide = gate.repeat_interleave(x.shape[1] // channels)
        return x * wide.view(1, -1, *[1] * (x.ndim - 2))

    hooks = [module.get_submodule(name).register_forward_pre_hook(spread) for name in readers]
    label_loss(module(batch[0]), batch[1]).backward()
    for hook in hooks:
        hook.remove()
    assert gate.grad is not None
    return gate.grad


READERS = [  # module, root, what reads its channels
    (convnet, "0", ["3.first", "3.shortcut"]),
    (convnet, "3.first", ["3.second"]),
    (convnet, "3.shortcut", ["5"]),  # through the depthwise convolution
    (convnet, "5", ["9"]),  # through the flattening
    (perceptron, "1", ["3"]),
    (grouped, "0", ["2"]),
    (grouped, "4", ["6"]),
]


@pytest.mark.parametrize(("make", "root", "readers"), READERS)
def test_saliency_is_that_of_explicit_gates(make, root, readers) -> None:  # type: ignore[no-untyped-def]
    module, batches = make(), some_batches()
    traced, importance = observed(module, batches)
    (family,) = [f for f in traced.families() if root in _written(traced, f)]
    group = traced.group(family.root)
    gates = torch.stack([gate_gradient(module, readers, family.units * family.parts, b) for b in batches]).double()
    torch.testing.assert_close(importance.gates(group), gates, rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(importance(group), gates.square().mean(0), rtol=2e-3, atol=1e-12)
    units = gates.view(len(gates), family.parts, -1).sum(1).square().mean(0)
    torch.testing.assert_close(importance.units(group, family.parts), units, rtol=2e-3, atol=1e-12)


def _written(traced: Traced, family: Family) -> set[str]:
    names = {layer: name for name, layer in traced.module.named_modules()}
    return {names[item.dep.target.module] for item in traced.writers(traced.group(family.root))}


def test_every_batch_counts_and_their_order_does_not() -> None:
    """torch-pruning's GroupHessianImportance forgets all but the last."""
    module, batches = convnet(), some_batches()
    scores = {}
    for name, chosen in {
        "all": batches,
        "turned": batches[::-1],
        "0": batches[:1],
        "1": batches[1:2],
        "both": batches[:2],
    }.items():
        traced, importance = observed(module, chosen)
        scores[name] = torch.cat([importance(traced.group(family.root)) for family in traced.families()])
    torch.testing.assert_close(scores["all"], scores["turned"])
    torch.testing.assert_close(scores["both"], (scores["0"] + scores["1"]) / 2)
    assert not torch.allclose(scores["both"], scores["1"])


def test_scores_are_divided_by_what_dropping_a_channel_saves() -> None:
    module, batches = convnet(), some_batches()
    plain, dear = observed(module, batches), observed(module, batches, "macs")
    whole = layer_macs(module, EXAMPLE)[""]
    for family in plain[0].families():
        group = dear[0].group(family.root)
        smaller = pruned(module, EXAMPLE, [(family, [0])])
        saved = whole - layer_macs(smaller, EXAMPLE)[""]
        cost = dear[1].cost(group)
        # A layer that both writes and reads the family (here: none) would save a little less than the sum.
        assert cost[0].item() == pytest.approx(saved)
        torch.testing.assert_close(dear[1](group) * cost, plain[1](plain[0].group(family.root)))


@pytest.mark.parametrize("make", [convnet, perceptron, grouped])
def test_removing_is_masking(make) -> None:  # type: ignore[no-untyped-def]
    module = make()
    families = list(Traced(module, EXAMPLE).families())
    removals = [(family, range(0, family.units, 2)) for family in families]
    smaller = pruned(module, EXAMPLE, removals)
    with torch.no_grad():
        torch.testing.assert_close(smaller(EXAMPLE), masked(module, EXAMPLE, removals)(EXAMPLE))
        assert not torch.allclose(smaller(EXAMPLE), module(EXAMPLE))
    assert measure_size(smaller, EXAMPLE).macs < measure_size(module, EXAMPLE).macs
    assert differs(module, EXAMPLE, removals) == ""


def test_attention_by_hand_is_left_alone_and_the_rest_is_pruned() -> None:
    torch.manual_seed(0)
    module = Heads().eval()
    good, bad = trusted(module, EXAMPLE, list(Traced(module, EXAMPLE).families()))
    assert "up" in {family.root for family in good}
    assert any("qkv" in root for root in bad), bad
    result = prune(module, "params=0.8x")
    assert weight(result.module, "qkv").shape == (48, 16)
    assert weight(result.module, "up").shape[0] < 48
    assert set(result.kept) == set(bad)


def test_torch_attention_keeps_its_widths() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True)
    module = nn.Sequential(nn.Flatten(1, 2), nn.Linear(8, 16), layer, nn.Flatten(), nn.Linear(128, 3)).eval()
    result = prune(module, "macs=0.8x")
    assert weight(result.module, "2.linear1").shape[0] < 64
    assert weight(result.module, "1").shape == (16, 8)


def prune(module: nn.Module, *budget: str, rounds: int = 2, **options: object) -> Pruned:
    return prune_module(
        module,
        EXAMPLE,
        some_batches(),
        label_loss,
        parse_budget(budget),
        rounds=rounds,
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("budget", ["macs=0.5x", "macs=0.25x", "params=0.5x", "macs=300k"])
def test_the_budget_is_met_within_one_percent(budget: str, tmp_path: Path) -> None:
    module = convnet()
    before = copy.deepcopy(module.state_dict())
    result = prune(module, budget)
    (limit,) = parse_budget([budget])
    name = limit.metric.name
    target = limit.value * (getattr(result.dense, name) if limit.relative else 1)
    assert 0.99 * target <= getattr(result.size, name) <= target
    for key, value in module.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert all(p.grad is None for p in module.parameters())
    path = tmp_path / "pruned.onnx"
    export_module(result.module, {PIXELS: EXAMPLE}, path)
    assert count_graph(path).readings["macs"].value == result.size.macs
    (logits,) = onnxruntime.InferenceSession(str(path)).run(None, {"pixel_values": EXAMPLE.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(logits), result.module(EXAMPLE), rtol=1e-4, atol=1e-4)


def test_two_budgets_are_both_kept() -> None:
    result = prune(convnet(), "macs=0.6x", "params=0.3x")
    assert result.size.macs <= 0.6 * result.dense.macs
    assert result.size.params <= 0.3 * result.dense.params


def test_widths_are_rounded_where_asked() -> None:
    result = prune(convnet(), "macs=0.5x", round_to=8)
    assert 0.3 * result.dense.macs < result.size.macs <= 0.5 * result.dense.macs
    assert all(p.shape[0] % 8 == 0 for p in list(result.module.parameters())[:-2])
    assert family_chunks([4, 2, 0, 1, 3], 2) == [(4,), (2, 0), (1, 3)]
    assert family_chunks([1, 0], 2) == [(1, 0)]
    assert family_chunks([1, 0], 4) == [(1, 0)]


def test_layers_that_are_named_keep_their_outputs() -> None:
    result = prune(convnet(), "macs=0.7x", keep=["3"])
    assert weight(result.module, "3.first").shape[0] == 32
    assert weight(result.module, "3.second").shape[:2] == (32, 32)
    assert set(result.kept.values()) == {"asked for"}


def test_pruning_keeps_more_than_chance_and_finetuning_brings_it_back(stripes: Dataset) -> None:
    module = convnet()
    finetune(module, None, stripes, Recipe(epochs=4, learning_rate=1e-2))
    images, labels = torch.from_numpy(stripes.test.pixels()), torch.from_numpy(stripes.test.labels)
    batches = [
        (torch.from_numpy(stripes.train.pixels(slice(i, i + 16))), torch.from_numpy(stripes.train.labels[i : i + 16]))
        for i in range(0, 192, 16)
    ]
    result = prune_module(module, images[:2], batches, label_loss, parse_budget(["macs=0.4x"]), rounds=3)
    finetune(result.module, module, stripes, Recipe(epochs=2, learning_rate=1e-3))
    with torch.no_grad():
        assert (result.module(images).argmax(1) == labels).float().mean() > 0.9


def test_recalibration_gives_norms_the_statistics_of_what_they_see() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout())
    batches = [images for images, _ in some_batches()]
    recalibrate(module, [*batches, batches[0][:1]])
    norm = module[0]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_mean.item() == pytest.approx(torch.cat(batches).mean().item())
    assert norm.momentum == 0.1
    assert not module.training


def test_budgets_that_cannot_be_are_refused() -> None:
    with pytest.raises(BadOption, match="met already"):
        prune(convnet(), "macs=1x")
    with pytest.raises(BudgetMissed, match="left with 1 of each kind"):
        prune(convnet(), "macs=0.001x")
    with pytest.raises(BadOption, match="cannot be counted in a module"):
        prune(convnet(), "latency=1ms")
    with pytest.raises(BadOption, match="no budget"):
        prune(convnet())
    with pytest.raises(BadOption, match="no layer 'x' to keep"):
        prune(convnet(), "macs=0.5x", keep=["x"])
    with pytest.raises(BadOption, match="no cost 'time'"):
        prune(convnet(), "macs=0.5x", cost="time")
    with pytest.raises(BadOption, match="0 rounds"):
        prune(convnet(), "macs=0.5x", rounds=0)


def test_a_limit_on_latency_is_alone() -> None:
    assert check_limits(parse_budget(["macs=0.5x,params=0.5x"])) is None
    (limit,) = parse_budget(["latency=1ms"])
    assert check_limits([limit]) is limit
    for budget, message in {
        "latency=1ms,macs=0.5x": "cannot be combined",
        "size=1kB": "size cannot be",
        "": "no budget",
    }.items():
        with pytest.raises(BadOption, match=message):
            check_limits(parse_budget([budget]))


@pytest.mark.parametrize(
    ("budget", "ms", "ratios", "verdict"),
    [
        ("latency=1ms", 1.01, 0.3, "missed"),
        ("latency=1ms", 0.99, 3.0, "met"),
        ("latency=0.5x", 3.0, 0.49, "met"),  # whatever the pace of the moment makes of it in milliseconds
        ("latency=0.5x", 0.1, 0.51, "missed"),
    ],
)
def test_a_share_is_judged_by_the_ratio_milliseconds_as_they_are(
    budget: str, ms: float, ratios: float, verdict: str
) -> None:
    def latency(value: float, times: float) -> Latency:
        reading, ratio = (
            Reading(value=v, unit=unit, how="measured", interval=(0.999 * v, 1.001 * v))
            for v, unit in ((value, "ms"), (times, "x"))
        )
        return Latency(reading, ratio, 1, 0, value)

    (limit,) = parse_budget([budget])
    assert judged(limit, latency(2.0, 1.0), latency(ms, ratios)).verdict == verdict


def test_nothing_is_published_where_a_file_exists_or_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, out, weights = (tmp_path / name for name in ("graph", "w.onnx", "w.safetensors"))
    graph.write_bytes(b"new")
    for old in (out, weights):
        old.write_bytes(b"old")
        with pytest.raises(BadOption, match=f"{old.name} exists already"):
            publish(perceptron(), graph, out, weights)
        assert sorted(tmp_path.iterdir()) == sorted([graph, old])
        old.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    for path in (out, weights):
        path.write_bytes(b"old")
    monkeypatch.setattr("wb.compress.depgraph.foreign.shutil.copyfileobj", full)
    with pytest.raises(StorageFailed, match="No space left"):
        publish(perceptron(), graph, out, weights, force=True)
    assert (out.read_bytes(), weights.read_bytes()) == (b"old", b"old")
    assert sorted(tmp_path.iterdir()) == sorted([graph, out, weights])


class OwnWeights(nn.Module):
    """Nothing but a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.rand(64, 3))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.matrix


class NoGraph(nn.Module):
    """Cuts the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1)).detach()
        return logits


def test_modules_that_the_graph_cannot_follow_are_refused() -> None:
    with pytest.raises(Unsupported, match="nothing in OwnWeights can be pruned"):
        prune(OwnWeights(), "macs=0.5x")
    with pytest.raises(Unsupported, match="NoGraph"):
        prune(NoGraph(), "params=0.5x")


def test_odd_numbers_are_refused() -> None:
    broken = perceptron()
    with torch.no_grad():
        weight(broken, "1")[0, 0] = torch.nan
    with pytest.raises(BadArtefact, match=r"1\.weight of Sequential are not finite"):
        check_module(broken, EXAMPLE, 3)
    with pytest.raises(BadData, match="the loss is nan"):
        prune_module(
            perceptron(), EXAMPLE, some_batches(), lambda x, _: x.sum() * torch.nan, parse_budget(["macs=0.5x"])
        )
    module = perceptron()
    importance = GateFisher(Traced(module, EXAMPLE), EXAMPLE)
    (module(EXAMPLE).sum() * torch.inf).backward()
    with pytest.raises(BadData, match="gradients of 1 are not finite"):
        importance.observe(module)


def test_data_that_do_not_fit_are_refused() -> None:
    with pytest.raises(BadData, match="does not take images of 3x8x8"):
        check_module(convnet(), torch.rand(2, 3, 8, 8), 3)
    with pytest.raises(BadData, match=r"gives \[2, 3\] for 2 images of 10 classes"):
        check_module(convnet(), EXAMPLE, 10)
    with pytest.raises(BadData, match="gives tuple"):
        check_module(Pair(), EXAMPLE, 3)


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


FACTORIES = """
import torch
from torch import nn
width = 3
def good(): return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
def fails(): raise RuntimeError("no luck")
def number(): return 7
"""


def test_factories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wb_test_factories.py").write_text(FACTORIES, encoding="utf-8")
    (tmp_path / "wb_test_broken.py").write_text("1 / 0", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert isinstance(import_factory("wb_test_factories:good")(), nn.Sequential)
    for spec, message in {
        "wb_test_factories": "names no factory",
        "wb_test_nowhere:good": "does not import",
        "wb_test_broken:good": "does not import .ZeroDivisionError",
        "wb_test_factories:bad": "does not exist",
        "wb_test_factories:width": "is a int and cannot be called",
    }.items():
        with pytest.raises(BadOption, match=message):
            import_factory(spec)
    with pytest.raises(BadOption, match=r"failed .RuntimeError: no luck"):
        import_factory("wb_test_factories:fails")()
    with pytest.raises(BadOption, match="gave a int"):
        import_factory("wb_test_factories:number")()


def test_weights_come_back_and_others_are_refused(tmp_path: Path) -> None:
    module, other = convnet(), convnet()
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    graph = tmp_path / "graph"
    graph.write_bytes(b"graph")
    publish(module, graph, tmp_path / "w.onnx", tmp_path / "w.safetensors")
    assert (tmp_path / "w.onnx").read_bytes() == b"graph"
    torch.save(module.state_dict(), tmp_path / "w.pt")
    for name in ("w.safetensors", "w.pt"):
        load_weights(other, tmp_path / name)
        torch.testing.assert_close(other(EXAMPLE), module(EXAMPLE))
    torch.save({"epoch": 3}, tmp_path / "epoch.pt")
    torch.save(perceptron(), tmp_path / "pickled.pt")
    (tmp_path / "text.safetensors").write_text("no")
    for path, message in {
        tmp_path / "none.pt": "there is no file",
        tmp_path
        / "epoch.pt": r"something else than tensors by name \(it has epoch; save the state dict among them alone",
        tmp_path
        / "pickled.pt": r"it is a pickled object \(torch.nn.*Sequential\), and reading one runs code; save module",
        tmp_path / "text.safetensors": "no weights or is damaged",
    }.items():
        with pytest.raises(BadArtefact, match=message):
            load_weights(other, path)
    with pytest.raises(BadArtefact, match="does not fit Sequential"):
        load_weights(perceptron(), tmp_path / "w.pt")
    with pytest.raises(BadOption, match="no name for weights"):
        load_weights(other, tmp_path / "w.bin")


def test_the_names_that_wrappers_leave_are_read_without_them_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    module, other = convnet(), convnet()
    wrapped = {f"module._orig_mod.{name}": value for name, value in module.state_dict().items()}
    torch.save(wrapped, tmp_path / "w.pt")
    load_weights(other, tmp_path / "w.pt")
    torch.testing.assert_close(other(EXAMPLE), module(EXAMPLE))
    assert [record.getMessage().partition("begin with ")[2] for record in caplog.records] == [
        "'module.', as a wrapper leaves them; they are read without it",
        "'_orig_mod.', as a wrapper leaves them; they are read without it",
    ]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda state, name: state.pop(name), "1 missing, first"),
        (lambda state, name: state.update({"new\x1b[1m": state[name]}), "1 not known there, first new$"),
        (lambda state, name: state.update({name: state[name][:1, :1]}), r"1 of another shape, first .* \(given \[1, 1"),
        (lambda state, name: state.update({name: state[name] + 1j}), "given complex numbers, expected floating-point"),
        (lambda state, name: state.update({name: state[name].long()}), "given whole numbers, expected floating-point"),
        (lambda state, name: state.update({name: state[name].double() + 1e300}), "1 infinite or NaN in its precision"),
    ],
)
def test_what_does_not_fit_is_counted_and_the_first_named(
    tmp_path: Path, change: Callable[[dict[str, Tensor], str], object], text: str
) -> None:
    module = convnet()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = dict(before)
    change(state, next(iter(state)))
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(BadArtefact, match=text):
        load_weights(module, tmp_path / "w.pt")
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_without_torch_pruning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'wb\[depgraph\]'"):
        prune(perceptron(), "macs=0.5x")

"""Growth keeps the function to rounding; shrinking takes away what does least; what cannot be done is named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import functional_call

from tests.networks import assembled, form, wired, with_eps
from wb.core.architecture import Architecture, Block, Stage, axis_dims, axis_sizes, resize
from wb.core.errors import BadOption, Unsupported
from wb.core.records import (
    MIXERS,
    Classify,
    ConvStem,
    ImageInput,
    LayerNorm,
    Lmu,
    Mlp,
    Operator,
    PatchStem,
    Pool,
    Softmax,
    Stem,
    dims,
    kind_of,
)
from wb.fusion.forms.canonical import canonical
from wb.fusion.forms.conform import conform
from wb.fusion.forms.heads import factors_on
from wb.models.axes import Select, remap
from wb.models.model import Model, from_network
from wb.models.named import axes_of
from wb.models.network import build

IMAGE = ImageInput(channels=2, height=8, width=8, mean=(0.3, 0.5), std=(0.4, 0.2))
TOKENS = {0: 16, 1: 4}


def network(
    mixer: Operator | None, stem: Stem, *, pool: str = "mean", stages: int = 1, norm: str = "pre"
) -> Architecture:
    """Two blocks and one that is off between them; further stages have one."""
    block = Block.model_validate({"mixer": mixer, "ffn": Mlp(mlp=9)})
    first = Stage(embed=8, blocks=(block, Block(), Block.model_validate({"mixer": mixer})))
    rest = [Stage(embed=6, blocks=(block,)) for _ in range(stages - 1)]
    return assembled(input=IMAGE, stem=stem, stages=[first, *rest], pool=pool, norm=norm)


def catalogue() -> Iterator[tuple[str, Architecture]]:
    for kind in [kind for kind in MIXERS if "tokens" in kind.supports.planes and kind.supports.grid]:
        record = kind.sample()
        record = record.model_copy(
            update={name: size for name, size in {"heads": 3, "v": 5}.items() if name in dims(kind)}
        )
        name = kind_of(kind)
        yield f"{name}-patch", network(record, PatchStem(patch=2))
        yield f"{name}-conv-stages", network(record, ConvStem(patch=2, width=5), stages=2)
        if kind.supports.prefix:
            yield f"{name}-cls", network(record, PatchStem(patch=4), pool="cls")
    yield "no-mixer", network(None, ConvStem(patch=4, width=5))


CATALOGUE = {name: a for name, a in catalogue() if isinstance(a.input, ImageInput)}
SOFTMAX = CATALOGUE["softmax-patch"]
every = pytest.mark.parametrize("name", CATALOGUE)


def random_model(architecture: Architecture, seed: int = 0) -> Model:
    """In canonical form, float64, no weight zero or one before."""
    built = build(architecture)
    generator = torch.Generator().manual_seed(seed)
    jumps = any(at.operator.jumps and at.operator.statistics for at in built.walk())
    with torch.no_grad():
        for weight in built.parameters():
            weight.normal_(0, 1.0 if jumps else 0.3, generator=generator)  # thresholds have to be reached
        for name in built.statistics():
            built.get_parameter(name).abs_()
    model = from_network(architecture, built)
    return canonical(replace(model, weights={name: w.double() for name, w in model.weights.items()}))


def pictures(n: int = 6) -> Tensor:
    return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(1))


def run(model: Model) -> Tensor:
    """Logits in float64."""
    weights = {name: weight.double() for name, weight in model.weights.items()}
    with torch.no_grad():
        logits: Tensor = functional_call(build(model.architecture, "meta"), weights, pictures().double())
    return logits


def same(one: Model, other: Model, what: object = "") -> None:
    torch.testing.assert_close(run(one), run(other), rtol=1e-9, atol=1e-9, msg=lambda text: f"{what}: {text}")


def averaged(architecture: Architecture, axis: str) -> bool:
    """Whether its operator takes statistics over the axis."""
    walk = build(architecture, "meta").walk()
    return any(axis in (f"{at.place}.{part}", f"s{at.stage}.{part}") for at in walk for part in at.operator.averaged)


def bent(architecture: Architecture) -> bool:
    """Whether some mixer does not look at the stream through linear maps, so that the stream may not be rotated."""
    return any(at.operator.stream == "permutation" for at in build(architecture, "meta").walk())


def exact(name: str, axis: str, size: int, architecture: Architecture) -> int:
    """A larger size at which the function can be kept; for most axes any."""
    dim = axis_dims(architecture)[axis]
    if dim.fitted:
        return TOKENS[int(axis[1])] + 4
    doubles = name.startswith("pool") or bent(architecture) or form(architecture) == "post"
    if axis == "stem.width" or (axis.endswith("embed") and doubles):
        return 2 * size
    learning = any(kind in name for kind in ("titans", "atlas"))
    if learning and axis.endswith(("channels", "hidden")):  # how fast a memory learns is a matter of how many it has
        return size
    if "prototype" in name and axis.endswith(("heads", "prototype")):  # entries twice are other lengths
        return size
    if averaged(architecture, axis):
        return 2 * size
    if not dim.scored:  # all as often as each other; where they are ordered, one more changes all
        return size if dim.ordered else 2 * size
    return size + size // 2 + 1


def deeper(architecture: Architecture, count: int = 5) -> Architecture:
    """Every stage with `count` blocks that are on, of the kinds that it has, in the order in which they spread."""
    stages = []
    for stage in architecture.stages:
        on = [block for block in stage.blocks if not block.off]
        blocks = tuple(on[k * len(on) // count] for k in range(count))
        stages.append(stage.model_copy(update={"blocks": (*blocks[:1], Block(), *blocks[1:])}))
    return architecture.model_copy(update={"stages": tuple(stages)})


@every
def test_the_same_size_is_the_identity(name: str) -> None:
    model = random_model(CATALOGUE[name])
    for images in (None, pictures()):
        result = conform(model, CATALOGUE[name], images)
        assert result.architecture == model.architecture
        assert result.weights.keys() == model.weights.keys()
        assert all(torch.equal(weight, result.weights[key]) for key, weight in model.weights.items())


@every
def test_every_axis_grows_without_a_trace(name: str) -> None:
    model = random_model(CATALOGUE[name])
    for axis, size in axis_sizes(model.architecture).items():
        goal = resize(model.architecture, {axis: exact(name, axis, size, model.architecture)})
        result = conform(model, goal)
        assert result.architecture == goal
        same(model, result, axis)


@every
def test_everything_grows_at_once_and_the_type_of_the_weights_stays(name: str) -> None:
    model = random_model(CATALOGUE[name])
    wide = deeper(model.architecture)
    wide = resize(wide, {a: exact(name, a, n, wide) for a, n in axis_sizes(wide).items()})
    for images in (None, pictures()):
        result = conform(model, wide, images)
        assert result.architecture == wide
        assert {weight.dtype for weight in result.weights.values()} == {torch.float64}
        same(model, result)
    single = replace(model, weights={key: weight.float() for key, weight in model.weights.items()})
    result = conform(single, wide)
    assert {weight.dtype for weight in result.weights.values()} == {torch.float32}
    torch.testing.assert_close(run(result), run(model), rtol=1e-3, atol=1e-3)


@settings(max_examples=25, deadline=None)
@given(
    data=st.data(), name=st.sampled_from(["softmax-patch", "softmax-cls", "sla-patch", "cosformer-cls", "lmu-patch"])
)
def test_growth_to_any_sizes_keeps_the_function(data: st.DataObject, name: str) -> None:
    model = random_model(CATALOGUE[name])
    sizes = {
        axis: size + data.draw(st.integers(0, 9), label=axis)
        for axis, size in axis_sizes(model.architecture).items()
        if not axis.endswith("memory")
    }
    same(model, conform(model, resize(model.architecture, sizes)))


@every
def test_padding_in_depth_keeps_the_function(name: str) -> None:
    model = random_model(CATALOGUE[name])
    for count in (3, 4, 7):
        goal = deeper(model.architecture, count)
        result = conform(model, goal)
        assert result.architecture == goal
        same(model, result, count)


def test_sublayers_are_added_silently_and_left_out() -> None:
    model = random_model(network(None, PatchStem(patch=2)))
    mixers: tuple[Operator, ...] = (Softmax(heads=2, qk=3, v=4), Pool(), Lmu(memory=3, hidden=4))
    for mixer in mixers:
        block = Block.model_validate({"mixer": mixer, "ffn": Mlp(mlp=9)})
        goal = model.architecture.model_copy(update={"stages": (Stage(embed=8, blocks=(block, block)),)})
        grown = conform(model, goal)
        same(model, grown, mixer)
        back = conform(grown, model.architecture)
        assert all(torch.equal(weight, back.weights[name]) for name, weight in model.weights.items())


@every
def test_what_grew_without_copies_shrinks_back_to_the_same_function(name: str) -> None:
    """The stream by rotation, channels of heads by zeros, memory by what the larger one can say, depth by idle blocks."""
    model = random_model(CATALOGUE[name])
    for images in (None, pictures(40)):
        for axis, size in axis_sizes(model.architecture).items():
            rotated = axis.endswith(".embed") and not (name.startswith("pool") or bent(model.architecture))
            padded = axis.endswith((".qk", ".v")) and name.startswith("softmax")
            if rotated or padded or axis.endswith(".memory"):
                grown = conform(model, resize(model.architecture, {axis: exact(name, axis, size, model.architecture)}))
                same(model, conform(grown, model.architecture, images), axis)
        same(model, conform(conform(model, deeper(model.architecture, 4)), model.architecture, images), "depth")


def killed(model: Model, axis: str, entries: list[int]) -> Model:
    """Nothing reads those entries any more, nor (queries and keys) writes them."""
    weights = dict(model.weights)
    axes = axes_of(build(model.architecture, "meta"))
    read = any((axis, "read") in dimensions for dimensions in axes.values())
    for name, dimensions in axes.items():
        for dim, on in enumerate(dimensions):
            if on == (axis, "read" if read else "write"):
                weights[name] = weights[name].index_fill(dim, torch.tensor(entries), 0)
    return replace(model, weights=weights)


@every
def test_dead_entries_go_first(name: str) -> None:
    model = random_model(CATALOGUE[name])
    for axis, size in axis_sizes(model.architecture).items():
        part = axis.rsplit(".", 1)[1]
        walk = build(model.architecture, "meta").walk()
        owners = [at.operator for at in walk if f"{at.place}.{part}" == axis and part in at.operator.sizes]
        sorted_channels = any(factors_on(owner, part) is not None for owner in owners)
        if part not in ("embed", "width") and axis_dims(model.architecture)[axis].scored and not sorted_channels:
            if averaged(model.architecture, axis):
                continue
            dead = killed(model, axis, [0, size - 2])
            same(dead, conform(dead, resize(model.architecture, {axis: size - 2})), axis)


def test_each_head_keeps_channels_of_its_own() -> None:
    """Dead are others in each head, which only a choice within heads survives."""
    model = random_model(CATALOGUE["cosformer-patch"])
    keep = torch.ones(3, 4, dtype=torch.float64)
    keep[[0, 1, 2], [0, 2, 3]] = 0
    prefix = "stages.0.0.mixer"
    parts = {f"{prefix}.{n}": model.weights[f"{prefix}.{n}"] * keep[..., None] for n in ("wq", "wk")}
    parts |= {f"{prefix}.{n}": model.weights[f"{prefix}.{n}"] * keep for n in ("bq", "bk")}
    dead = replace(model, weights={**model.weights, **parts})
    same(dead, conform(dead, resize(model.architecture, {"s0.b0.qk": 3})))


@pytest.mark.parametrize("part", ["qk", "v"])
def test_the_strongest_channels_of_a_head_are_kept(part: str) -> None:
    model = random_model(SOFTMAX)
    result = conform(model, resize(model.architecture, {f"s0.b0.{part}": 2}))
    for name in (f"w{part[0]}", f"b{part[0]}"):
        kept, whole = result.weights[f"stages.0.0.mixer.{name}"], model.weights[f"stages.0.0.mixer.{name}"]
        assert torch.equal(kept, whole[:, :2])


def test_heads_of_most_energy_are_kept() -> None:
    """Against the circuits written out."""
    model = random_model(SOFTMAX)
    w = {n: model.weights[f"stages.0.0.mixer.{n}"] for n in ("wq", "bq", "wk", "wv", "wo")}
    energy = []
    for h in range(3):
        circuit = (w["wo"][:, h] @ w["wv"][h]).norm()
        queries = torch.cat([w["wq"][h], w["bq"][h, :, None]], dim=1).norm()
        energy.append(float(circuit * queries * w["wk"][h].norm()))
    best = sorted(sorted(range(3), key=energy.__getitem__)[1:])
    result = conform(model, resize(model.architecture, {"s0.b0.heads": 2}))
    assert torch.equal(result.weights["stages.0.0.mixer.wk"], w["wk"][best])


def writers(model: Model, axis: str) -> Tensor:
    """(D, everything that is written), norms left out."""
    columns = [
        weight.movedim(dim, 0).reshape(weight.shape[dim], -1)
        for name, weight in model.weights.items()
        for dim, on in enumerate(axes_of(build(model.architecture, "meta"))[name])
        if on == (axis, "write") and not name.endswith((".gain", ".shift"))
    ]
    return torch.cat(columns, dim=1)


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_a_stream_keeps_its_principal_directions_and_the_ones(size: int) -> None:
    """What is left of the energy of all writers is what the singular values say; the mean of a token stays its mean."""
    model = random_model(CATALOGUE["softmax-conv-stages"])
    result = conform(model, resize(model.architecture, {"s0.embed": size}))
    before, after = writers(model, "s0.embed"), writers(result, "s0.embed")
    torch.testing.assert_close(after.mean(dim=0), before.mean(dim=0))
    centred = [w - w.mean(dim=0) for w in (before, after)]
    kept = torch.linalg.svdvals(centred[0])[: size - 1].square().sum()
    assert float(centred[1].square().sum() * 8 / size) == pytest.approx(float(kept), abs=1e-9)
    gains = [w for name, w in result.weights.items() if name.startswith("stages.0") and name.endswith("gain")]
    for gain in gains:
        torch.testing.assert_close(gain, torch.ones_like(gain))


def test_a_stream_is_cut_to_what_the_images_show() -> None:
    """A loud channel that no image reaches is nothing to keep, once there are images."""
    model = random_model(SOFTMAX)
    loud, gone = torch.zeros(8, dtype=torch.float64), {}
    loud[0], loud[1] = 1, -1
    for name in ("stages.0.0.mixer", "stages.0.2.mixer", "stages.0.0.ffn"):
        weight = "wo" if name.endswith("mixer") else "down"
        gone[f"{name}.{weight}"] = torch.zeros_like(model.weights[f"{name}.{weight}"])
    up, bias, down = (f"stages.0.0.ffn.{n}" for n in ("up", "up_bias", "down"))
    gone[up] = torch.zeros_like(model.weights[up])
    gone[bias] = torch.zeros_like(model.weights[bias])  # gelu(0) = 0: never written
    gone[down] = 100 * loud[:, None].expand(8, 9).clone()
    quiet = replace(model, weights={**model.weights, **gone})
    flat = torch.linalg.svd(torch.randn(8, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)).U[:, :5]
    flat = flat - flat.mean(dim=0)
    span = flat @ torch.linalg.pinv(flat)
    narrow = {n: span @ quiet.weights[n].flatten(1) for n in ("stem.patches",)}
    narrow = {n: w.reshape(quiet.weights[n].shape) for n, w in narrow.items()}
    narrow["position"] = quiet.weights["position"] @ span
    for name in ("stem.patches_bias", "stages.0.0.mixer.bo", "stages.0.2.mixer.bo", "stages.0.0.ffn.down_bias"):
        narrow[name] = span @ quiet.weights[name]
    model = replace(quiet, weights={**quiet.weights, **narrow})
    goal = resize(model.architecture, {"s0.embed": 6})  # five directions and the ones
    same(model, conform(model, goal, pictures(40)))
    assert float((run(conform(model, goal)) - run(model)).abs().max()) > 1e-3


def test_channels_of_most_energy_are_kept_where_a_stream_cannot_be_rotated() -> None:
    model = random_model(CATALOGUE["pool-patch"])
    energy = writers(model, "s0.embed").square().sum(dim=1)
    index = energy.topk(5).indices.sort().values
    result = conform(model, resize(model.architecture, {"s0.embed": 5}))
    expected = remap(model.weights, axes_of(build(model.architecture, "meta")), {"s0.embed": Select(index)})
    assert all(torch.equal(weight, expected[name]) for name, weight in result.weights.items())


def test_the_most_influential_blocks_are_kept_in_order() -> None:
    """Against the definition, on the images that are given."""
    block = Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=9))
    blocks = (block, block, Block(), block, block)
    model = random_model(SOFTMAX.model_copy(update={"stages": (Stage(embed=8, blocks=blocks),)}))
    built = build(model.architecture).double()
    built.load_state_dict(dict(model.weights))
    influence = {}
    with torch.no_grad():
        state = built.begin(pictures().double())
        for j, module in enumerate(built.blocks(0)):
            x, state = state.stream, module(built.wiring(0), state)
            y = state.stream
            influence[j] = 1 - float((x * y).sum(-1).div(x.norm(dim=-1) * y.norm(dim=-1)).mean())
    assert influence.pop(2) == pytest.approx(0)
    best = sorted(sorted(influence, key=influence.__getitem__)[2:])
    goal = SOFTMAX.model_copy(update={"stages": (Stage(embed=8, blocks=(block, block)),)})
    result = conform(model, goal, pictures())
    for place, origin in enumerate(best):
        assert torch.equal(result.weights[f"stages.0.{place}.ffn.up"], model.weights[f"stages.0.{origin}.ffn.up"])


def test_the_memory_of_an_lmu_is_fitted() -> None:
    """A few coefficients more are nearly exact; cutting or padding what is there would not be near it."""
    model = random_model(CATALOGUE["lmu-patch"])
    axes = axes_of(build(model.architecture, "meta"))
    size = {"s0.b0.memory": 9, "s0.b2.memory": 9}
    fitted = run(conform(model, resize(model.architecture, size)))
    padded = {
        name: torch.nn.functional.pad(w, (0, 4)) if any(on is not None and on.name in size for on in axes[name]) else w
        for name, w in model.weights.items()
    }
    naive = run(Model(resize(model.architecture, size), padded))
    assert float((fitted - run(model)).norm()) < 0.2 * float((naive - run(model)).norm())


@pytest.mark.parametrize("axis", ["s0.embed", "s0.b0.heads", "s0.b0.qk", "s0.b0.v", "s0.b0.mlp"])
def test_a_post_norm_network_grows_in_width(axis: str) -> None:
    model = random_model(network(Softmax(heads=3, qk=4, v=5), PatchStem(patch=2), norm="post"))
    size = axis_sizes(model.architecture)[axis]
    goal = resize(model.architecture, {axis: exact("", axis, size, model.architecture)})
    same(model, conform(model, goal))
    smaller = conform(model, resize(model.architecture, {axis: size - 1}))
    assert torch.isfinite(run(smaller)).all()


@every
def test_any_smaller_size_can_be_had(name: str) -> None:
    model = random_model(CATALOGUE[name])
    goal = resize(model.architecture, {axis: max(1, n - 2) for axis, n in axis_sizes(model.architecture).items()})
    bare = [s.model_copy(update={"blocks": s.blocks[:1]}) for s in goal.stages]
    for target in (goal, goal.model_copy(update={"stages": tuple(bare)})):
        for images in (None, pictures()):
            assert torch.isfinite(run(conform(model, target, images))).all()
    ones = resize(model.architecture, dict.fromkeys(axis_sizes(model.architecture), 1))
    assert torch.isfinite(run(conform(model, ones))).all()


def test_scales_of_softmax_are_one_and_nothing_else_is_touched() -> None:
    model = random_model(SOFTMAX)
    before = {name: weight.clone() for name, weight in model.weights.items()}
    state = torch.get_rng_state()
    goal = resize(deeper(SOFTMAX, 3), {"s0.embed": 9})
    result = conform(model, with_eps(goal.with_labels(("a", "b", "c")), 1e-5))
    assert all(b.mixer is None or b.mixer.scale == 1.0 for _, _, b in result.architecture.blocks())  # type: ignore[union-attr]
    assert result.architecture.head.labels == ("a", "b", "c")
    assert result.architecture.norm == LayerNorm(eps=1e-5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], weight) for name, weight in model.weights.items())


OTHER_INPUT = ImageInput(channels=2, height=8, width=8, mean=(0.1, 0.5), std=(0.4, 0.2))
REFUSED: Mapping[str, dict[str, object]] = {
    "stem of the target is conv of patch 2 and that of the model patch of patch 2": {
        "stem": ConvStem(patch=2, width=3)
    },
    "stem of the target is patch of patch 4": {"stem": PatchStem(patch=4)},
    "number of stages of the target is 2": {"stages": SOFTMAX.stages * 2},
    "pool of the target is first": {"head": Classify(classes=3, labels=("a", "b", "c"), pool="first")},
    "number of prefix tokens of the target is 1": {"prefix": 1},
    "input of the target": {"input": OTHER_INPUT},
    "number of classes of the target is 4 and that of the model 3": {"head": Classify(classes=4)},
    "wiring of the target is post-norm and that of the model pre-norm": {"stages": wired(SOFTMAX, "post").stages},
    "labels of the target": {"head": Classify(classes=3, labels=("b", "a", "c"))},
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_differs_is_named(words: str) -> None:
    model = random_model(SOFTMAX.with_labels(("a", "b", "c")))
    with pytest.raises(BadOption, match=words):
        conform(model, model.architecture.model_copy(update=REFUSED[words]))


def test_a_block_of_another_kind_is_refused() -> None:
    with pytest.raises(Unsupported, match=r"block s0\.b0 of the target cannot be made from"):
        conform(random_model(SOFTMAX), CATALOGUE["pool-patch"])


def test_images_of_another_shape_are_refused() -> None:
    with pytest.raises(BadOption, match="are not what the model reads"):
        conform(random_model(SOFTMAX), SOFTMAX, torch.zeros(2, 1, 8, 8))

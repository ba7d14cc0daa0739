"""What fusion gives back whatever the networks; what it refuses, and what it says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.networks import answering, form
from tests.pairs import pairwise
from wb import __version__
from wb.core.architecture import Architecture, Block, axis_sizes, resize
from wb.core.errors import BadArtefact, BadData, BadOption, Unsupported
from wb.core.records import ConvStem, Cosformer, Lmu, Mlp, PatchStem, Pool, Sla, Softmax
from wb.fusion.align import align
from wb.fusion.fuse import Fused, fuse
from wb.fusion.settings import Method, Settings, Stat, anchor_of, shares_of
from wb.models.axes import Couple, Map
from wb.models.model import Model, Step, remap_model

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

seeds = st.integers(0, 99)
# The same networks every time: coordinate ascent has local optima (`wb.fusion.align`), and a few networks end in one, such as
# softmax of scale -0.5 and cosFormer in one stage with weights of seed 24.
few = settings(max_examples=8, deadline=None, derandomize=True)


def fused(kit: Kit, *models: Model, target: Architecture | None = None, keep: bool = True, **chosen: object) -> Fused:
    """With images where they are needed."""
    how = Settings.model_validate(chosen)
    images = kit.pictures() if how.needs_images else None
    return fuse(models, [f"m{i}" for i in range(len(models))], how, images, target=target, keep=keep)


# ---------------------------------------------------------------------------------------------------------------- twins


@few
@given(data=st.data(), seed=seeds, stat=st.sampled_from(["weights", "activations"]))
def test_a_permuted_copy_is_put_back_by_permutations(kit: Kit, data: st.DataObject, seed: int, stat: Stat) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    kit.same(fused(kit, kit.permuted(model, seed), model, method="perm", stat=stat, anchor=2).model, model)


@few
@given(data=st.data(), seed=seeds, stat=st.sampled_from(["weights", "activations"]), repair=st.booleans())
def test_a_copy_under_every_symmetry_is_put_back_by_rotations(
    kit: Kit, data: st.DataObject, seed: int, stat: Stat, repair: bool
) -> None:
    """Post-norm networks too, whose streams are permuted and whose heads are under any change of their channels."""
    model = kit.model(data.draw(kit.networks), seed)
    found = fused(kit, kit.turned(model, seed), model, stat=stat, anchor=2, repair=repair)
    kit.same(found.model, model, 1e-8)
    kit.same(found.average, model, 1e-8)


@pairwise(method=("perm", "orth", "regress"), stat=("weights", "activations"), norm=("pre", "post"))
def test_copies_in_float32(kit: Kit, method: Method, stat: Stat, norm: str) -> None:
    model = kit.model(kit.network(norm=norm))
    twin = kit.permuted(model) if method == "perm" else kit.turned(model)
    found = fused(kit, kit.single(twin), kit.single(model), method=method, stat=stat, anchor=2)
    assert {weight.dtype for weight in found.model.weights.values()} == {torch.float32}
    kit.same(found.model, model, 1e-5 if method != "regress" else 1e-4)


def test_copies_of_deep_stems_are_put_back(kit: Kit) -> None:
    """Convolutions that read and write the same axis."""
    model = kit.model(kit.network(stem=ConvStem(patch=8, width=12)))
    for method in ("perm", "orth"):
        kit.same(fused(kit, kit.permuted(model), model, method=method).model, model)


def test_sinkhorn_blurs_even_equal_models(kit: Kit) -> None:
    """Not claimed: that a model fused with itself is itself. Transport without entropy is exact."""
    model = kit.model()
    assert kit.apart(fused(kit, model, model, solver="sinkhorn").model, model) > 1e-3
    kit.same(fused(kit, model, model, solver="emd").model, model)


def test_a_rotated_stream_is_no_symmetry_of_post_norm_networks(kit: Kit) -> None:
    """Not claimed: that such a copy is another form of the same function."""
    model = kit.model(kit.network(norm="post"))
    q = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    assert kit.apart(remap_model(model, {"s0.embed": Couple(q, q)}), model) > 1e-2


# ---------------------------------------------------------------------------------------------------------- other sizes


def duplicated(model: Model) -> Model:
    """Everything twice: the stream, hidden units, heads and the channels of heads. The same function."""
    maps: dict[str, Map] = {}
    for axis, size in axis_sizes(model.architecture).items():
        if not axis.endswith(".memory"):
            twice = torch.eye(size, dtype=torch.float64).repeat(2, 1)
            both = twice / 2**0.5 if axis.endswith(".qk") else twice  # on both sides of a product
            maps[axis] = Couple(both, twice / 2)
    return remap_model(model, maps)


@pairwise(solver=("lap", "emd"), method=("perm", "orth"), stat=("weights", "activations"), norm=("pre", "post"))
def test_a_model_fused_with_its_duplicate_of_twice_the_width_is_itself(
    kit: Kit, solver: str, method: str, stat: str, norm: str
) -> None:
    """Into the large one and into the small one."""
    mixers = (Softmax(heads=3, qk=4, v=3), Cosformer(heads=2, qk=3, v=4), Lmu(memory=4, hidden=6), Pool())
    blocks = tuple(Block(mixer=mixer, ffn=Mlp(mlp=5)) for mixer in mixers)
    for part in (blocks[:1], blocks[:3], blocks):
        model = kit.model(kit.network(part, (kit.softmax,), norm=norm, stem=ConvStem(patch=2, width=3)))
        wide = duplicated(model)
        kit.same(wide, model)
        for pair in ((model, wide), (wide, model)):
            found = fused(kit, *pair, method=method, solver=solver, stat=stat)
            assert found.model.architecture == pair[0].architecture
            kit.same(found.model, model, 1e-8)


def test_the_published_scaling_does_not_keep_the_duplicate(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides times the number of entries of the source."""

    def published(plan: Tensor, *, paired: bool = False) -> Couple:
        matrix = torch.as_tensor(plan.T * (plan.shape[0] / plan.sum()))
        return Couple(matrix, matrix)

    model = kit.model()
    wide = duplicated(model)
    monkeypatch.setattr(align, "couple", published)
    for pair in ((model, wide), (wide, model)):
        assert kit.apart(fused(kit, *pair, solver="emd", anchor=2).model, model) > 0.1


def widened(kit: Kit, data: st.DataObject, architecture: Architecture, *names: str) -> Architecture:
    """With more of some axes."""
    sizes = {
        axis: size + data.draw(st.integers(0, 3), label=axis)
        for axis, size in axis_sizes(architecture).items()
        if axis.rsplit(".", 1)[1] in names
    }
    return resize(architecture, sizes)


GROWING = {"perm": ("heads", "mlp", "hidden", "qk", "v"), "orth": ("embed", "heads", "mlp", "hidden", "qk", "v")}


@few
@given(data=st.data(), seed=seeds, method=st.sampled_from(["perm", "orth"]))
def test_all_of_the_weight_on_a_smaller_model_gives_it_back(
    kit: Kit, data: st.DataObject, seed: int, method: str
) -> None:
    small = kit.model(data.draw(kit.networks.filter(lambda a: form(a) == "pre")), seed)
    names = GROWING[method]
    if any(isinstance(b.mixer, Pool) for _, _, b in small.architecture.blocks()):
        names = GROWING["perm"]  # its stream cannot be rotated, so that more of it is seen by norms
    large = kit.model(widened(kit, data, small.architecture, *names), seed + 1)
    found = fused(kit, small, large, method=method, weights=(1, 0), anchor=2)
    assert found.model.architecture == large.architecture
    kit.same(found.model, small)


@pytest.mark.parametrize("solver", ["lap", "emd", "sinkhorn"])
@pytest.mark.parametrize("method", ["perm", "orth", "regress"])
def test_any_sizes_can_be_fused(kit: Kit, method: str, solver: str) -> None:
    """Stems, memories and everything else, in both directions."""
    blocks = tuple(
        Block(mixer=mixer, ffn=Mlp(mlp=9))
        for mixer in (Softmax(heads=3, qk=4, v=3), Sla(heads=2, qk=3, v=4), Lmu(memory=5, hidden=6))
    )
    one = kit.network(blocks, stem=ConvStem(patch=2, width=4))
    sizes = {axis: size + (-1) ** i * (1 + i % 2) for i, (axis, size) in enumerate(axis_sizes(one).items())}
    two = resize(one, sizes)
    a, b = kit.model(one), kit.model(two, 1)
    for pair in ((a, b), (b, a)):
        found = fused(kit, *pair, method=method, solver=solver)
        assert found.model.architecture == pair[0].architecture
        assert torch.isfinite(kit.run(found.model)).all()
        kit.same(fused(kit, *pair, method=method, solver=solver, weights=(1, 0)).model, pair[0], 1e-6)


def test_a_memory_of_more_coefficients_says_the_same(kit: Kit) -> None:
    """As many as there are tokens say all."""
    small = kit.model(kit.network((Block(mixer=Lmu(memory=5, hidden=6), ffn=Mlp(mlp=9)),)))
    large = kit.model(resize(small.architecture, {"s0.b0.memory": 20}), 1)
    kit.same(fused(kit, small, large, weights=(1, 0), anchor=2).model, small, 1e-6)


# -------------------------------------------------------------------------------------------------- weights and parents


@settings(max_examples=12, deadline=None)
@given(
    data=st.data(),
    seed=seeds,
    chosen=st.sampled_from(
        [
            {"method": "vanilla"},
            {"method": "vanilla", "repair": True},
            {"method": "perm"},
            {"method": "perm", "stat": "activations"},
            {"method": "orth"},
            {"method": "orth", "stat": "activations", "solver": "emd"},
            {"method": "orth", "repair": True},
            {"method": "orth", "anchor": "mean"},
            {"method": "regress"},
        ]
    ),
)
def test_all_of_the_weight_on_one_gives_it_back(
    kit: Kit, data: st.DataObject, seed: int, chosen: dict[str, Any]
) -> None:
    architecture = data.draw(kit.networks)
    models = [kit.model(architecture, seed + i) for i in range(2)]
    tolerance = 1e-6 if chosen["method"] == "regress" else 1e-8
    for i, weights in enumerate(((1, 0), (0, 1))):
        kit.same(fused(kit, *models, weights=weights, **chosen).model, models[i], tolerance, weights)


@settings(max_examples=4, deadline=None)
@given(data=st.data(), seed=seeds, anchor=st.sampled_from([None, 2, "mean"]), count=st.integers(2, 4))
def test_copies_of_one_give_that_one(
    kit: Kit, data: st.DataObject, seed: int, anchor: int | str | None, count: int
) -> None:
    model = kit.model(data.draw(kit.networks), seed)
    same = fused(kit, *[model] * count, anchor=anchor, weights=(3, *[1] * (count - 1)))
    kit.same(same.model, model, 1e-8)
    twins = fused(kit, *[kit.turned(model, i) for i in range(count)], anchor=anchor)
    kit.same(twins.model, model, 1e-8)
    permuted = fused(kit, *[kit.permuted(model, i) for i in range(count)], method="perm", anchor=anchor)
    kit.same(permuted.model, model, 1e-8)


def test_the_average_is_weighted_by_the_shares(kit: Kit) -> None:
    models = [kit.model(seed=i) for i in range(3)]
    found = fused(kit, *models, method="vanilla", weights=(1, 2, 5))
    assert found.shares == (0.125, 0.25, 0.625)
    for name in found.model.weights:
        expected = sum(share * m.weights[name] for share, m in zip(found.shares, models, strict=True))
        torch.testing.assert_close(found.model.weights[name], expected)


# ---------------------------------------------------------------------------------------------------------------- depth


@few
@given(data=st.data(), seed=seeds, method=st.sampled_from(["perm", "orth"]))
def test_all_of_the_weight_on_a_shallower_model_gives_it_back(
    kit: Kit, data: st.DataObject, seed: int, method: str
) -> None:
    """Blocks that it lacks write nothing."""
    deep_one = data.draw(kit.networks.filter(lambda a: form(a) == "pre" and any(s.blocks for s in a.stages)))
    like = next(block for _, _, block in deep_one.blocks())
    if len(deep_one.stages) > 1 or (like.mixer is not None and isinstance(like.mixer, Pool)):
        like = Block(mixer=None, ffn=Mlp(mlp=7))
    stages = [stage.model_copy(update={"blocks": (like,) * 3}) for stage in deep_one.stages]
    deep = kit.model(deep_one.model_copy(update={"stages": tuple(stages)}), seed + 1)
    stages = [stage.model_copy(update={"blocks": (kit.off, like)}) for stage in deep_one.stages]
    shallow = kit.model(deep_one.model_copy(update={"stages": tuple(stages)}), seed)
    kit.same(fused(kit, shallow, deep, method=method, weights=(1, 0), anchor=2).model, shallow)
    found = fused(kit, shallow, deep, method=method, anchor=1)
    assert found.model.architecture == shallow.architecture
    assert torch.isfinite(kit.run(found.model)).all()


def test_parts_that_one_lacks_write_nothing(kit: Kit) -> None:
    bare = kit.model(kit.network((Block(ffn=Mlp(mlp=9)), kit.off, Block(mixer=Softmax(heads=3, qk=4, v=3)))))
    whole = kit.model(kit.network((kit.softmax, kit.off, kit.softmax)), 1)
    kit.same(fused(kit, bare, whole, weights=(1, 0), anchor=2).model, bare)


@few
@given(data=st.data(), seed=seeds, method=st.sampled_from(["perm", "orth", "regress"]))
def test_networks_of_other_blocks_can_be_fused_and_the_anchor_given_back(
    kit: Kit, data: st.DataObject, seed: int, method: str
) -> None:
    """Blocks switched off, parts missing, mixers of another kind in the same place."""
    one = data.draw(kit.networks)
    two = data.draw(
        kit.networks.filter(lambda a: (a.prefix, form(a), len(a.stages)) == (0, form(one), len(one.stages)))
    )
    one = answering(one.model_copy(update={"stem": two.stem, "prefix": 0}), pool="mean")
    models = kit.model(one, seed), kit.model(two, seed + 1)
    found = fused(kit, *models, method=method)
    assert found.model.architecture == one
    assert torch.isfinite(kit.run(found.model)).all()
    kit.same(fused(kit, *models, method=method, weights=(1, 0)).model, models[0], 1e-6)


# --------------------------------------------------------------------------------------------------------------- target


def test_one_model_is_brought_to_another_architecture(kit: Kit) -> None:
    model = kit.model()
    target = resize(kit.network((kit.softmax,) * 3), {"s0.embed": 11, "s0.b1.mlp": 12, "s0.b0.heads": 4})
    found = fused(kit, model, target=target.with_labels(()))  # classes keep their names
    assert found.model.architecture == target
    kit.same(found.model, model)


def test_several_models_are_fused_into_another_architecture(kit: Kit) -> None:
    model = kit.model()
    target = resize(kit.network((kit.softmax,) * 3), {"s0.embed": 11, "s0.b1.mlp": 12, "s0.b0.heads": 4})
    for method in ("perm", "orth", "regress"):
        found = fused(kit, model, kit.model(seed=3), target=target, method=method)
        assert found.model.architecture == target
        assert torch.isfinite(kit.run(found.model)).all()
    for anchor in (2, "mean"):
        kit.same(fused(kit, model, kit.turned(model), target=target, anchor=anchor).model, model, 1e-8)
    kit.same(fused(kit, model, kit.model(seed=3), target=target, weights=(1, 0)).model, model)


# --------------------------------------------------------------------------------------------------------- what it says


def test_the_size_chooses_the_anchor(kit: Kit) -> None:
    large, small = kit.model(), kit.model(resize(kit.network(), {"s0.embed": 6}))
    for size, model in (("small", small), ("large", large)):
        found = fused(kit, large, small, size=size)
        assert found.model.architecture == model.architecture
        assert found.alignments[found.anchor] is None


def test_inputs_are_not_touched(kit: Kit) -> None:
    models = [kit.model(), kit.model(resize(kit.network(), {"s0.b0.heads": 4}), 1)]
    before = [{name: weight.clone() for name, weight in m.weights.items()} for m in models]
    ways: list[dict[str, Any]] = [{}, {"repair": True}, {"method": "regress"}, {"anchor": "mean"}, {"size": "small"}]
    for chosen in ways:
        kept, released = (fused(kit, *models, keep=keep, **chosen) for keep in (True, False))
        assert kept.model.fingerprint() == released.model.fingerprint()
        for weights, model in zip(before, models, strict=True):
            assert all(torch.equal(weights[name], weight) for name, weight in model.weights.items())


def test_the_random_state_is_not_touched_and_results_are_the_same_again(kit: Kit) -> None:
    models = [kit.model(seed=i) for i in range(2)]
    state = torch.get_rng_state()
    one, two = (fused(kit, *models, method="regress").model for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    assert one.fingerprint() == two.fingerprint()


def test_the_history_says_what_was_done(kit: Kit) -> None:
    models = [kit.model(seed=i).then(Step(name=f"train{i}")) for i in range(2)]
    found = fused(kit, *models, method="regress", anchor=2, weights=(1, 3), seed=7)
    *before, step = found.model.history
    assert [s.name for s in before] == ["train1"]
    assert (step.name, step.seed, step.version) == ("fuse", 7, __version__)
    assert step.arguments["parents"] == [m.fingerprint() for m in models]
    assert step.arguments["weights"] == [0.25, 0.75]
    assert step.arguments["anchor"] == 2
    assert step.arguments["images"] == 24
    assert step.arguments["method"] == "regress"


def test_steps_are_reported_and_timed(kit: Kit) -> None:
    lines: list[str] = []
    found = fuse(
        [kit.model(), kit.model(seed=1)],
        ["one", "two"],
        Settings(method="regress"),
        kit.pictures(),
        progress=lambda what, done, of: lines.append(f"{what} {done}/{of}"),
    )
    assert lines[:4] == ["reading one 0/2", "reading two 1/2", "aligning one 0/2", "aligning two 1/2"]
    assert lines[-1] == "fitting to the parents 4/4"
    assert found.seconds.keys() == {"aligning", "averaging", "fitting to the parents"}


def test_models_may_come_one_by_one(kit: Kit) -> None:
    found = fuse((kit.model(seed=i) for i in range(3)), ["a", "b", "c"], Settings())
    assert len(found.alignments) == 3
    assert found.reference is None


@settings(max_examples=4, deadline=None)
@given(share=st.floats(0, 1))
def test_between_is_what_fusing_with_those_shares_gives(kit: Kit, share: float) -> None:
    models = [kit.model(seed=i) for i in range(3)]
    found = fused(kit, *models, weights=(2, 1, 3), anchor=2)
    other = fused(kit, *models, weights=(share * 0.4, 1 - share, share * 0.6), anchor=2)
    kit.same(found.between(share), other.model)
    alone = fused(kit, *models, weights=(0, 1, 0), anchor=2)
    kit.same(alone.between(share), fused(kit, *models, weights=(share, 2 - 2 * share, share), anchor=2).model)


def test_between_needs_what_was_kept(kit: Kit) -> None:
    found = fuse([kit.model(), kit.model(seed=1)], ["a", "b"], Settings())
    with pytest.raises(ValueError, match="the parents were not kept"):
        found.between(0.5)


def test_few_images_are_noted(kit: Kit) -> None:
    models, names = [kit.model(seed=i) for i in range(2)], ["a", "b"]
    (note,) = fuse(models, names, Settings(), kit.pictures(4)).notes
    assert note.startswith("4 images are fewer than the 8 channels that the head reads")
    assert fuse(models, names, Settings(), kit.pictures(8)).notes == []
    wide = [kit.model(kit.network((Block(ffn=Mlp(mlp=40)),)), i) for i in range(2)]
    (note,) = fuse(wide, names, Settings(), kit.pictures(2)).notes
    assert note.startswith("2 images have 32 tokens, fewer than the 40 entries of s0.b0.mlp")


def test_classes_are_matched_by_name(kit: Kit) -> None:
    model = kit.model()
    order = [2, 0, 1]
    labels = tuple("abc"[i] for i in order)
    heads = {name: model.weights[name][order] for name in ("head", "head_bias")}
    other = Model(model.architecture.with_labels(labels), {**model.weights, **heads})
    found = fused(kit, model, other)
    kit.same(found.model, model)
    assert found.notes == ["the classes of m1 are put into the order of m0"]


# ---------------------------------------------------------------------------------------------------------- what it refuses


@pytest.mark.parametrize(
    ("chosen", "why"),
    [
        ({"method": "regress"}, "method regress looks at images and there are none"),
        ({"repair": True}, "--repair looks at images"),
        ({"stat": "activations"}, "--stat activations looks at images"),
        ({"method": "ot"}, "--stat activations looks at images"),
        ({"anchor": 3}, "anchor 3: there are 2 models; give 1 to 2"),
        (
            {"weights": (1, 2, 3)},
            "weights 1,2,3 do not fit; give one number of 0 or more for each of 2 models, like 1,1",
        ),
        ({"weights": (0, 0)}, "weights 0,0 do not fit"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kit: Kit, chosen: dict[str, object], why: str) -> None:
    with pytest.raises(BadOption, match=why):
        fuse([kit.model(), kit.model(seed=1)], ["a", "b"], Settings.model_validate(chosen))


def test_one_model_needs_a_target(kit: Kit) -> None:
    with pytest.raises(BadOption, match="1 model cannot be fused"):
        fuse([kit.model()], ["a"], Settings())
    with pytest.raises(BadOption, match="0 model cannot be fused"):
        fuse([], [], Settings(), target=kit.network())


@pytest.mark.parametrize("method", ["vanilla", "ot"])
def test_some_methods_have_no_target(kit: Kit, method: Method) -> None:
    with pytest.raises(BadOption, match=f"{method} cannot fuse into another architecture"):
        fuse([kit.model()], ["a"], Settings(method=method), kit.pictures(), target=kit.network())


def test_vanilla_takes_equal_architectures_only(kit: Kit) -> None:
    other = kit.model(resize(kit.network(), {"s0.b0.heads": 4}))
    with pytest.raises(Unsupported, match="vanilla averages equal architectures only"):
        fused(kit, kit.model(), other, method="vanilla")


def test_weights_that_are_not_finite_are_refused(kit: Kit) -> None:
    model = kit.model()
    broken = replace(model, weights={**model.weights, "head": model.weights["head"] * float("nan")})
    with pytest.raises(BadArtefact, match="m1 has NaN or infinite weights, first in head"):
        fused(kit, model, broken)


def test_images_of_another_shape_are_refused(kit: Kit) -> None:
    models = [kit.model(), kit.model(seed=1)]
    with pytest.raises(BadData, match="the calibration set is 3x1x8x8; the models read images of 2x8x8"):
        fuse(models, ["a", "b"], Settings(), torch.zeros(3, 1, 8, 8))


def test_models_of_another_family_are_refused(kit: Kit) -> None:
    with pytest.raises(Unsupported, match="m1 has norms post-norm and m0 has pre-norm"):
        fused(kit, kit.model(), kit.model(kit.network(norm="post")))
    with pytest.raises(Unsupported, match="m1 has the stem patch of patch 4"):
        fused(kit, kit.model(), kit.model(kit.network(stem=PatchStem(patch=4))))


def test_shares_sum_to_one_and_the_first_is_the_anchor(kit: Kit) -> None:
    assert shares_of(Settings(), 4) == (0.25,) * 4
    assert shares_of(Settings(weights=(0, 3)), 2) == (0, 1)
    assert anchor_of(Settings(), [kit.network()] * 2) == 0
    assert anchor_of(Settings(anchor="mean"), [kit.network()] * 2) == 0
    assert anchor_of(Settings(anchor=2), [kit.network()] * 2) == 1


@pytest.mark.parametrize("method", ["perm", "orth", "regress"])
def test_a_mixer_without_weights_that_one_lacks_does_nothing(kit: Kit, method: Method) -> None:
    block = Block(mixer=Pool(), ffn=Mlp(mlp=7))
    deep, shallow = kit.model(kit.network((block,) * 3)), kit.model(kit.network((block,) * 2), seed=1)
    settings = Settings(method=method, weights=(0, 1))
    kit.same(fuse([deep, shallow], ["a", "b"], settings, kit.pictures()).model, shallow, 1e-8)


def test_weights_may_be_huge() -> None:
    assert shares_of(Settings(weights=(1e308, 1e308)), 2) == (0.5, 0.5)


def test_a_target_with_another_epsilon_is_noted_and_named(kit: Kit) -> None:
    target = kit.network(norm_eps=1e-3)
    fusion = fuse([kit.model()], ["a"], Settings(method="orth"), target=target)
    assert any("the norms of the target have eps 0.001" in note for note in fusion.notes)
    assert fusion.model.history[-1].arguments["target"] == target.key

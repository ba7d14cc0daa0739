"""What has to be equal is named; classes and normalisations are taken over exactly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from wb.core.architecture import Architecture, Block
from wb.core.errors import BadArtefact, BadData, BadOption, Unsupported
from wb.core.records import ConvStem, ImageInput, Mlp, PatchStem, Softmax
from wb.fusion.forms.compatible import adapted, check_images, check_together
from wb.models.model import check_weights

if TYPE_CHECKING:
    from tests.fusion.conftest import Kit

INPUT = {"kind": "image", "channels": 2, "height": 8, "width": 8, "mean": (0.3, 0.5), "std": (0.4, 0.2)}


def together(given: Architecture, anchor: Architecture) -> list[str]:
    return check_together([given, anchor], ["one", "two"], 1)


def changed(architecture: Architecture, **fields: object) -> Architecture:
    return Architecture.model_validate(architecture.model_dump() | fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"input": {**INPUT, "height": 16}}, "one has images of 2x16x8 and two has 2x8x8"),
        (
            {"stem": {"kind": "conv", "patch": 2, "width": 3}},
            "one has the stem conv of patch 2 and two has patch of patch 2",
        ),
        ({"stem": {"kind": "patch", "patch": 4}}, "one has the stem patch of patch 4 and two has patch of patch 2"),
        ({"position": {"kind": "nowhere"}}, "one has tokens with no positions and two has learned positions"),
        ({"last": None}, "one has kinds of norms layer norm and two has layer norm, layer norm last"),
        ({"prefix": 1}, "one has a prefix of 1 tokens and two has 0 tokens"),
    ],
)
def test_what_cannot_be_aligned_is_named(kit: Kit, fields: dict[str, object], words: str) -> None:
    architecture = kit.network()
    with pytest.raises(Unsupported, match=f"{words}; only models of one family and task can be fused"):
        together(changed(architecture, **fields), architecture)


def test_stages_have_to_be_as_many(kit: Kit) -> None:
    with pytest.raises(Unsupported, match="one has stages 2 and two has 1"):
        together(kit.network((kit.softmax,), (kit.softmax,)), kit.network())


def test_blocks_and_widths_may_differ(kit: Kit) -> None:
    one = kit.network((kit.off, Block(ffn=Mlp(mlp=3))), embed=(5,), stem=ConvStem(patch=2, width=3))
    two = kit.network(stem=ConvStem(patch=2, width=6))
    assert together(one, two) == []
    assert check_together([two, two, one], ["a", "b", "c"], 0) == []


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (("a", "b", "d"), "the classes of one and two are not the same: c, d in one only"),
        (("a", "b", "c", "d"), "are not the same: d in one only"),
        (("a", "b", "b"), "are not the same: c in one only"),
    ],
)
def test_other_classes_are_named(kit: Kit, labels: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        together(kit.network(labels=labels, classes=len(labels)), kit.network())


def test_classes_without_names_have_to_be_as_many(kit: Kit) -> None:
    with pytest.raises(BadOption, match="one has 4 classes and two has 3"):
        together(kit.network(labels=(), classes=4), kit.network())
    (note,) = together(kit.network(labels=()), kit.network())
    assert note == "one or two has no class names: their 3 classes are taken to be in the same order"


def test_another_order_and_another_epsilon_are_noted(kit: Kit) -> None:
    notes = together(kit.network(labels=("c", "a", "b"), norm_eps=1e-5), kit.network())
    assert notes == [
        "the classes of one are put into the order of two",
        "the norms of one have eps 1e-05, those of two eps 1e-06; the latter stays",
    ]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_have_to_be_finite(kit: Kit, value: float) -> None:
    model = kit.model()
    check_weights(model.weights, "one")
    weights = {**model.weights, "head_bias": torch.tensor([0, value, 0])}
    with pytest.raises(BadArtefact, match="one has NaN or infinite weights, first in head_bias"):
        check_weights(weights, "one")


@pytest.mark.parametrize(
    ("shape", "text"), [((3, 1, 8, 8), "3x1x8x8"), ((2, 8, 8), "2x8x8"), ((0, 2, 8, 8), "0x2x8x8")]
)
def test_images_have_to_be_what_the_models_read(kit: Kit, shape: tuple[int, ...], text: str) -> None:
    with pytest.raises(BadData, match=f"the calibration set is {text}; the models read images of 2x8x8"):
        check_images(torch.zeros(shape), kit.network())


def test_fewer_images_than_there_is_to_say_are_noted(kit: Kit) -> None:
    wide = kit.network((Block(ffn=Mlp(mlp=100)),))
    assert check_images(torch.zeros(8, 2, 8, 8), wide) == []
    (note,) = check_images(torch.zeros(6, 2, 8, 8), wide)
    assert note.startswith("6 images have 96 tokens, fewer than the 100 entries of s0.b0.mlp")
    (note,) = check_images(torch.zeros(7, 2, 8, 8), wide)
    assert note.startswith("7 images are fewer than the 8 channels that the head reads")


def test_what_fits_already_is_not_changed(kit: Kit) -> None:
    model = kit.model()
    same = adapted(model, kit.network())
    assert same.architecture == model.architecture
    assert all(same.weights[name] is weight for name, weight in model.weights.items())


def test_classes_get_the_order_of_the_other_and_logits_move_with_them(kit: Kit) -> None:
    model = kit.model()
    found = adapted(model, kit.network(labels=("c", "a", "b")))
    assert found.architecture.head.labels == ("c", "a", "b")
    torch.testing.assert_close(kit.run(found), kit.run(model)[:, [2, 0, 1]])
    nameless = adapted(model, kit.network(labels=()))
    kit.same(nameless, model)
    assert nameless.architecture.head.labels == ()


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_another_normalisation_is_taken_over_exactly(kit: Kit, pool: str) -> None:
    """By patches, whatever they are."""
    other = ImageInput.model_validate({**INPUT, "mean": (0.1, 0.9), "std": (0.2, 1.3)})
    model = kit.model(kit.network(pool=pool, stem=PatchStem(patch=4)))
    found = adapted(model, kit.network(pool=pool, stem=PatchStem(patch=4), input=other))
    assert found.architecture.input == other
    kit.same(found, model)
    single = adapted(kit.single(model), found.architecture)
    assert {weight.dtype for weight in single.weights.values()} == {torch.float32}
    kit.same(single, model, 1e-5)


def test_a_padded_convolution_cannot_take_over_another_normalisation(kit: Kit) -> None:
    stem = ConvStem(patch=2, width=3)
    model = kit.model(kit.network(stem=stem))
    other = ImageInput.model_validate({**INPUT, "mean": (0.1, 0.5)})
    with pytest.raises(Unsupported, match="a padded convolution cannot take that over"):
        adapted(model, kit.network(stem=stem, input=other))
    near = ImageInput.model_validate({**INPUT, "mean": (0.3 + 1e-6, 0.5)})
    found = adapted(model, kit.network(stem=stem, input=near))
    assert found.architecture.input == near, "as far as rounding goes they are the same"
    kit.same(found, model, 1e-4)


def test_scales_that_leave_nothing_to_compare_are_refused(kit: Kit) -> None:
    dead = kit.network((Block(mixer=Softmax(heads=2, qk=2, v=2, scale=0.0)),))
    with pytest.raises(Unsupported, match=r"the softmax scale of s0\.b0 in b is"):
        check_together([kit.network(), dead], ["a", "b"], 0)


def test_names_are_taken_over_where_one_has_none(kit: Kit) -> None:
    named, bare = kit.network(), kit.network(labels=())
    for one, other in ((named, bare), (bare, named)):
        assert adapted(kit.model(one), other).architecture == other

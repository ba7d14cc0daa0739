from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from tests.networks import answering, form, wired
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.errors import BadArtefact, BadOption
from wb.core.records import (
    Classify,
    Conv2x2,
    ConvStem,
    ImageInput,
    LayerNorm,
    Lmu,
    Merge,
    Mixer,
    Mlp,
    PatchStem,
    Pool,
    Softmax,
)


def make(image: ImageInput, **changes: object) -> Architecture:
    block = Block(mixer=Softmax(heads=2, qk=4, v=6), ffn=Mlp(mlp=16))
    stages = (Stage(embed=8, blocks=(block,)),)
    content = {"input": image, "stem": PatchStem(patch=2), "stages": stages, "head": Classify(classes=3)}
    return Architecture.model_validate(content | changes)


def test_the_key_tells_any_two_apart_and_survives_json(image: ImageInput) -> None:
    a, b = make(image), make(image, head=Classify(classes=4))
    assert a.key != b.key
    assert Architecture.from_json(a.to_json()).key == a.key
    assert answering(a, classes=4).key == b.key


def test_json_leaves_out_what_a_later_version_may_add(image: ImageInput) -> None:
    """Keys of networks that do without stay what they are."""
    content = json.loads(make(image).to_json())
    assert set(content["stages"][0]) == {"embed", "blocks", "wiring"}
    assert set(content["stages"][0]["blocks"][0]) == {"mixer", "ffn"}
    assert content["head"] == {"kind": "classify", "classes": 3, "labels": [], "pool": "mean"}
    own = make(image, stages=(Stage(embed=8, blocks=(Block(norm=LayerNorm(eps=1e-3)),)),))
    assert json.loads(own.to_json())["stages"][0]["blocks"][0]["norm"] == {"kind": "layer", "eps": 1e-3}
    assert Architecture.from_json(own.to_json()) == own


def test_changes_of_sizes_and_blocks_leave_norms_and_wirings(image: ImageInput) -> None:
    post = wired(make(image), "post")
    assert post.key != make(image).key
    assert Architecture.from_json(post.to_json()) == post
    assert form(resize(post, {"s0.embed": 6}).compact().trimmed()) == "post"


def test_what_format_1_said_is_not_said_with_records(image: ImageInput) -> None:
    """It would be half understood: whoever has stages has their wirings."""
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        make(image, classes=3, norm="post")


def test_resize_changes_what_is_named_and_nothing_else(image: ImageInput) -> None:
    a = make(image, stem=ConvStem(patch=2, width=4))
    b = resize(a, {"s0.b0.qk": 2, "s0.embed": 6, "stem.width": 3})
    assert axis_sizes(b) == axis_sizes(a) | {"s0.b0.qk": 2, "s0.embed": 6, "stem.width": 3}
    assert resize(b, axis_sizes(a)) == a


def test_resize_names_the_axes_that_there_are(image: ImageInput) -> None:
    with pytest.raises(BadOption, match=r"no axis named s0\.b1\.qk; this architecture has s0\.embed, s0\.b0\.heads"):
        resize(make(image), {"s0.b1.qk": 2})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"head": {"kind": "classify", "classes": 3, "labels": ("a",)}}, "1 labels for 3 classes"),
        ({"stem": PatchStem(patch=3)}, "cannot be cut into patches of 3"),
        ({"stages": ()}, "at least 1 item"),
        ({"head": {"kind": "classify", "classes": 1}}, "greater than or equal to 2"),
        ({"colour": "red"}, "Extra inputs"),
        ({"stages": [{"embed": 8, "blocks": [], "wiring": {"kind": "sandwich"}}]}, "expected tags: 'pre', 'post'"),
        (
            {"stages": [Stage(embed=8, blocks=())] * 2},
            "stage 1 says nothing of how its tokens are made .* give it a merge",
        ),
        ({"stages": [Stage(embed=8, blocks=(), merge=Conv2x2())]}, "the first stage merges nothing"),
        (
            {"head": Classify(classes=3, pool="first")},
            "reads 1 token of the prefix, and there is none; give prefix=1",
        ),
        ({"prefix": -1}, "greater than or equal to 0"),
        ({"prefix": 1, "stages": (Stage(embed=8, blocks=(Block(mixer=Pool()),)),)}, "reads the tokens as an image"),
        (
            {"prefix": 1, "stages": (Stage(embed=8, blocks=()), Stage(embed=8, blocks=(), merge=Conv2x2()))},
            "merge 'conv' of s1 reads the tokens as an image",
        ),
    ],
)
def test_what_cannot_be_is_refused(image: ImageInput, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        make(image, **changes)


def _blocks(count: int, mixer: Mixer | None = None) -> tuple[Block, ...]:
    return (Block(mixer=mixer),) * count


def _long(merge: Merge | None) -> Stage:
    return Stage(embed=8, blocks=_blocks(300), merge=merge)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stages": ({"embed": 8, "blocks": [{}] * 100_000},)}, "at most 512 items"),
        ({"stages": [_long(None), _long(Conv2x2())]}, "600 blocks are more than the 512"),
        ({"stages": ({"embed": 8, "blocks": []},) * 100_000}, "at most 12 items"),
        ({"head": {"kind": "classify", "classes": 2**31}}, "less than or equal to 1000000"),
        ({"norm": {"kind": "layer", "eps": float("inf")}}, "less than or equal to 1"),
        (
            {"stages": ({"embed": 8, "blocks": [{"mixer": {"kind": "lmu", "memory": 4096, "hidden": 4}}]},)},
            "equal to 512",
        ),
    ],
)
def test_what_a_file_may_ask_for_has_bounds_that_are_said(
    image: ImageInput, changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError, match=words):
        make(image, **changes)


@pytest.mark.parametrize("side", [-1, 0, 2**31, 10**400])
def test_impossible_sizes_of_images_are_refused(image: ImageInput, side: int) -> None:
    content = json.loads(make(image).to_json())
    content["input"]["height"] = side
    with pytest.raises(BadArtefact, match=r"input\.image\.height") as error:
        Architecture.from_json(str(content).replace("'", '"').replace("None", "null"))
    assert len(str(error.value)) < 500


def test_tokens_and_the_work_of_preparing_lmus_are_bounded() -> None:
    large = ImageInput(channels=1, height=4096, width=4096, mean=(0.0,), std=(1.0,))
    with pytest.raises(ValidationError, match="4096x4096 patches are 16,777,216 tokens, and at most 65,536"):
        make(large, stem=PatchStem(patch=1))
    make(large, stem=PatchStem(patch=16), stages=(Stage(embed=8, blocks=_blocks(3, Lmu(memory=64, hidden=4))),))
    with pytest.raises(
        ValidationError, match=r"memory up to 512 would take .* multiplications to prepare, and at most"
    ):
        make(large, stem=PatchStem(patch=16), stages=(Stage(embed=8, blocks=_blocks(1, Lmu(memory=512, hidden=4))),))
    many = tuple(Block(mixer=Lmu(memory=memory, hidden=4)) for memory in range(100, 512))
    with pytest.raises(ValidationError, match="memory up to 511 would take"):
        make(large, stem=PatchStem(patch=64), stages=(Stage(embed=8, blocks=many),))


@pytest.mark.parametrize(("mean", "std"), [(float("nan"), 1.0), (1e300, 1.0), (0.0, 1e-300), (0.0, float("inf"))])
def test_normalisation_is_by_numbers_that_single_precision_has(mean: float, std: float) -> None:
    with pytest.raises(ValidationError):
        ImageInput(channels=1, height=8, width=8, mean=(mean,), std=(std,))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "[" * 200_000, '"\ud800"', '{"a":' * 200_000, '{"classes": 3}', "null"]
)
def test_damaged_json_is_a_bad_artefact(text: str) -> None:
    with pytest.raises(BadArtefact, match="this is no architecture"):
        Architecture.from_json(text)


def test_normalisation_needs_one_number_per_channel() -> None:
    with pytest.raises(ValidationError, match="1 means and 1 standard deviations for 3 channels"):
        ImageInput(channels=3, height=8, width=8, mean=(0.0,), std=(1.0,))

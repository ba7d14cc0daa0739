from __future__ import annotations

import json
import random

import pytest
from pydantic import ValidationError

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage, resize
from wb.core.errors import BadArtefact, BadOption
from wb.core.precision import PRECISIONS, allowed, in_floating_point, precisions, with_precisions
from wb.core.records import Conv2x2, ConvStem, Cosformer, ImageInput, Lmu, Mlp, PatchStem, Pool, Precision, Sla, Softmax

SOFTMAX = Block(mixer=Softmax(heads=2, qk=4, v=6), ffn=Mlp(mlp=16))
FIRST = (SOFTMAX, Block(mixer=Pool()), Block())


def one_stage(image: ImageInput) -> Architecture:
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=FIRST),), classes=3)


def two_stages(image: ImageInput) -> Architecture:
    lmu = Block(mixer=Lmu(memory=4, hidden=5))
    sla = Block(mixer=Sla(heads=1, qk=4, v=4), ffn=Mlp(mlp=9))
    cosformer = Block(mixer=Cosformer(heads=1, qk=4, v=4))
    stages = (Stage(embed=8, blocks=FIRST), Stage(embed=12, blocks=(lmu, sla, cosformer)))
    stem = ConvStem(patch=2, width=4)
    return assembled(input=image, stem=stem, stages=stages, classes=3, labels=("a", "b", "c"), norm="post")


def mixed(a: Architecture, seed: int = 0) -> Architecture:
    """Every group in something less than fp32."""
    draw = random.Random(seed)
    return with_precisions(a, {group: draw.choice(options[:-1]) for group, options in allowed(a).items()})


def test_groups_come_in_order_of_execution(image: ImageInput) -> None:
    """Pooling has no weights, and a block that is switched off has no groups."""
    assert list(precisions(one_stage(image))) == [
        "stem",
        "s0.b0.mixer.in",
        "s0.b0.mixer.out",
        "s0.b0.ffn.in",
        "s0.b0.ffn.out",
        "head",
    ]
    assert [group for group in precisions(two_stages(image)) if group.startswith("s1")] == [
        "s1.merge",
        *("s1.b0.mixer.in", "s1.b0.mixer.out"),
        *("s1.b1.mixer.in", "s1.b1.mixer.out", "s1.b1.ffn.in", "s1.b1.ffn.out"),
        *("s1.b2.mixer.in", "s1.b2.mixer.out"),
    ]
    assert set(precisions(two_stages(image)).values()) == {"fp32"}


def test_a_policy_changes_what_it_names_and_nothing_else(image: ImageInput) -> None:
    a = two_stages(image)
    for group, options in allowed(a).items():
        for precision in options:
            changed = with_precisions(a, {group: precision})
            assert precisions(changed) == precisions(a) | {group: precision}
            assert in_floating_point(changed) == a
            assert (changed.key == a.key) == (precision == "fp32")


def test_policies_add_up(image: ImageInput) -> None:
    a = two_stages(image)
    whole = precisions(mixed(a))
    step_by_step = a
    for group, precision in whole.items():
        step_by_step = with_precisions(step_by_step, {group: precision})
    assert step_by_step == with_precisions(a, whole)
    assert precisions(step_by_step) == whole


def test_convolutions_take_what_a_runtime_has_kernels_for(image: ImageInput) -> None:
    able = allowed(two_stages(image))
    assert able["stem"] == able["s1.merge"] == ("int8", "fp32")
    assert able["head"] == able["s0.b0.mixer.in"] == PRECISIONS


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"s0.b1.mixer.in": "int8"}, r"no group named s0\.b1\.mixer\.in; this network has stem, s0\.b0\.mixer\.in"),
        ({"s0.merge": "int8"}, r"no group named s0\.merge"),
        ({"stem": "int4"}, "stem cannot be kept in 'int4'; it takes int8, fp32"),
        ({"head": "int2"}, "head cannot be kept in 'int2'; it takes w1, w2, int4, int8, fp32"),
    ],
)
def test_what_cannot_be_is_refused(image: ImageInput, policy: dict[str, Precision], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        with_precisions(one_stage(image), policy)


def test_the_first_stage_has_no_merge_to_keep(image: ImageInput) -> None:
    with pytest.raises(ValidationError, match="the first stage merges nothing"):
        assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=(), merge=Conv2x2()),))


def test_networks_in_floating_point_say_nothing_of_precisions(image: ImageInput) -> None:
    for a in (one_stage(image), two_stages(image)):
        assert not any(word in a.to_json() for word in ("reads", "writes", "precision", "fp32"))


def test_json_says_what_is_not_fp32(image: ImageInput) -> None:
    a = with_precisions(two_stages(image), {"s0.b0.ffn.out": "w2", "stem": "int8", "s1.merge": "int8", "head": "int4"})
    content = json.loads(a.to_json())
    assert content["stages"][0]["blocks"][0]["ffn"] == {"kind": "mlp", "mlp": 16, "writes": "w2"}
    assert (content["stem"]["precision"], content["head"]["precision"]) == ("int8", "int4")
    assert [stage.get("merge") for stage in content["stages"]] == [None, {"kind": "conv", "precision": "int8"}]
    again = Architecture.from_json(a.to_json())
    assert again == a
    assert again.key == a.key


@pytest.mark.parametrize("seed", range(5))
def test_json_gives_random_precisions_back(image: ImageInput, seed: int) -> None:
    a = mixed(two_stages(image), seed)
    assert Architecture.from_json(a.to_json()) == a
    assert Architecture.model_validate(a.model_dump()) == a


def test_json_with_a_precision_that_does_not_exist_is_a_bad_artefact(image: ImageInput) -> None:
    content = json.loads(one_stage(image).to_json())
    for broken in (
        content | {"head": {**content["head"], "precision": "int2"}},
        content | {"stem": {"kind": "patch", "patch": 2, "precision": "w1"}},
    ):
        with pytest.raises(BadArtefact, match="this is no architecture"):
            Architecture.from_json(json.dumps(broken))


def test_other_changes_keep_precisions(image: ImageInput) -> None:
    a = mixed(two_stages(image))
    before = precisions(a)
    assert (
        precisions(resize(a, {"stem.width": 3, "s0.embed": 6, "s0.b0.qk": 2, "s0.b0.mlp": 5, "s1.embed": 7})) == before
    )
    assert precisions(a.compact()) == precisions(a.trimmed()) == before
    assert precisions(a.with_blocks(lambda _, block: block)) == before
    dropped = a.with_blocks(lambda name, block: Block(mixer=block.mixer) if name == "s1.b1" else block)
    assert precisions(dropped) == {group: p for group, p in before.items() if not group.startswith("s1.b1.ffn")}

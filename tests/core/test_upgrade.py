"""Architectures of format 1 become ones of format 2 that say the same."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from wb.core.architecture import Architecture
from wb.core.records import Classify, Conv2x2, ImageInput, LayerNorm, Learned, Wiring
from wb.core.upgrade import upgraded

OLD: list[dict[str, Any]] = [content for _, content in json.loads((Path(__file__).parent / "keys.json").read_text())]
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@pytest.mark.parametrize("content", OLD)
def test_every_word_of_format_1_has_its_record(content: dict[str, Any]) -> None:
    a, new = Architecture.model_validate(content), upgraded(content)
    assert ImageInput.model_validate({k: v for k, v in new["input"].items() if k != "kind"}) == a.input
    head = Classify.model_validate({**new["head"], "pool": "cls" if new["prefix"] else "mean"})
    assert (head.classes, head.labels, head.pool, head.precision) == (a.classes, a.labels, a.pool, a.head)
    assert new["head"]["pool"] == ("first" if a.pool == "cls" else "mean")
    assert LayerNorm.model_validate(new["norm"]).eps == a.norm_eps
    assert new["last"] == (new["norm"] if a.norm == "pre" else None)
    assert Learned.model_validate(new["position"]).kind == "learned"
    assert "merge" not in new["stages"][0]
    for i, (stage, before) in enumerate(zip(new["stages"], a.stages, strict=True)):
        assert TypeAdapter(Wiring).validate_python(stage["wiring"]).kind == a.norm
        assert i == 0 or Conv2x2.model_validate(stage["merge"]).precision == before.merge
        assert stage["blocks"] == content["stages"][i]["blocks"]
    assert set(new) == {"version", "input", "stem", "stages", "head", "norm", "last", "position", "prefix"}


@pytest.mark.parametrize("content", OLD[:5])
def test_upgrading_changes_nothing_in_place_and_nothing_twice(content: dict[str, Any]) -> None:
    before = copy.deepcopy(content)
    new = upgraded(content)
    assert content == before
    assert upgraded(new) == new


def test_a_first_stage_that_merges_stays_an_error_to_be_named() -> None:
    content = copy.deepcopy(OLD[0])
    content["stages"][0]["merge"] = "int8"
    assert upgraded(content)["stages"][0]["merge"] == {"kind": "conv", "precision": "int8"}


@given(JSON, st.sampled_from(["input", "stages", "head", "labels", "pool", "norm", "norm_eps", "classes", "stem"]))
def test_nonsense_is_carried_over(nonsense: Any, field: str) -> None:
    assert upgraded(nonsense) == nonsense
    damaged = {**OLD[0], field: nonsense}
    assert upgraded(damaged)["version"] == 2
    if field in ("labels", "classes"):
        assert upgraded(damaged)["head"][field] == nonsense

"""Architectures of format 1 become ones of format 2 that say the same."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact
from wb.core.upgrade import upgraded

OLD: list[dict[str, Any]] = json.loads((Path(__file__).parent / "format1.json").read_text())
JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
MIXERS: list[dict[str, Any] | None] = [
    {"kind": "softmax", "heads": 2, "qk": 4, "v": 6, "scale": 0.5},
    {"kind": "softmax", "heads": 3, "qk": 5, "v": 6, "scale": None, "reads": "int8"},
    {"kind": "cosformer", "heads": 2, "qk": 4, "v": 6, "writes": "w1"},
    {"kind": "lmu", "memory": 4, "hidden": 5, "bidirectional": False},
    None,
]
FFNS: list[dict[str, Any] | None] = [{"kind": "mlp", "mlp": 7}, {"kind": "mlp", "mlp": 4, "reads": "w2"}, None]
STEMS = [{"kind": "patch", "patch": 2}, {"kind": "conv", "patch": 4, "width": 3, "precision": "int8"}]


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    """JSON as version 0.1 wrote it: what is as everywhere, norms in front and fp32, is left out."""
    pool, classes = draw(st.sampled_from(["mean", "cls"])), draw(st.integers(2, 4))
    blocks = st.fixed_dictionaries({"mixer": st.sampled_from(MIXERS), "ffn": st.sampled_from(FFNS)})
    stages: list[dict[str, Any]] = []
    for i in range(1 if pool == "cls" else draw(st.integers(1, 3))):
        stage: dict[str, Any] = {"embed": draw(st.integers(1, 9)), "blocks": draw(st.lists(blocks, max_size=3))}
        stages.append(stage | ({"merge": "int8"} if i and draw(st.booleans()) else {}))
    content = {
        "input": {"channels": 1, "height": 16, "width": 32, "mean": [0.5], "std": [0.25]},
        "stem": draw(st.sampled_from(STEMS)),
        "stages": stages,
        "pool": pool,
        "classes": classes,
        "labels": draw(st.sampled_from([[], [f"c{i}" for i in range(classes)]])),
        "norm_eps": draw(st.sampled_from([1e-6, 1e-5, 0.5])),
    }
    content |= draw(st.sampled_from([{}, {"head": "int4"}]))
    return content | draw(st.sampled_from([{}, {"norm": "post"}]))


def downgraded(a: Architecture) -> dict[str, Any]:
    """What version 0.1 would have written of an architecture that it could have."""
    content: dict[str, Any] = json.loads(a.to_json())
    head, norm, wirings = content["head"], content["norm"], {stage.pop("wiring")["kind"] for stage in content["stages"]}
    assert content["first"] is None
    assert content["position"] == {"kind": "learned"}
    assert len(wirings) == 1
    post = wirings == {"post"}
    assert content["last"] == (None if post else norm)
    assert (content["prefix"], head["pool"]) in ((0, "mean"), (1, "first"))
    assert content["input"].pop("kind") == "image"
    for i, stage in enumerate(content["stages"]):
        assert ("merge" in stage) == (i > 0)
        precision = stage.pop("merge", {}).get("precision", "fp32")
        stage |= {} if precision == "fp32" else {"merge": precision}
    kept = {} if "precision" not in head else {"head": head["precision"]}
    return {
        **{name: content[name] for name in ("input", "stem", "stages")},
        "pool": "cls" if content["prefix"] else "mean",
        "classes": head["classes"],
        "labels": head["labels"],
        "norm_eps": norm["eps"],
        **kept,
        **({"norm": "post"} if post else {}),
    }


@pytest.mark.parametrize("content", OLD)
def test_what_was_written_is_read_and_says_the_same(content: dict[str, Any]) -> None:
    a = Architecture.from_json(json.dumps(content))
    assert downgraded(a) == content
    assert a == Architecture.model_validate(content)


@given(contents())
def test_there_and_back(content: dict[str, Any]) -> None:
    a = Architecture.model_validate(content)
    assert downgraded(a) == content
    assert Architecture.from_json(a.to_json()) == a


@pytest.mark.parametrize("content", OLD[:5])
def test_upgrading_changes_nothing_in_place_and_nothing_twice(content: dict[str, Any]) -> None:
    before = copy.deepcopy(content)
    new = upgraded(content)
    assert content == before
    assert upgraded(new) == new


def test_defaults_that_were_left_out_are_those_of_format_1() -> None:
    content = {name: value for name, value in OLD[0].items() if name not in ("pool", "labels", "norm_eps")}
    assert Architecture.model_validate(content) == Architecture.model_validate(
        OLD[0] | {"pool": "mean", "labels": [], "norm_eps": 1e-6}
    )


def test_a_first_stage_that_merges_stays_an_error_to_be_named() -> None:
    content = copy.deepcopy(OLD[0])
    content["stages"][0]["merge"] = "int8"
    with pytest.raises(ValueError, match="the first stage merges nothing"):
        Architecture.model_validate(content)


@given(JSON, st.sampled_from(["input", "stages", "head", "labels", "pool", "norm", "norm_eps", "classes", "stem"]))
def test_nonsense_is_carried_over(nonsense: Any, field: str) -> None:
    assert upgraded(nonsense) == nonsense
    damaged = {**OLD[0], field: nonsense}
    assert upgraded(damaged)["version"] == 2
    if field in ("labels", "classes"):
        assert upgraded(damaged)["head"][field] == nonsense


@pytest.mark.parametrize("field", ["position", "prefix", "first", "last", "stages.0.wiring"])
def test_fields_of_both_formats_are_refused_as_one_of_them_would_be_lost(field: str) -> None:
    content = copy.deepcopy(OLD[0])
    place = content["stages"][0] if field == "stages.0.wiring" else content
    place[field.removeprefix("stages.0.")] = 3
    with pytest.raises(BadArtefact, match=rf"{field} is of format 2, and classes, .* of format 1; say all of it"):
        Architecture.from_json(json.dumps(content))


def test_a_missing_number_of_classes_is_what_the_message_names() -> None:
    content = {name: value for name, value in OLD[0].items() if name != "classes"}
    with pytest.raises(BadArtefact, match=r"no architecture: head\.classify\.classes: Field required$"):
        Architecture.from_json(json.dumps(content))


@pytest.mark.parametrize("content", OLD[:3])
@given(place=st.integers(0), nonsense=JSON)
def test_nonsense_at_any_place_of_either_format_is_refused_or_read_to_the_same_key(
    content: dict[str, Any], place: int, nonsense: Any
) -> None:
    for whole in (content, json.loads(Architecture.model_validate(content).to_json())):
        places = list(_places(whole))
        damaged = _with(whole, places[place % len(places)], nonsense)
        try:
            a = Architecture.from_json(json.dumps(damaged))
        except BadArtefact:
            continue
        assert Architecture.from_json(a.to_json()).key == a.key


def _places(content: Any) -> Iterator[tuple[str | int, ...]]:
    """Where the values of JSON stand, from the outside in."""
    yield ()
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in inner:
        yield from ((name, *place) for place in _places(value))


def _with(content: Any, place: tuple[str | int, ...], value: Any) -> Any:
    """A copy of `content` with another value in that place."""
    if not place:
        return value
    changed = copy.copy(content)
    changed[place[0]] = _with(content[place[0]], place[1:], value)
    return changed

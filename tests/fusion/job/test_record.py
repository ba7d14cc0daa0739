"""A record gives back what was written, and whatever is none is one clear error."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.networks import assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.core.records import ImageInput, Mlp, PatchStem, Softmax
from wb.fusion.curve import Point
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.record import Fusion, Line, ParentRow, Plan
from wb.fusion.plans import thinned
from wb.fusion.settings import Settings

ACC = Reading(value=0.9, unit="fraction", how="measured", interval=(0.85, 0.93), n=60, device="cpu")
READINGS = {
    "acc": ACC,
    "test": ACC,
    "size": Reading(value=999.0, unit="B", how="counted"),
    "macs": Reading(value=1234.0, unit="MAC", how="counted"),
    "params": Reading(value=99.0, unit="parameters", how="counted"),
}
Content = dict[str, Any]


def network(depth: int = 2) -> Architecture:
    image = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
    block = Block(mixer=Softmax(heads=2, qk=3, v=3), ffn=Mlp(mlp=5))
    return assembled(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=6, blocks=(block,) * depth),), classes=3)


@pytest.fixture
def record() -> Fusion:
    return made()


def made() -> Fusion:
    """A record in which every field is used."""
    plan = Plan(axis="s0.embed", signed=True, values=((0.5, -0.5), (1.0, 1 / 3)))
    points = (Point(share=0, loss=0.1 + 0.2, accuracy=0.9), Point(share=1, loss=1e-30, accuracy=1 / 3))
    return Fusion(
        created="2026-01-01T00:00:00+00:00",
        version="0",
        machine={"device": "cpu"},
        versions={"torch": "2"},
        config=FuseConfig(
            data="stripes", settings=Settings(method="regress", weights=(0.3, 0.7)), finetune=3, to=network()
        ),
        data={"spec": "stripes", "train": 192},
        parents=(
            ParentRow(name="a.pt", key="0123456789abcdef", architecture=network(), share=0.3, readings=READINGS),
            ParentRow(
                name="b.pt",
                key="fedcba9876543210",
                architecture=network(3),
                share=0.7,
                readings=READINGS,
                before={"s0.embed": 1.0},
                costs={"s0.embed": 0.25},
                plans=(plan,),
                match=((0, 2),),
            ),
        ),
        anchor=0,
        architecture=network(),
        images=64,
        notes=("a note",),
        lines=(Line(name="vanilla", points=points), Line(name="aligned", points=points)),
        ends=points,
        points={"one shot": points[0], "fine-tuned": points[1]},
        ensemble=READINGS,
        average={name: reading for name, reading in READINGS.items() if name != "test"},
        one_shot=READINGS,
        tuned=READINGS,
        seconds={"aligning": 1.25},
        model="out.safetensors",
    )


def test_the_file_gives_the_record_back(record: Fusion, tmp_path: Path) -> None:
    record.write(tmp_path / "a.json")
    assert Fusion.read(tmp_path / "a.json") == record
    assert json.loads((tmp_path / "a.json").read_text())["kind"] == "fusion"
    with pytest.raises(BadOption, match="exists already"):
        record.write(tmp_path / "a.json", force=False)


def test_what_was_made_is_told_in_order(record: Fusion) -> None:
    assert [name for name, _ in record.variants()] == ["average", "one shot", "fine-tuned"]
    assert record.final == record.tuned
    without = record.model_copy(update={"tuned": {}, "average": {}})
    assert [name for name, _ in without.variants()] == ["one shot"]
    assert without.final == record.one_shot
    assert record.line("vanilla") is record.lines[0]
    assert record.model_copy(update={"lines": ()}).line("vanilla") is None


def test_the_barrier_is_over_the_line_between_the_parents(record: Fusion) -> None:
    curve = Line(name="aligned", points=tuple(Point(share=i / 2, loss=y, accuracy=0) for i, y in enumerate((0, 3, 2))))
    ends = tuple(Point(share=i, loss=y, accuracy=0) for i, y in enumerate((0.0, 1.0)))
    one = record.model_copy(update={"ends": ends})
    assert (curve.barrier, one.barrier(curve)) == (2, 2.5)
    assert one.model_copy(update={"ends": ends[::-1], "anchor": 1}).barrier(curve) == 2.5
    assert one.model_copy(update={"parents": (*record.parents, record.parents[1])}).barrier(curve) == 2
    low = Line(name="aligned", points=tuple(Point(share=i, loss=-1, accuracy=0) for i in (0, 1)))
    assert one.barrier(low) == 0


def test_what_is_no_record_is_named(record: Fusion, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(BadArtefact, match="there is no file"):
        Fusion.read(path)
    whole = record.model_dump_json()
    for text in (
        "",
        "{",
        "[]",
        "null",
        whole[: len(whole) // 2],
        '{"kind": "fusion"}',
        whole.replace("fusion", "pruning"),
    ):
        path.write_text(text)
        with pytest.raises(BadArtefact, match="is damaged or no record of a fusion"):
            Fusion.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadArtefact, match="cannot be read"):
        Fusion.read(path)


def _parent(content: Content, **changes: object) -> None:
    content["parents"][1] |= changes


DAMAGE: dict[str, tuple[Callable[[Content], object], str]] = {
    "anchor": (lambda c: c.update(anchor=2), "anchor 2 of 2 parents"),
    "negative anchor": (lambda c: c.update(anchor=-1), "anchor"),
    "no parents": (lambda c: c.update(parents=[]), "parents"),
    "no architecture": (lambda c: c.update(architecture=None), "without an architecture"),
    "no test": (lambda c: c["one_shot"].pop("test"), "the fused model has no reading of test"),
    "no tuned": (lambda c: c.update(tuned={}), "the fine-tuned model has no reading of params"),
    "no ensemble": (lambda c: c.update(ensemble={}), "the ensemble has no reading of params"),
    "parent": (lambda c: _parent(c, readings={}), "a parent has no reading of params"),
    "average": (lambda c: c["average"].pop("acc"), "the average has no reading of acc"),
    "infinite": (
        lambda c: c["tuned"]["acc"].update(value=float("inf")),
        "a reading of the fine-tuned model is no number",
    ),
    "point": (lambda c: c["points"]["one shot"].update(loss=float("nan")), "a point is no number"),
    "end": (lambda c: c["ends"][1].update(loss=float("nan")), "a point is no number"),
    "no ends": (lambda c: c.update(ends=[]), "0 ends of curves between 2 parents"),
    "line": (lambda c: c["lines"][0]["points"][1].update(loss=float("inf")), "the points of vanilla are out of order"),
    "order": (lambda c: c["lines"][1]["points"].reverse(), "the points of aligned are out of order"),
    "one point": (lambda c: c["lines"][1]["points"].pop(), "lines"),
    "name": (lambda c: c["lines"][1].update(name="other"), "lines"),
    "match": (lambda c: _parent(c, match=[[0]]), "blocks are matched that are not there"),
    "block": (lambda c: _parent(c, match=[[0, 3]]), "blocks are matched that are not there"),
    "stages": (lambda c: _parent(c, match=[[0, 1], []]), "blocks are matched that are not there"),
    "share": (lambda c: _parent(c, share=2), "share"),
    "cost": (lambda c: _parent(c, costs={"s0.embed": float("nan")}), "costs"),
    "plan": (
        lambda c: c["parents"][1]["plans"][0].update(values=[[1.0], [1.0, 2.0]]),
        "the plan of s0.embed is no matrix",
    ),
    "wide plan": (
        lambda c: c["parents"][1]["plans"][0].update(values=[[0.0] * 65]),
        "the plan of s0.embed is no matrix",
    ),
    "high plan": (lambda c: c["parents"][1]["plans"][0].update(values=[[0.0]] * 65), "plans"),
    "empty plan": (lambda c: c["parents"][1]["plans"][0].update(values=[]), "plans"),
    "flat plan": (lambda c: c["parents"][1]["plans"][0].update(values=[[]]), "the plan of s0.embed is no matrix"),
    "settings": (lambda c: c["config"]["settings"].update(repair=True), "repair does not go with regress"),
    "unknown": (lambda c: c.update(surprise=1), "surprise"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(record: Fusion, tmp_path: Path, name: str) -> None:
    content = json.loads(record.model_dump_json())
    change, words = DAMAGE[name]
    change(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(BadArtefact, match=words):
        Fusion.read(tmp_path / "a.json")


@given(st.data())
def test_whatever_is_missing_is_no_traceback(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Any part of a record replaced by something else is an error of one kind, or a record."""
    content = json.loads(made().model_dump_json())
    place: Any = content
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(st.sampled_from([None, -1, 1e300, "x", [], {}, [[]], float("nan"), True]))
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    path.write_text(json.dumps(content))
    with suppress(BadArtefact):
        assert Fusion.read(path)


@given(st.integers(1, 150), st.integers(1, 150), st.booleans(), st.integers(0, 3))
def test_plans_are_kept_small(rows: int, columns: int, signed: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    plan = rng.normal(size=(rows, columns)) if signed else rng.random((rows, columns)) + 0.1
    (found,) = thinned({"s0.embed": plan})
    values = np.array(found.values)
    assert values.shape == (min(rows, 64), min(columns, 64))
    assert found.signed == bool((plan < 0).any())
    if not found.signed:
        assert values.sum(axis=0) == pytest.approx(1, abs=0.001 * len(values))
    elif max(rows, columns) <= 64:
        assert values == pytest.approx(plan, abs=0.001)


def test_large_plans_are_pooled() -> None:
    (found,) = thinned({"a": np.eye(128)})
    assert np.array_equal(np.array(found.values), np.eye(64)), "neighbours go with neighbours"
    shift = np.roll(np.eye(128), 1, axis=1)
    (found,) = thinned({"a": -shift})
    assert np.array(found.values).min() == -0.25
    (found,) = thinned({"a": np.zeros((3, 2))})
    assert np.array(found.values).max() == 0


def test_a_configuration_knows_when_images_are_looked_at() -> None:
    same, other = [network(), network()], [network(), network(3)]
    assert not FuseConfig(data="x").looks(same)
    assert FuseConfig(data="x").looks(other)
    assert not FuseConfig(data="x", settings=Settings(method="vanilla")).looks(other)
    assert FuseConfig(data="x", settings=Settings(method="vanilla", repair=True)).looks(same)
    assert FuseConfig(data="x", settings=Settings(stat="activations")).looks(same)
    assert FuseConfig(data="x", to=network()).looks(same)
    with pytest.raises(ValidationError):
        FuseConfig(calib=0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "vanilla", "solver": "emd"}, "vanilla compares nothing"),
        ({"method": "vanilla", "stat": "weights"}, "vanilla compares nothing"),
        ({"reg": 0.1}, "lap has none"),
        ({"solver": "emd", "reg": 0.1}, "emd has none"),
        ({"weights": (1, float("inf"))}, "finite"),
        ({"anchor": "mean", "stat": "activations"}, "compares weights"),
        ({"anchor": 1, "size": "small"}, "leave out anchor or size"),
    ],
)
def test_settings_that_would_do_nothing_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Settings(**settings)
    Settings(method="ot", reg=0.1)

"""What is read of a run, and what is computed from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wb.core.errors import BadArtefact, BadOption, StorageFailed
from wb.core.measures.metrics import parse_objectives
from wb.core.measures.readings import Reading
from wb.search.ending.front import front
from wb.search.page.contents import dominated, read, read_trials, summarize
from wb.search.page.traces import Candidate
from wb.search.run import Run

Fabricate = Callable[..., Run]
BOTH = parse_objectives("acc,latency")


def candidate(number: int, acc: float, latency: float, *, over: bool = False) -> Candidate:
    found = {
        "acc": Reading(value=acc, unit="fraction", how="measured"),
        "latency": Reading(value=latency, unit="ms", how="measured"),
    }
    return Candidate(number, found, over=over)


def test_hypervolume_is_the_dominated_share_of_the_box() -> None:
    some = [candidate(0, 0.5, 1), candidate(1, 1.0, 3), candidate(2, 0.75, 2), candidate(3, 0.75, 1.5)]
    curve, reference = dominated(BOTH, some)
    assert curve == pytest.approx([0, 0, 0.25, 0.375])
    assert [reading.value for reading in reference] == [0.5, 3]


def test_hypervolume_leaves_out_what_is_over_a_budget() -> None:
    some = [candidate(0, 0.5, 1), candidate(1, 1.0, 9, over=True), candidate(2, 1.0, 3), candidate(3, 1.0, 1)]
    curve, reference = dominated(BOTH, some)
    assert curve == pytest.approx([0, 0, 0, 1])
    assert [reading.value for reading in reference] == [0.5, 3]
    assert dominated(BOTH, [some[1]]) == ([0.0], [])


def test_summaries_leave_out_the_blocks_beyond_the_depth() -> None:
    choices = {"embed": 8, "depth": 2, "b1.mixer": "lmu", "b0.mixer": "pool", "b2.mixer": "sla", "b0.mlp": 1}
    assert summarize(choices) == "embed 8, depth 2: pool · lmu"
    assert summarize({"width": 3}) == "width 3"


def test_summaries_count_the_groups_that_the_network_has() -> None:
    first = {f"b{i}.{name}": "int8" for i in range(3) for name in ("mixer_in", "mixer_out", "ffn_in", "ffn_out")}
    choices = {"depth": 2, **first, "b0.mixer": "pool", "b0.mlp": 0.0, "b1.mixer": "sla", "b1.mlp": 2.0}
    assert summarize(choices) == "depth 2, 4 of 4 groups of blocks int8: pool · sla"
    some = summarize(choices | {"b1.mlp": 0.0, "b1.mixer_in": "fp32"})
    assert some == "depth 2, 1 of 2 groups of blocks fp32, 1 of 2 groups of blocks int8: pool · sla"
    assert summarize(choices | {"b1.mixer": "none", "b1.mlp": 0.0}) == "depth 2: pool · none"


def test_the_front_so_far_is_that_of_the_candidates_within_the_budget(fabricate: Fabricate) -> None:
    contents = read(fabricate(trials=30, finished=False, budget=("latency=0.05ms",)))
    within = {c.number: c.readings for c in contents.candidates if c.readings["latency"].value <= 0.05}
    assert 0 < len(within) < 30
    assert [c.number for c in contents.front] == front(within, BOTH)
    assert contents.points is None


def test_candidates_carry_their_predictions_where_there_are_any(fabricate: Fabricate) -> None:
    contents = read(fabricate(trials=20))
    assert [c.predicted is None for c in contents.candidates] == [True] * 16 + [False] * 4
    assert contents.slots == 4
    assert contents.seconds["export"] == pytest.approx(0.31)


def test_a_storage_that_cannot_be_reached_is_named_without_its_password(fabricate: Fabricate) -> None:
    run = fabricate(trials=1)
    record = run.read()
    config = record.config.model_copy(update={"storage": "postgresql+psycopg2://ann:secret@localhost:1/x"})
    with pytest.raises((BadOption, StorageFailed), match=r"ann:\*\*\*@localhost") as caught:
        read_trials(run, record.model_copy(update={"config": config}))
    assert "secret" not in str(caught.value)


def test_a_study_that_is_gone_is_named_and_not_made(fabricate: Fabricate) -> None:
    run = fabricate(trials=2)
    record = run.read()
    with pytest.raises(BadArtefact, match="there is no study 'other'"):
        read_trials(run, record.model_copy(update={"study": "other"}))
    (run.folder / "study.db").unlink()
    with pytest.raises(BadArtefact, match="there is no study at"):
        read_trials(run, record)
    assert not (run.folder / "study.db").exists()

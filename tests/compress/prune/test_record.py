from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.nvit.settings import Settings
from wb.compress.prune.config import PruneConfig, configured, parse_shares
from wb.compress.prune.record import Pruning, Result, Round
from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading

ACC = Reading(value=0.9, unit="fraction", how="measured", interval=(0.85, 0.93), n=60)
READINGS = {
    "acc": ACC,
    "latency": Reading(value=2.0, unit="ms", how="measured", interval=(1.9, 2.1)),
    "macs": Reading(value=1234.0, unit="MAC", how="counted"),
    "params": Reading(value=99.0, unit="parameters", how="counted"),
    "size": Reading(value=999.0, unit="B", how="counted"),
}


@pytest.fixture
def record(small: Architecture) -> Pruning:
    """One in which every field is used."""
    readings = {"acc": ACC, "macs": READINGS["macs"]}  # of a round, what is needed
    round_ = Round(
        stage=0,
        aims={"macs": 0.1 + 0.2},
        architecture=small,
        readings=readings,
        predicted={"macs": 1 / 3},
        costs={"macs": 2 / 3},
    )
    result = Result(
        name="out",
        limits=("macs <= 1 k",),
        verdict="within noise",
        architecture=small,
        parts={"ends": 5, "s0.b0.ffn": 7},
        before=readings,
        after=READINGS,
        test=ACC,
        model="out.safetensors",
    )
    return Pruning(
        created="2026-01-01T00:00:00+00:00",
        version="0",
        config=PruneConfig(budget=("macs=0.5x",), snapshots=(0.75,), settings=Settings(keep=("qk",), eta=0.3)),
        model="m.safetensors",
        model_key="0123456789abcdef",
        data={"spec": "stripes", "train": 192},
        machine={"device": "cpu"},
        versions={"torch": "2"},
        pace=Reading(value=1.5, unit="ms", how="measured"),
        architecture=small,
        parts={"ends": 5, "s0.b0.ffn": 9},
        dense=READINGS,
        dense_final=READINGS,
        dense_test=ACC,
        spectrum={"s0.embed": (1e-9, 1e-30)},
        rounds=(round_,),
        results=(result,),
        seconds={"pruning": 1.25},
    )


def test_the_file_gives_the_record_back(record: Pruning, tmp_path: Path) -> None:
    record.write(tmp_path / "a.json")
    assert Pruning.read(tmp_path / "a.json") == record
    with pytest.raises(BadOption, match="exists already"):
        record.write(tmp_path / "a.json", force=False)


def test_records_of_older_versions_say_that_they_did_neither(record: Pruning, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    record.write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    for name in ("rotate", "compensate"):
        assert content["config"]["settings"].pop(name) is True
    path.write_text(json.dumps(content), encoding="utf-8")
    settings = Pruning.read(path).config.settings
    assert (settings.rotate, settings.compensate) == (False, False)
    assert settings == record.config.settings.model_copy(update={"rotate": False, "compensate": False})


def test_what_is_no_record_is_named(record: Pruning, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(BadArtefact, match="there is no file"):
        Pruning.read(path)
    record.write(path)
    whole = path.read_bytes()
    without = json.loads(whole)
    del without["dense"]
    unknown = {**json.loads(whole), "extra": 1}
    for content in (
        b"",
        whole[: len(whole) // 2],
        b"[1, 2]",
        json.dumps(without).encode(),
        json.dumps(unknown).encode(),
    ):
        path.write_bytes(content)
        with pytest.raises(BadArtefact, match=r"a\.json is damaged or no record of a pruning"):
            Pruning.read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadArtefact, match=r"a\.json cannot be read"):
        Pruning.read(path)


Change = tuple[tuple[str | int, ...], object]
HOSTILE: tuple[tuple[Change, str], ...] = (
    ((("dense", "latency"), None), "no reading of latency"),
    ((("dense_final",), {}), "no reading of acc, latency"),
    ((("results", 0, "after", "size"), None), "no reading of size"),
    ((("dense", "macs", "value"), 0), "costs nothing"),
    ((("dense", "size", "value"), -1), "costs nothing"),
    ((("dense_final", "latency", "value"), 0), "costs nothing"),
    ((("dense_final", "latency", "value"), "NaN"), "costs nothing"),
    ((("dense_test",), None), "without a reading of the test split"),
    ((("results", 0, "architecture", "stages", 0, "blocks"), []), "other blocks"),
    ((("rounds", 0, "architecture", "stages", 0, "blocks"), []), "other blocks"),
    ((("results", 0, "verdict"), "fine"), "verdict"),
    ((("results", 0, "test"), None), "test"),
    ((("results", 0, "parts", "ends"), -1), "parts"),
    ((("parts",), None), "parts"),
    ((("config", "settings", "eta"), 11), "eta"),
)


@pytest.mark.parametrize(("change", "words"), HOSTILE)
def test_what_a_report_could_not_show_is_refused(record: Pruning, tmp_path: Path, change: Change, words: str) -> None:
    (*places, last), value = change
    content = json.loads(record.model_dump_json())
    inner = content
    for place in places:
        inner = inner[place]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(BadArtefact, match=rf"a\.json is damaged or no record of a pruning .*{words}"):
        Pruning.read(tmp_path / "a.json")


def test_a_record_without_results_may_be_without_the_end(record: Pruning, tmp_path: Path) -> None:
    unfinished = record.model_copy(update={"results": (), "dense_final": {}, "dense_test": None})
    unfinished.write(tmp_path / "a.json")
    assert Pruning.read(tmp_path / "a.json") == unfinished


@given(st.lists(st.integers(1, 999), min_size=1, max_size=5, unique=True), st.booleans(), st.sampled_from([",", ", "]))
def test_falling_shares_are_read(thousandths: list[int], sign: bool, comma: str) -> None:
    shares = [n / 1000 for n in sorted(thousandths, reverse=True)]
    assert parse_shares(comma.join(f"{share}{'x' if sign else ''}" for share in shares)) == tuple(shares)


@pytest.mark.parametrize("text", ["0.5x,0.75x", "0.5x,0.5x", "1x", "1.5x,0.5x", "0x", "-0.5x", "nan", "inf"])
def test_shares_have_to_fall_between_one_and_nothing(text: str) -> None:
    with pytest.raises(BadOption, match="has to fall, between 1x and 0x"):
        configured("nvit", {"snapshots": parse_shares(text)})


@pytest.mark.parametrize("text", ["", "half", "0.5x,", "0.5xx", "latency=0.5x", "50%"])
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(BadOption, match="in --snapshots is no share"):
        parse_shares(text)


@pytest.mark.parametrize("budget", [("",), (" , ",)])
def test_an_empty_budget_is_none(budget: tuple[str, ...]) -> None:
    with pytest.raises(BadOption, match=r"is no budget; say for example --budget latency=0\.5x"):
        _ = PruneConfig(budget=budget).limits


def test_half_the_latency_where_nothing_is_said() -> None:
    assert [limit.text() for limit in PruneConfig().limits] == ["latency <= 0.5x"]
    assert PruneConfig(snapshots=(0.5,)).limits == ()
    assert [limit.text() for limit in PruneConfig(snapshots=(0.5,), budget=("macs=2k",)).limits] == ["macs <= 2 k"]

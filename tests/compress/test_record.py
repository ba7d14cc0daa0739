from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.compress.nvit import Settings
from wb.compress.record import Config, Record, Result, Round, parse_shares, read
from wb.core.architecture import Architecture
from wb.core.errors import BadArtefact, BadOption
from wb.core.readings import Reading

ACC = Reading(value=0.9, unit="fraction", how="measured", interval=(0.85, 0.93), n=60)
MACS = Reading(value=1234.0, unit="MAC", how="counted")


@pytest.fixture
def record(small: Architecture) -> Record:
    """One in which every field is used."""
    readings = {"acc": ACC, "macs": MACS}
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
        met=False,
        architecture=small,
        before=readings,
        after=readings,
        test=ACC,
        model="out.safetensors",
    )
    return Record(
        created="2026-01-01T00:00:00+00:00",
        version="0",
        config=Config(budget=("macs=0.5x",), snapshots=(0.75,), settings=Settings(keep=("qk",), eta=0.3)),
        model="m.safetensors",
        model_key="0123456789abcdef",
        data={"spec": "stripes", "train": 192},
        machine={"device": "cpu"},
        versions={"torch": "2"},
        pace=Reading(value=1.5, unit="ms", how="measured"),
        architecture=small,
        dense=readings,
        dense_test=ACC,
        spectrum={"s0.embed": (1e-9, 1e-30)},
        rounds=(round_,),
        results=(result,),
        seconds={"pruning": 1.25},
    )


def test_the_file_gives_the_record_back(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path / "a.json")
    assert read(tmp_path / "a.json") == record
    with pytest.raises(BadOption, match="exists already"):
        record.write(tmp_path / "a.json", force=False)


def test_what_is_no_record_is_named(record: Record, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(BadArtefact, match="cannot be read"):
        read(path)
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
            read(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadArtefact, match=r"a\.json cannot be read"):
        read(path)


@given(st.lists(st.integers(1, 999), min_size=1, max_size=5, unique=True), st.booleans(), st.sampled_from([",", ", "]))
def test_falling_shares_are_read(thousandths: list[int], sign: bool, comma: str) -> None:
    shares = [n / 1000 for n in sorted(thousandths, reverse=True)]
    assert parse_shares(comma.join(f"{share}{'x' if sign else ''}" for share in shares)) == tuple(shares)


@pytest.mark.parametrize("text", ["0.5x,0.75x", "0.5x,0.5x", "1x", "1.5x,0.5x", "0x", "-0.5x", "nan", "inf"])
def test_shares_have_to_fall_between_one_and_nothing(text: str) -> None:
    with pytest.raises(BadOption, match="has to fall, between 1x and 0x"):
        parse_shares(text)


@pytest.mark.parametrize("text", ["", "half", "0.5x,", "0.5xx", "latency=0.5x", "50%"])
def test_what_is_no_share_is_named(text: str) -> None:
    with pytest.raises(BadOption, match="in --snapshots is no share"):
        parse_shares(text)


def test_half_the_latency_where_nothing_is_said() -> None:
    assert [limit.text() for limit in Config().limits] == ["latency <= 0.5x"]
    assert Config(snapshots=(0.5,)).limits == ()
    assert [limit.text() for limit in Config(snapshots=(0.5,), budget=("macs=2k",)).limits] == ["macs <= 2 k"]

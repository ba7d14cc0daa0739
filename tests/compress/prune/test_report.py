"""The report of a pruning: everything is there, it needs nothing from elsewhere, and nothing given becomes code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.networks import assembled
from tests.pages import Page
from wb.compress.depth.drop import without
from wb.compress.nvit.cost import parameters_by_part
from wb.compress.prune.config import PruneConfig
from wb.compress.prune.figures import progress_figure, shares_figure
from wb.compress.prune.job import PruneJob
from wb.compress.prune.record import Pruning, Result, Round
from wb.compress.prune.report import done, page, redistribution, result
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.errors import BadOption
from wb.core.measures.metrics import METRICS, parse_budget
from wb.core.measures.readings import Reading
from wb.core.records import ConvStem, ImageInput, Lmu, Mlp, Pool, Softmax
from wb.core.statistics.verdict import Verdict, judge
from wb.jobs.frame.page import write_page
from wb.models.counting import count_parameters
from wb.models.model import Model

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'


def readings(share: float, acc: float) -> dict[str, Reading]:
    return {
        "acc": Reading(value=acc, unit="fraction", how="measured", interval=(acc - 0.02, acc + 0.01), n=60),
        "latency": Reading(
            value=2.5 * share, unit="ms", how="measured", interval=(2.4 * share, 2.6 * share), device="cpu"
        ),
        "macs": Reading(value=8000 * share, unit="MAC", how="counted"),
        "params": Reading(value=900 * share, unit="parameters", how="counted"),
        "size": Reading(value=9000 * share, unit="B", how="counted"),
    }


@pytest.fixture
def record(small: Architecture) -> Pruning:
    """Two models, of which the last missed its budget; it has lost heads and the mixer of its second block.

    The machine is slower at the end than at the beginning.
    """
    half = resize(small, {"s0.embed": 7, "s0.b0.heads": 1, "s0.b0.mlp": 11, "s0.b1.qk": 2})
    gone = Block(ffn=half.stages[0].blocks[1].ffn)
    stage = half.stages[0].model_copy(update={"blocks": (half.stages[0].blocks[0], gone)})
    last = half.model_copy(update={"stages": (stage,)})

    def one(name: str, a: Architecture, share: float, verdict: Verdict) -> Result:
        return Result(
            name=name,
            limits=(f"latency <= {share}x",),
            verdict=verdict,
            architecture=a,
            parts=parameters_by_part(a),
            before=readings(share, 0.71),
            after=readings(share, 0.93),
            test=Reading(value=0.9123, unit="fraction", how="measured", n=60),
            model=f"{name}.safetensors",
        )

    return Pruning(
        created="2026-01-02T03:04:05+00:00",
        version="0.1",
        config=PruneConfig(snapshots=(0.75,), budget=("latency=0.5x",)),
        model="models/dense.safetensors",
        model_key="0123456789abcdef",
        data={"spec": "stripes", "fingerprint": "77", "train": 192},
        machine={"device": "cpu: a processor"},
        versions={"torch": "2.9"},
        pace=Reading(value=1.5, unit="ms", how="measured"),
        architecture=small,
        parts=parameters_by_part(small),
        dense=readings(0.8, 0.97),
        dense_final=readings(1.0, 0.97),
        dense_test=Reading(value=0.9632, unit="fraction", how="measured", n=60),
        spectrum={"s0.embed": (3.0, 1.0, 0.0), "s0.b0.mlp": (0.5, 1e-7), "s0.b0.ffn": (2.0,)},
        rounds=tuple(
            Round(
                stage=i,
                aims={"latency": 1.0},
                architecture=a,
                readings=readings(s, 0.8),
                predicted={"latency": 2.0},
                costs={"latency": 1.9},
            )
            for i, (a, s) in enumerate(((half, 0.75), (last, 0.5)))
        ),
        results=(one("0.75x", half, 0.75, "met"), one("out", last, 0.5, "missed")),
        seconds={"pruning": 12.0},
    )


def shown(record: Pruning, folder: Path = Path("runs")) -> Page:
    return Page(page(record, folder, folder))


def test_everything_is_on_the_page(record: Pruning, tmp_path: Path) -> None:
    path = write_page(PruneJob, record, tmp_path / "out.json", tmp_path / "out.html")
    found = Page(path.read_text(encoding="utf-8"))
    figures = {f"figure-{name}" for name in ("redistribution", "shares", "progress", "spectrum")}
    assert figures | {"readings", "redistribution", "progress", "spectrum"} <= set(found.values("id"))
    assert result(record) in found.text
    assert "out is over the budget: the last readings are over latency <= 0.5x." in found.text
    assert "0.75x: missed" not in found.text
    for one in record.results:
        assert f"{one.name}.safetensors" in found.values("href")
        for name, reading in one.after.items():
            assert reading.text() in found.text, name
            assert f"{reading.value / record.dense_final[name].value:.3f}x {name}" in found.text or name == "acc"
    for words in ("12 → 7", "2 → 1", "20 → 11", "6 → 2", "6 → gone", "2 → gone", "91.23 %", "96.32 %"):
        assert words in found.text, words
    with pytest.raises(BadOption, match="exists already"):
        write_page(PruneJob, record, tmp_path / "out.json", path)
    write_page(PruneJob, record, tmp_path / "out.json", path, force=True)


def test_the_page_says_what_was_done_besides_cutting(record: Pruning) -> None:
    rotated, refitted, *tuned = done(record)
    assert [line.split(":")[1].strip() for line in tuned] == ["fine-tuning is kept"] * len(record.results)
    assert "was turned into the bases of its channels" in rotated
    assert "refitted to the dense one after its last cut" in refitted
    for name, left in (("rotate", refitted), ("compensate", rotated)):
        settings = record.config.settings.model_copy(update={name: False})
        other = record.model_copy(update={"config": record.config.model_copy(update={"settings": settings})})
        assert done(other) == [left, *tuned]


def test_the_result_says_what_came_of_each_model(record: Pruning) -> None:
    first, second = result(record).split("; budget")[0], result(record)
    assert first.startswith("0.75x: 0.750 of the latency, 0.750 of the multiply-accumulates")
    assert "budget latency <= 0.75x: met." in second
    assert "budget latency <= 0.5x: missed." in second


def test_the_page_loads_nothing_from_anywhere(record: Pruning) -> None:
    found = shown(record)
    assert not {tag for tag, _ in found.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not [attributes for _, attributes in found.tags if {"src", "srcset", "action", "data"} & attributes.keys()]
    assert not [link for link in found.values("href") if "//" in link or ":" in link]
    policies = [str(attributes["content"]) for _, attributes in found.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")


def test_nothing_given_becomes_code(record: Pruning) -> None:
    plain = shown(record)
    note = {"note": HOSTILE, "device": HOSTILE}
    spoilt = {name: reading.model_copy(update=note) for name, reading in record.dense.items()}
    results = tuple(
        one.model_copy(
            update={
                "name": HOSTILE + one.name,
                "limits": (HOSTILE,),
                "model": f"{HOSTILE}.pt",
                "after": spoilt,
                "before": spoilt,
                "test": one.test.model_copy(update=note),
                "parts": {HOSTILE: 1},
            }
        )
        for one in record.results
    )
    hostile = record.model_copy(
        update={
            "created": HOSTILE,
            "version": HOSTILE,
            "model": HOSTILE,
            "model_key": HOSTILE,
            "data": {"spec": HOSTILE, HOSTILE: HOSTILE},
            "machine": {"device": HOSTILE, HOSTILE: HOSTILE},
            "versions": {HOSTILE: HOSTILE},
            "seconds": {HOSTILE: 1.0},
            "dense": spoilt,
            "dense_final": spoilt | {HOSTILE: spoilt["acc"]},
            "parts": {HOSTILE: 1},
            "spectrum": {HOSTILE: (2.0, 1.0), f"s0.{HOSTILE}": (2.0, 1.0)},
            "results": results,
            "config": record.config.model_copy(update={"data": HOSTILE, "budget": (HOSTILE,)}),
        }
    )
    found = shown(hostile)
    assert HOSTILE in found.text
    assert found.count("img") == 0
    assert found.count("script") == plain.count("script")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    links = [link for link in found.values("href") if "script" in link.lower()]
    assert all("<" not in link for link in links)
    # Plotly's data are JSON with < and > escaped; what its texts read as HTML is escaped once more.
    scripts = page(hostile, Path("runs"), Path("runs")).split("<body")[1]
    assert "<img" not in scripts
    assert "\\u003cimg" not in scripts


def test_every_point_along_the_run_has_its_interval(record: Pruning) -> None:
    figure = progress_figure(record, METRICS["macs"])
    assert len(figure.data) >= 2
    for trace in figure.data:
        assert len(trace.error_y.array) == len(trace.y)
    assert any(length > 0 for length in figure.data[0].error_y.array)


def test_an_unlimited_part_is_no_obstacle(record: Pruning) -> None:
    """Without a spectrum (depth) there is no section for it; a figure of all parameters adds up to one."""
    found = shown(record.model_copy(update={"spectrum": {}}))
    assert "figure-spectrum" not in found.values("id")
    for trace, a in zip(
        shares_figure(record).data, (record.architecture, *(r.architecture for r in record.results)), strict=True
    ):
        assert sum(trace.y) == pytest.approx(1)
        assert sum(trace.customdata) == count_parameters(a).value
    assert len(axis_sizes(record.results[1].architecture)) < len(axis_sizes(record.architecture))


def test_within_noise_is_neither_met_nor_missed(record: Pruning) -> None:
    one = record.results[1].model_copy(update={"verdict": "within noise"})
    near = record.model_copy(update={"results": (record.results[0], one)})
    assert "out: the last readings are over latency <= 0.5x; whether it is over cannot be told." in shown(near).text
    assert "notice" not in classes(near), "nothing is known to be wrong"
    assert "budget latency <= 0.5x: within noise." in result(near)


def classes(record: Pruning) -> list[str]:
    return shown(record).values("class")


def with_latency(record: Pruning, number: int, share: float, spread: float) -> Pruning:
    """`record` with one model as it is judged where it has `share` of the dense latency."""
    results = list(record.results)
    after = dict(results[number].after)
    value = share * record.dense_final["latency"].value
    after["latency"] = after["latency"].model_copy(
        update={"value": value, "interval": (value * (1 - spread), value * (1 + spread))}
    )
    (limit,) = parse_budget([results[number].limits[0].replace(" <= ", "=")])
    judged = judge(limit, after["latency"], record.dense_final["latency"].model_copy(update={"interval": None}))
    update = {"after": after, "judged": (judged,), "verdict": judged.verdict}
    results[number] = results[number].model_copy(update=update)
    return record.model_copy(update={"results": tuple(results)})


def test_the_verdict_quotes_the_number_that_stands_in_the_table(record: Pruning) -> None:
    missed = with_latency(record, 1, 0.512, 0.01)
    found = shown(missed)
    words = "out is over the budget: latency is 0.512x of the dense model’s (95 % interval 0.507x to 0.517x); "
    assert words + "latency <= 0.5x was asked for." in found.text
    assert "out: 0.512x latency" in found.text
    assert "0.512 of the latency" in found.text
    assert missed.remarks[-1].warn
    assert "notice" in classes(missed)


def test_a_model_on_the_way_that_is_over_by_a_hair_is_no_warning(record: Pruning) -> None:
    beside = with_latency(with_latency(record, 0, 0.766, 0.001), 1, 0.495, 0.01)
    assert [one.verdict for one in beside.results] == ["missed", "met"]
    (remark,) = beside.remarks
    assert "0.75x is over its share: latency is 0.766x of the dense model’s" in remark.text
    assert not remark.warn
    assert "notice" not in classes(beside)


def test_all_that_was_asked_for_is_no_warning(record: Pruning) -> None:
    met = with_latency(record, 1, 0.495, 0.01)
    assert met.remarks == ()
    assert "notice" not in classes(met)


def test_fine_tuning_that_made_it_worse_is_said(record: Pruning) -> None:
    met = with_latency(record, 1, 0.495, 0.01)
    one = met.results[1].model_copy(update={"before": readings(0.5, 0.95)})
    worse = met.model_copy(update={"results": (met.results[0], one)})
    assert "out: fine-tuning made it worse: 95.00 % before, 93.00 % after (1 of 60 images" in shown(worse).text
    untuned = worse.model_copy(update={"config": worse.config.model_copy(update={"finetune": 0})})
    assert untuned.remarks == ()


def test_every_axis_has_its_place_in_the_table(image: ImageInput) -> None:
    """Stem, streams, memory and hidden widths as well; in the order of the blocks; what is gone says so."""
    lmu, both = Block(mixer=Lmu(memory=3, hidden=5)), Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=6))
    stages = (Stage(embed=8, blocks=(lmu, Block(), *[both] * 9)), Stage(embed=10, blocks=(Block(mixer=Pool()),)))
    before = assembled(input=image, stem=ConvStem(patch=2, width=7), stages=stages, classes=3)
    smaller = resize(before, {"stem.width": 4, "s0.embed": 6, "s0.b0.memory": 2, "s0.b0.hidden": 1, "s0.b10.qk": 2})
    after = without(without(Model(smaller, {}), "s0.b9.mixer"), "s1.b0.mixer").architecture
    columns, rows = redistribution(before, after)
    whole, heads = ("width of the stem", "residual stream"), ("heads", "query/key channels", "value channels")
    assert columns == ["", "mixer", *whole, "memory", "hidden units of the memory", *heads, "hidden units"]
    assert [row[0] for row in rows] == ["stem", "s0", *(f"s0.b{i}" for i in range(11)), "s1", "s1.b0"]
    table = {row[0]: dict(zip(columns[1:], row[1:], strict=True)) for row in rows}
    assert table["stem"] == dict.fromkeys(columns[1:], "") | {"width of the stem": "7 → 4"}
    assert table["s0"]["residual stream"] == "8 → 6"
    assert table["s1"]["residual stream"] == "10 → 10"
    lmu_row = {"mixer": "lmu", "memory": "3 → 2", "hidden units of the memory": "5 → 1"}
    assert table["s0.b0"] == dict.fromkeys(columns[1:], "") | lmu_row
    assert table["s0.b1"]["mixer"] == "–"
    assert (table["s0.b9"]["mixer"], table["s0.b9"]["query/key channels"]) == ("softmax → gone", "3 → gone")
    assert table["s0.b10"]["query/key channels"] == "3 → 2"
    assert table["s1.b0"]["mixer"] == "pool → gone"
    shown = {name for row in rows for name, cell in zip(columns, row, strict=True) if "→" in cell}
    assert shown == set(columns) - {""}


def test_a_network_without_blocks_has_a_page(record: Pruning) -> None:
    def empty(a: Architecture) -> Architecture:
        return a.model_copy(update={"stages": tuple(s.model_copy(update={"blocks": ()}) for s in a.stages)})

    bare = empty(record.architecture)
    results = tuple(one.model_copy(update={"architecture": bare, "parts": {"ends": 9}}) for one in record.results)
    rounds = tuple(one.model_copy(update={"architecture": bare}) for one in record.rounds)
    update = {"architecture": bare, "parts": {"ends": 9}, "results": results, "rounds": rounds, "spectrum": {}}
    found = shown(Pruning.model_validate_json(record.model_copy(update=update).model_dump_json()))
    assert "12 → 12" in found.text
    assert "figure-redistribution" in found.values("id")


def test_a_page_builds_no_modules(record: Pruning, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record may come from anyone and name any size."""
    huge = resize(record.architecture, {"s0.embed": 2**16, "s0.b0.mlp": 2**16})
    monkeypatch.setattr("wb.models.network.build", lambda *_: pytest.fail("a network is built"))
    monkeypatch.setattr("torch.nn.Module.__init__", lambda *_, **__: pytest.fail("a module is built"))
    assert "65536 → 7" in shown(record.model_copy(update={"architecture": huge})).text


ODD: dict[str, dict[str, object]] = {
    "empty": {"data": {}, "machine": {}, "versions": {}, "seconds": {}, "parts": {}, "spectrum": {}},
    "no rounds": {"rounds": ()},
    "spectrum": {"spectrum": {"": (), "a": (1.0,), "s0.embed": (0.0, 0.0, 0.0)}},
}


@pytest.mark.parametrize("update", ODD.values(), ids=ODD)
def test_whatever_is_a_record_has_a_page(record: Pruning, update: dict[str, object]) -> None:
    odd = Pruning.model_validate_json(record.model_copy(update=update).model_dump_json())
    assert result(odd) in shown(odd).text


def test_rounds_may_have_been_read_in_part(record: Pruning) -> None:
    for left in ({}, {"acc": record.dense["acc"]}, {"latency": record.dense["latency"]}):
        rounds = tuple(one.model_copy(update={"readings": left}) for one in record.rounds)
        results = tuple(one.model_copy(update={"before": left}) for one in record.results)
        assert result(record) in shown(record.model_copy(update={"rounds": rounds, "results": results})).text

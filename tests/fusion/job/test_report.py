"""The report of a fusion: everything is there, it needs nothing from elsewhere, and nothing given becomes code."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.networks import assembled
from tests.pages import Page
from wb.core.architecture import Architecture, Block, Stage
from wb.core.errors import BadArtefact, BadOption
from wb.core.measures.readings import Reading
from wb.core.records import ConvStem, ImageInput, Lmu, Mlp, PatchStem, Pool, Softmax
from wb.core.statistics.paired import Paired
from wb.fusion.curve import Point
from wb.fusion.job.config import FuseConfig
from wb.fusion.job.figures import distance_figures, distance_series, lines_figure
from wb.fusion.job.job import FuseJob
from wb.fusion.job.record import Fusion, Line, ParentRow, Plan
from wb.fusion.job.report import barriers, page, result
from wb.fusion.job.tables import in_order, matches, rows, short, sizes
from wb.fusion.job.verdict import remarks
from wb.fusion.plans import picture
from wb.fusion.settings import Settings
from wb.jobs.frame.page import write_page

HOSTILE = '"><img src=x onerror=alert(1)></script><script>alert(2)</script>'
IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
BLOCK = Block(mixer=Softmax(heads=2, qk=3, v=4), ffn=Mlp(mlp=5))


def network(depth: int = 2, embed: int = 6, labels: tuple[str, ...] = ()) -> Architecture:
    stages = (Stage(embed=embed, blocks=(BLOCK,) * depth),)
    return assembled(input=IMAGE, stem=PatchStem(patch=2), stages=stages, classes=3, labels=labels)


def readings(acc: float, test: float, share: float = 1.0, note: str | None = None) -> dict[str, Reading]:
    found = {
        name: Reading(value=value, unit="fraction", how="measured", interval=(value - 0.02, value + 0.01), n=60)
        for name, value in (("acc", acc), ("test", test))
    }
    counts = (("params", 900, "parameters"), ("macs", 8000, "MAC"), ("size", 9000, "B"))
    found |= {name: Reading(value=n * share, unit=unit, how="counted", note=note) for name, n, unit in counts}
    return found


def line(losses: tuple[float, ...]) -> tuple[Point, ...]:
    n = len(losses) - 1
    return tuple(Point(share=i / n, loss=loss, accuracy=1 / (1 + loss)) for i, loss in enumerate(losses))


@pytest.fixture
def record() -> Fusion:
    """Two models of two depths, corrected and fine-tuned."""
    signed = Plan(axis="s0.embed", signed=True, values=((0.6, -0.8), (0.8, 0.6)))
    share = Plan(axis="s0.b1.heads", signed=False, values=((0.0, 1.0), (1.0, 0.0)))
    costs = {"s0.embed": 0.1, "s0.b0.heads": 0.2, "s0.b1.heads": 0.3, "s0.b1.qk": 0.4}
    return Fusion(
        created="2026-01-02T03:04:05+00:00",
        version="0.1",
        machine={"device": "cpu: a processor"},
        versions={"torch": "2.9"},
        config=FuseConfig(data="stripes", settings=Settings(method="regress", weights=(0.4, 0.6)), finetune=3),
        data={"spec": "stripes", "fingerprint": "77", "train": 192},
        parents=(
            ParentRow(
                name="models/a.pt",
                key="0123456789abcdef",
                architecture=network(),
                share=0.4,
                readings=readings(0.91, 0.92),
                paired=Paired(won=0, lost=12, n=60),
            ),
            ParentRow(
                name="models/b.pt",
                key="fedcba9876543210",
                architecture=network(3),
                share=0.6,
                readings=readings(0.93, 0.94),
                before=dict.fromkeys(costs, 1.0),
                costs=costs,
                plans=(signed, share),
                match=((0, 2),),
            ),
        ),
        anchor=0,
        architecture=network(),
        images=64,
        notes=("a note to be read",),
        lines=(
            Line(name="vanilla", points=line((0.1, 2.1, 0.3))),
            Line(name="aligned", points=line((0.1, 0.6, 0.3))),
        ),
        ends=line((0.1, 0.3)),
        points={"one shot": line((0.2, 0.2))[0], "fine-tuned": line((0.15, 0.15))[0]},
        ensemble=readings(0.95, 0.96, 2.0),
        average=readings(0.5, 0.5),
        one_shot=readings(0.89, 0.88, note="noted"),
        tuned=readings(0.94, 0.945),
        seconds={"aligning": 12.0},
        model="out.safetensors",
        graph="out.onnx",
        against_untuned=Paired(won=9, lost=3, n=60),
    )


def without_data(record: Fusion) -> Fusion:
    """The same where nothing was measured."""

    def left(found: dict[str, Reading]) -> dict[str, Reading]:
        return {name: found[name] for name in ("params", "macs")}

    parents = tuple(p.model_copy(update={"readings": left(dict(p.readings))}) for p in record.parents)
    config = FuseConfig(settings=Settings())
    changes = {
        "data": {},
        "lines": (),
        "points": {},
        "ends": (),
        "ensemble": {},
        "average": {},
        "tuned": {},
        "images": 0,
    }
    one_shot = left(dict(record.one_shot))
    return record.model_copy(update={"parents": parents, "config": config, "one_shot": one_shot, **changes})


def shown(record: Fusion, folder: Path = Path("runs")) -> Page:
    return Page(page(record, folder, folder))


def test_everything_is_on_the_page(record: Fusion, tmp_path: Path) -> None:
    path = write_page(FuseJob, record, tmp_path / "out.json", tmp_path / "out.html")
    found = Page(path.read_text(encoding="utf-8"))
    places = {"readings", "lines", "blocks", "distances", "plans-1", "notes", "settings", "figure-lines"}
    assert places | {f"figure-distance-{i}" for i in range(3)} <= set(found.values("id"))
    assert "figure-distance-3" not in found.values("id")
    assert result(record) in found.text
    assert barriers(record) in found.text
    assert {"out.safetensors", "out.onnx"} <= set(found.values("href"))
    warned, said = remarks(record)
    assert warned.text in found.text
    assert said.text in found.text
    notices = page(record, tmp_path, tmp_path).split('class="notice">')[1:]
    assert [notice.split("<")[0] for notice in notices] == [warned.text], "amber is what was wanted and is not there"
    for name, row in (
        ("a.pt", record.parents[0].readings),
        ("ensemble of the parents", record.ensemble),
        *record.variants(),
    ):
        assert name in found.text
        for reading in row.values():
            assert reading.text() in found.text
    assert found.count("img") == 2
    for words in (
        "s0.b2",
        "a note to be read",
        "* fused, one shot, parameters: noted",
        "b.pt, as it is",
        "b.pt, aligned",
    ):
        assert words in found.text, words
    with pytest.raises(BadOption, match="exists already"):
        write_page(FuseJob, record, tmp_path / "out.json", path)
    write_page(FuseJob, record, tmp_path / "out.json", path, force=True)


def test_the_result_says_what_came_of_it(record: Fusion) -> None:
    assert result(record) == (
        "2 models were fused by regress into one of 900 parameters: 88.00 % test accuracy one shot, 94.50 % after 3 epochs of "
        "fine-tuning; the parents have 92.00 % and 94.00 %, their ensemble 96.00 %."
    )
    one = record.model_copy(update={"parents": record.parents[:1], "ensemble": {}, "tuned": {}})
    assert result(one) == (
        "One model was brought by regress into one of 900 parameters: 88.00 % test accuracy one shot; the model has 92.00 %."
    )
    assert "Nothing was measured; it is expected to need fine-tuning." in result(without_data(record))


def test_barriers_are_told_in_words(record: Fusion) -> None:
    both = "Averaged as they are, there is a barrier of 1.9 nats between them. Aligned, there is a barrier of 0.4 nats"
    assert barriers(record) == f"{both} between them, 79 % less."
    vanilla, aligned = record.lines
    assert (
        barriers(record.model_copy(update={"lines": (aligned,)}))
        == "Aligned, there is a barrier of 0.4 nats between them."
    )
    flat = Line(name="aligned", points=line((0.1, 0.15, 0.3)))
    told = barriers(record.model_copy(update={"lines": (vanilla, flat)}))
    assert told.endswith("Aligned, there is no barrier between them.")
    assert barriers(record.model_copy(update={"lines": ()})) == ""
    lossy = record.model_copy(update={"ends": line((0.1, 0.2))})
    assert barriers(lossy).endswith(
        "On the axes of the fused model b.pt alone has a loss of 0.3 nats, not 0.2 as it is: it does not fit on them as a whole."
    )
    assert "barrier of 0.45 nats" in barriers(lossy), "over the line between the parents as they are"


def test_without_data_only_what_is_known_is_shown(record: Fusion) -> None:
    plain = without_data(record)
    found = shown(Fusion.model_validate_json(plain.model_dump_json()))
    assert "Nothing was measured." in found.text
    assert {"lines", "figure-lines"} & set(found.values("id")) == set()
    assert {"readings", "distances", "plans-1"} <= set(found.values("id"))
    assert "validation" not in rows(plain)[0]


def test_the_page_loads_nothing_from_anywhere(record: Fusion) -> None:
    found = shown(record)
    assert not {tag for tag, _ in found.tags} & {"link", "iframe", "object", "embed", "base"}
    assert all(source.startswith("data:image/png;base64,") for source in found.values("src"))
    assert not [attributes for _, attributes in found.tags if {"srcset", "action", "data"} & attributes.keys()]
    assert not [link for link in found.values("href") if "//" in link or ":" in link]
    policies = [str(attributes["content"]) for _, attributes in found.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")
    assert "img-src data:" in policies[0]


def test_nothing_given_becomes_code(record: Fusion) -> None:
    plain = shown(record)
    spoilt = {name: one.model_copy(update={"note": HOSTILE, "device": HOSTILE}) for name, one in record.tuned.items()}
    plan = record.parents[1].plans[0]
    parents = tuple(
        parent.model_copy(
            update={
                "name": f"{i}{HOSTILE}",
                "key": HOSTILE,
                "architecture": network(3, labels=(HOSTILE, "b", "c")),
                "readings": spoilt,
                "before": {HOSTILE: 1.0, f"s0.{HOSTILE}": 1.0},
                "costs": {HOSTILE: 0.5, f"s0.{HOSTILE}": 0.5, f"{HOSTILE}.qk": 0.5},
                "plans": (plan.model_copy(update={"axis": HOSTILE}), plan.model_copy(update={"axis": f"{HOSTILE}.qk"})),
            }
        )
        for i, parent in enumerate(record.parents)
    )
    hostile = record.model_copy(
        update={
            "created": HOSTILE,
            "version": HOSTILE,
            "machine": {"device": HOSTILE, HOSTILE: HOSTILE},
            "versions": {HOSTILE: HOSTILE},
            "data": {"spec": HOSTILE, HOSTILE: HOSTILE},
            "parents": parents,
            "notes": (HOSTILE,),
            "points": {HOSTILE: record.points["one shot"]},
            "ensemble": spoilt,
            "average": spoilt,
            "one_shot": spoilt,
            "tuned": spoilt,
            "seconds": {HOSTILE: 1.0},
            "model": f"{HOSTILE}.pt",
            "config": record.config.model_copy(update={"data": HOSTILE}),
        }
    )
    found = shown(hostile)
    assert HOSTILE in found.text
    assert found.count("img") == 4, "the plans"
    assert found.count("script") == plain.count("script") - 1, "two kinds of axis instead of three"
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert all("<" not in link for link in found.values("href"))
    # Plotly's data are JSON with < and > escaped; what its texts read as HTML is escaped once more.
    scripts = page(hostile, Path("runs"), Path("runs")).split("<body")[1]
    assert "<img src=x" not in scripts
    assert "\\u003cimg" not in scripts


ODD: dict[str, dict[str, object]] = {
    "empty": {"data": {}, "machine": {}, "versions": {}, "seconds": {}, "notes": ()},
    "no lines": {"lines": (), "points": {}, "ends": ()},
    "no average": {"average": {}},
    "odd points": {"points": {"other": Point(share=2.0, loss=-1.0, accuracy=3.0)}},
}


@pytest.mark.parametrize("update", ODD.values(), ids=ODD)
def test_whatever_is_a_record_has_a_page(record: Fusion, update: dict[str, object]) -> None:
    odd = Fusion.model_validate_json(record.model_copy(update=update).model_dump_json())
    assert result(odd) in shown(odd).text


def test_parents_without_plans_or_costs_have_a_page(record: Fusion) -> None:
    bare = tuple(
        parent.model_copy(update={"plans": (), "costs": {}, "before": {}, "match": ()}) for parent in record.parents
    )
    found = shown(record.model_copy(update={"parents": bare}))
    assert {"distances", "plans-1"} & set(found.values("id")) == set()
    same = tuple(parent.model_copy(update={"architecture": network()}) for parent in bare)
    found = shown(record.model_copy(update={"parents": same}))
    assert "blocks" not in found.values("id"), "all are alike"


def test_figures_show_the_numbers(record: Fusion) -> None:
    figure = lines_figure(record)
    above = {trace.name: list(trace.y) for trace in figure.data if trace.yaxis == "y"}
    assert above["averaged as they are, barrier 1.9 nats"] == [0.1, 2.1, 0.3]
    assert above["parents"] == [0.1, 0.3]
    assert above["one shot"] == [0.2]
    assert figure.layout.xaxis2.title.text == "share of b.pt"
    drawn = dict(distance_figures(record))
    assert list(drawn) == ["residual stream", "heads", "query/key channels"]
    assert [list(trace.y) for trace in drawn["heads"].data] == [[1.0, 1.0], [0.2, 0.3]]
    assert list(drawn["heads"].data[0].x) == ["s0.b0", "s0.b1"]
    third = record.parents[1].model_copy(update={"name": "models/c.pt", "before": {}})
    three = record.model_copy(update={"parents": (*record.parents, third), "ends": (*record.ends, record.ends[1])})
    assert [name for name, *_ in distance_series(three)] == ["b.pt, as it is", "b.pt, aligned", "c.pt, aligned"]
    assert lines_figure(three).layout.xaxis2.title.text == "share of all but a.pt"


def test_a_picture_has_a_pixel_for_each_entry() -> None:
    plan = Plan(axis="a", signed=True, values=((1.0, -0.5, 0.0), (0.0, 0.25, -1.0)))
    content = base64.b64decode(picture(plan).removeprefix("data:image/png;base64,"))
    pixels = np.array(Image.open(io.BytesIO(content)))
    assert pixels.shape == (2, 3, 4)
    assert pixels[..., 3].tolist() == [[255, 128, 0], [0, 64, 255]]
    assert pixels[0, 0, 2] > pixels[0, 0, 0], "blue is positive"
    assert pixels[0, 1, 0] > pixels[0, 1, 2], "orange is negative"
    flat = Plan(axis="a", signed=False, values=((0.0,),))
    assert picture(flat).startswith("data:image/png;base64,")


def test_names_are_short_where_they_can_be_told_apart() -> None:
    assert short(["x/a.pt", "y/b.pt"]) == ["a.pt", "b.pt"]
    assert short(["x/a.pt", "y/a.pt"]) == ["x/a.pt", "y/a.pt"]
    assert short(["stock model, seed 0", "stock model, seed 1"]) == ["stock model, seed 0", "stock model, seed 1"]


def test_alike_blocks_share_their_rows() -> None:
    lmu, pool = Block(mixer=Lmu(memory=3, hidden=5)), Block(mixer=Pool(), ffn=Mlp(mlp=7))
    stages = (Stage(embed=8, blocks=(BLOCK, BLOCK, lmu)), Stage(embed=10, blocks=(pool, Block())))
    big = assembled(input=IMAGE, stem=ConvStem(patch=2, width=7), stages=stages, classes=3)
    columns, table = sizes({"a": network(2), "b": big})
    assert columns == ["", "axis", "a", "b"]
    assert table[:3] == [
        ["stem", "width of the stem", "–", "7"],
        ["s0", "residual stream", "6", "8"],
        ["s0.b0 to b1", "mixer", "softmax", "softmax"],
    ]
    assert ["s0.b2", "mixer", "–", "lmu"] in table
    assert ["s1", "residual stream", "–", "10"] in table
    assert ["", "hidden units", "–", "7"] in table
    assert sum(row[0] == "s0.b2" for row in table) == 1
    assert not any(row[0] == "s1.b1" for row in table), "it is switched off"
    _, alone = sizes({"a": network(1)})
    assert [row[0] for row in alone if row[0]] == ["s0", "s0.b0"]


def test_blocks_are_shown_where_they_do_not_go_in_order() -> None:
    assert matches(["a", "b"], [(), ((0, 1),)], network()) == ([], [])
    columns, table = matches(["a", "b"], [(), ((None, 0),)], network())
    assert columns == ["fused", "a", "b"]
    assert table == [["s0.b0", "s0.b0", "–"], ["s0.b1", "s0.b1", "s0.b0"]]
    assert in_order(())
    assert not in_order(((1, 0),))


def test_links_are_relative_to_where_the_page_will_be(record: Fusion, tmp_path: Path) -> None:
    path = write_page(FuseJob, record, tmp_path / "out.json", tmp_path / "out.partial" / "page.html", beside=tmp_path)
    assert "out.safetensors" in Page(path.read_text(encoding="utf-8")).values("href")


def test_a_page_builds_no_modules(record: Fusion, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record may come from anyone and name any size."""
    monkeypatch.setattr("torch.nn.Module.__init__", lambda *_, **__: pytest.fail("a module is built"))
    huge = tuple(p.model_copy(update={"architecture": network(2, 2**16), "match": ()}) for p in record.parents)
    assert "65536" in shown(record.model_copy(update={"parents": huge})).text


def test_an_unfinished_fusion_has_no_report(record: Fusion, tmp_path: Path) -> None:
    unfinished = record.model_copy(update={"model": None})
    with pytest.raises(BadArtefact, match="is not finished"):
        write_page(FuseJob, unfinished, tmp_path / "record.json", tmp_path / "page.html")
    assert not list(tmp_path.iterdir())

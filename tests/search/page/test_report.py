"""The page: what is on it, what it refuses, and that nothing from a file becomes part of its code."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.networks import hybrid
from tests.pages import Page
from wb.core.errors import BadArtefact
from wb.core.precision import allowed, with_precisions
from wb.search.page.contents import read
from wb.search.page.report import render, write_report
from wb.search.run import Run

Fabricate = Callable[..., Run]
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def shown(run: Run) -> Page:
    return Page(write_report(run).read_text(encoding="utf-8"))


def edit(path: Path, change: Callable[[Any], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_a_finished_run_is_shown_whole(fabricate: Fabricate) -> None:
    run = fabricate(trials=24, budget=("latency=0.1ms",))
    page = shown(run)
    points = run.read_front()
    assert {f"network-{point.id}" for point in points} <= page.ids()
    figures = {"front", "hypervolume", "predicted-acc", "predicted-latency", "table", "stages", "phases"}
    assert {f"figure-{name}" for name in figures} <= page.ids()
    assert f"A front of {len(points)} networks from " in page.text
    assert f"best test accuracy {100 * max(point.test.value for point in points):.2f} % (measured on 360" in page.text
    for point in points:
        assert {f"models/{point.id}.safetensors", f"models/{point.id}.onnx"} <= set(page.links())
        assert point.values["latency"].text() in page.text
    assert "not finished" not in page.text
    assert re.search(
        r"On the validation split 359 images judge, which tell networks apart that differ by \d\.\d points", page.text
    )


def test_networks_in_several_precisions_show_those_of_every_group(fabricate: Fabricate) -> None:
    contents = read(fabricate(trials=20))
    kept = {
        number: with_precisions(a, dict.fromkeys(allowed(a), "int8")) for number, a in contents.architectures.items()
    }
    tags = Page(render(replace(contents, architectures=kept), Path())).tags
    titles = [str(attributes["title"]) for _, attributes in tags if "title" in attributes]
    assert titles.count("head of 10 classes, int8") == len(kept)
    stems = [title for title in titles if title.startswith("stem ")]
    assert len(stems) == len(kept)
    assert all(title.endswith(", int8") for title in stems)


def test_so_do_networks_of_convolutions(fabricate: Fabricate) -> None:
    """Some of their operators read the stream with a convolution alone, and have one group."""
    contents, maps = read(fabricate(trials=20)), hybrid()
    low = with_precisions(maps, dict.fromkeys(allowed(maps), "int8"))
    tags = Page(render(replace(contents, architectures=dict.fromkeys(contents.architectures, low)), Path())).tags
    titles = [str(attributes["title"]) for _, attributes in tags if "title" in attributes]
    every = [title for title in titles if "int8" in title and not title.startswith(("head", "stem"))]
    assert len(every) == len(contents.architectures) * sum(len(list(block.parts())) for *_, block in maps.blocks())


def test_the_files_of_a_network_are_linked_where_every_width_shows_them(fabricate: Fabricate) -> None:
    html = render(read(fabricate(trials=20)), Path())
    rows = re.findall(r'<tr id="network-\d+">\s*<td>(.*?)</td>', html, re.DOTALL)
    assert rows
    assert all(row.count("href=") == 2 for row in rows)  # in the first cell, which stays in place


def test_the_page_loads_nothing_from_anywhere(fabricate: Fabricate) -> None:
    page = shown(fabricate(trials=20))
    assert not {tag for tag, _ in page.tags} & {"link", "img", "iframe", "object", "embed", "base"}
    assert not [attributes for _, attributes in page.tags if {"src", "srcset", "action", "data"} & attributes.keys()]
    assert not [link for link in page.links() if "//" in link or ":" in link]
    policies = [str(attributes["content"]) for tag, attributes in page.tags if "http-equiv" in attributes]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none';")


def test_nothing_from_a_file_becomes_code(fabricate: Fabricate, tmp_path: Path) -> None:
    run = fabricate(trials=20)
    plain = shown(run)

    def spoil_run(record: Any) -> None:
        record["data"] |= {"classes": [HOSTILE], "spec": HOSTILE, "fingerprint": HOSTILE}
        record["machine"]["device"] = record["created"] = record["version"] = HOSTILE
        record["predictors"]["acc"]["model"] = HOSTILE
        record["seconds"][HOSTILE] = 1.0

    def spoil_front(points: Any) -> None:
        points[0]["choices"][HOSTILE] = HOSTILE
        points[0]["values"]["latency"] |= {"note": HOSTILE, "device": HOSTILE}
        points[0]["test"]["unit"] = HOSTILE
        points[0] |= {"model": "javascript:alert(3)", "onnx": f"models/{HOSTILE}"}

    edit(run.record_path, spoil_run)
    edit(run.front_path, spoil_front)
    page = shown(run)
    assert page.count("img") == 0
    assert page.count("script") == plain.count("script")
    assert HOSTILE in page.text
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert not [link for link in page.links() if link.startswith("javascript:")]
    figures = write_report(run).read_text().split("</style>")[1].split("</head>")[1]
    assert "<img" not in figures


def test_an_unfinished_run_says_so(fabricate: Fabricate) -> None:
    page = shown(fabricate(trials=20, finished=False))
    assert "This run is not finished. 20 of 24 candidates are evaluated" in page.text
    assert "wb search --resume" in page.text
    assert "So far a front of " in page.text
    assert "figure-front" in page.ids()
    assert not {"networks", "architectures", "figure-table"} & page.ids()


def test_a_run_with_nothing_within_the_budget(fabricate: Fabricate) -> None:
    page = shown(fabricate(trials=20, finished=False, budget=("latency=0.001ms",)))
    assert "All 20 candidates are over latency <= 0.001 ms" in page.text
    assert "figure-front" in page.ids()
    assert "figure-hypervolume" not in page.ids()


@pytest.mark.parametrize(
    ("objectives", "heading", "hypervolume"),
    [
        ("acc", "Search for accuracy digits", False),
        ("acc,size,latency", "Search for accuracy, file size and latency digits", True),
        ("size,latency,macs,params", "Search for file size, latency, multiply-accumulates and parameters digits", True),
    ],
)
def test_any_number_of_objectives(fabricate: Fabricate, objectives: str, heading: str, hypervolume: bool) -> None:
    run = fabricate(trials=20, objectives=objectives)
    page = shown(run)
    assert heading in page.text
    assert {f"network-{point.id}" for point in run.read_front()} <= page.ids()
    assert {f"figure-predicted-{name}" for name in objectives.split(",")} <= page.ids()
    assert ("figure-hypervolume" in page.ids()) == hypervolume


def test_a_sampler_without_predictions(fabricate: Fabricate) -> None:
    run = fabricate(trials=20, guided=False, sampler="nsga2")
    page = shown(run)
    assert "Predictions before each evaluation" not in page.text
    assert "Cross-validated" in page.text  # the run's own evaluations tell how good a predictor would have been
    edit(run.record_path, lambda record: record.update(predictors={}))
    page = shown(run)
    assert "predictors" not in page.ids()
    assert "predictions guide from here" not in write_report(run).read_text()
    assert "figure-hypervolume" in page.ids()


def test_quality_of_predictors_may_lack_anything(fabricate: Fabricate) -> None:
    run = fabricate(trials=20)
    partial = {"acc": {"kendall": 0.5}, "latency": {"macs_only": None, "rmse": "x"}, "size": 3}
    edit(run.record_path, lambda record: record.update(predictors=partial))
    text = shown(run).text
    assert "accuracy – – 0.50 – – – –" in text
    assert "latency – – – – – – –" in text


def test_a_predicted_number_is_never_shown_as_measured(fabricate: Fabricate) -> None:
    run = fabricate(trials=20)
    edit(run.front_path, lambda points: points[0]["values"]["latency"].update(how="predicted", note="by the table"))
    page = shown(run)
    first, second = run.read_front()[:2]
    assert f"{first.values['latency'].text()} * predicted" in page.text
    assert f"{second.values['latency'].text()} measured" in page.text
    assert f"* network {first.id}, latency: by the table" in page.text


def test_links_lead_from_wherever_the_page_is_to_the_models(fabricate: Fabricate, tmp_path: Path) -> None:
    run = fabricate(trials=20)
    page = Page(write_report(run, tmp_path / "pages" / "a.html").read_text())
    assert f"../run/models/{run.read_front()[0].id}.onnx" in page.links()
    assert not run.report_path.exists()


def test_passwords_are_not_shown(fabricate: Fabricate) -> None:
    contents = read(fabricate(trials=5))
    config = contents.record.config.model_copy(update={"storage": "postgresql+psycopg2://ann:secret@db/x"})
    html = render(replace(contents, record=contents.record.model_copy(update={"config": config})), Path())
    assert "secret" not in html
    assert "postgresql+psycopg2://ann:***@db/x" in html


def test_stages_and_switched_off_blocks_are_drawn(fabricate: Fabricate) -> None:
    run = fabricate(trials=20)

    def change(points: Any) -> None:
        architecture = points[0]["architecture"]
        blocks = [{"mixer": None, "ffn": None}, {"mixer": {"kind": "pool"}, "ffn": None}]
        architecture["stages"] = [
            {"embed": 24, "blocks": blocks},
            {"embed": 48, "blocks": blocks[:1], "merge": {"kind": "conv"}},
        ]

    edit(run.front_path, change)
    page = shown(run)
    titles = [attributes.get("title") for _, attributes in page.tags]
    assert {"s0.b0: switched off", "s0.b1: pool kernel 3, no feed-forward", "s1.b0: switched off"} <= set(titles)
    assert {"embedding of 24 channels", "embedding of 48 channels"} <= set(titles)


def test_damaged_files_are_refused(fabricate: Fabricate) -> None:
    run = fabricate(trials=20)
    whole = run.front_path.read_text()
    run.front_path.write_text(whole[: len(whole) // 2])
    with pytest.raises(BadArtefact, match=r"front\.json is damaged"):
        write_report(run)
    run.front_path.write_text(whole)
    edit(run.front_path, lambda points: points[0]["architecture"].pop("stem"))
    with pytest.raises(BadArtefact, match=r"no architecture: stem"):
        write_report(run)
    run.front_path.write_text(whole)
    edit(run.front_path, lambda points: points[0]["values"].pop("latency"))
    with pytest.raises(BadArtefact, match="no reading of latency"):
        write_report(run)
    run.front_path.write_text(whole)
    (run.folder / "study.db").write_bytes(b"no database" * 1000)
    with pytest.raises(BadArtefact, match=r"study at .*study\.db is damaged"):
        write_report(run)
    assert not run.report_path.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="is no run folder"):
        write_report(Run(tmp_path))

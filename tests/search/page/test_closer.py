"""The closer look at a front: what networks answer, are made of and were trained like, known networks beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pages import Page
from wb.core.measures.metrics import parse_objectives
from wb.core.measures.readings import Reading
from wb.core.statistics.paired import Paired
from wb.data.split import Images
from wb.search.page.closer import shown
from wb.search.page.contents import read
from wb.search.page.details import MOST_CLASSES, confusion_figure, hardest
from wb.search.page.figures import Beside, front_figure
from wb.search.page.report import write_report
from wb.search.page.traces import Candidate
from wb.search.results.answers import Answers, answered, collected
from wb.search.results.baselines import Baseline, write_baselines
from wb.search.results.curves import Curves
from wb.search.results.unsure import Unsure
from wb.search.run import Run
from wb.spaces.operators import width_of

Fabricate = Callable[..., Run]
HOSTILE = '"><script>alert(2)</script>'


def answer(run: Run, classes: tuple[str, ...]) -> Answers:
    """Made-up answers of every network of the front to 100 images."""
    rng = np.random.default_rng(0)
    labels = rng.integers(len(classes), size=100)
    votes = np.eye(len(classes))[np.where(rng.random(100) < 0.8, labels, 0)]
    images = rng.integers(256, size=(100, 1, 8, 8), dtype=np.uint8)
    found = {point.id: answered(votes, labels) for point in run.read_front()}
    whole = collected(found, Images(images, labels), classes)
    run.answers_path.write_text(whole.model_dump_json())
    return whole


def train(run: Run) -> None:
    for epoch in range(1, 4):
        for name in ("supernet", *(str(point.id) for point in run.read_front())):
            Curves(run.curves_path).of(name)(epoch, 3, 2.0 / epoch)


def test_everything_is_on_the_page(fabricate: Fabricate) -> None:
    run = fabricate(trials=24)
    whole = answer(run, ("one", HOSTILE, "three"))
    train(run)
    html = write_report(run).read_text(encoding="utf-8")
    page = Page(html)
    assert {"take", "use", "answers", "made", "training"} <= page.ids()
    assert "Mixers by depth and number of tokens" in html
    figures = {"confusion", "curve-supernet", "curve-finalists", "made-of-mixer", "made-of-ffn"}
    assert {f"figure-{name}" for name in figures} <= page.ids()
    best = read(run).best
    assert best is not None
    mistakes = whole.networks[best.id].mistakes
    pictures = page.values("src")
    assert pictures == [f"data:image/png;base64,{whole.pictures[mistake.image]}" for mistake in mistakes]
    assert "<script>alert" not in html
    assert HOSTILE in page.text
    assert f"Answers of network {best.id} to the" in page.text


def test_by_class_every_image_counts_once(fabricate: Fabricate) -> None:
    run = fabricate(trials=24)
    whole = answer(run, ("a", "b", "c"))
    found = shown(read(run))
    assert found.subject is not None
    matrix = whole.networks[found.subject.id].matrix(3)
    assert sum(row.images for row in found.rows) == matrix.sum() == 100
    column = found.networks.index(found.subject.id)
    for row, right, of in zip(found.rows, matrix.diagonal(), matrix.sum(axis=1), strict=True):
        assert row.cells[column].startswith(f"{100 * right / of:.1f} %")
    assert [pair.rpartition(": ")[2] for pair in found.pairs] == ["7", "7"] or found.pairs


def test_widths_and_parts_are_those_of_the_records(fabricate: Fabricate) -> None:
    contents = read(fabricate(trials=24))
    found = shown(contents)
    for number, architecture in contents.architectures.items():
        row = (found.widths or {})[number]
        assert row["residual stream"] == str(architecture.stages[0].embed)
        hidden = [width_of(block.ffn) for _, _, block in architecture.blocks() if block.ffn is not None]
        if hidden:
            ends = [str(min(hidden)), str(max(hidden))]
            assert " to ".join(dict.fromkeys(ends)) in row.values()


def test_many_classes_are_cut_to_those_with_most_mistakes() -> None:
    n = 3 * MOST_CLASSES
    matrix = 10 * np.eye(n, dtype=np.int64)
    matrix[100, 7] = 5
    kept = hardest(matrix)
    assert len(kept) == MOST_CLASSES
    assert {7, 100} <= set(kept)
    figure = confusion_figure(matrix, [f"<{i}>" for i in range(n)])
    assert len(figure.data[0].z) == MOST_CLASSES
    assert "&lt;7&gt;" in figure.data[0].x


@pytest.mark.parametrize("classes", [2, 12])
def test_the_cells_of_the_confusion_are_its_counts(classes: int) -> None:
    matrix = np.random.default_rng(0).integers(9, size=(classes, classes))
    right, wrong = confusion_figure(matrix, [str(i) for i in range(classes)]).data
    for i in range(classes):
        for j in range(classes):
            assert (right.z[i][j], wrong.z[i][j]) == ((matrix[i, j], None) if i == j else (None, matrix[i, j]))


def test_what_noise_hides_is_said(fabricate: Fabricate) -> None:
    run = fabricate(trials=24)
    points = run.read_front()
    first, second = points[0], points[1]
    unsure = Unsure(than=first.id, paired=Paired(won=4, lost=2, n=359))
    changed = [first.model_copy(update={"alike": (90, 91)}), second.model_copy(update={"unsure": unsure}), *points[2:]]
    run.staging.mkdir()
    run.publish(changed)
    assert run.read_front() == changed
    text = Page(write_report(run).read_text()).text
    assert f"network {first.id} stands for 2 finalists that nothing tells from it: 90, 91" in text
    assert f"network {second.id}: what it is better in than network {first.id} may be noise" in text
    assert "of 359 validation examples, 4 are right only here and 2 only there" in text


def reading(value: float, unit: str) -> Reading:
    return Reading(value=value, unit=unit, how="measured")


def test_known_networks_are_points_with_their_names(fabricate: Fabricate) -> None:
    run = fabricate(trials=24)
    values = {"acc": reading(0.91, "fraction"), "latency": reading(0.3, "ms")}
    write_baselines(run.baselines_path, [Baseline(name="LeNet <5>", values=values), Baseline(name="b", values={})])
    assert [one.name for one in read(run).baselines] == ["LeNet <5>", "b"]
    html = write_report(run).read_text()
    assert re.search(r'"name":"known networks"[^}]*', html)
    assert "LeNet \\u0026lt;5\\u0026gt;" in html or "LeNet &lt;5&gt;" in html
    known = [Candidate(-1, one.values, name=one.name) for one in read(run).baselines]
    figure = front_figure(parse_objectives("acc,latency"), [], [], (), Beside(None, known))
    trace = next(trace for trace in figure.data if trace.name == "known networks")
    assert (trace.x, trace.y, trace.text) == ((0.3,), (0.91,), ("LeNet &lt;5&gt;",))


def test_what_has_no_costs_is_a_line(fabricate: Fabricate) -> None:
    run = fabricate(trials=24)
    words = Baseline(
        name="words", values={"acc": reading(0.8, "fraction")}, test=reading(0.7, "fraction"), network=False
    )
    write_baselines(run.baselines_path, [words])
    assert "no network, but words: on the test split 70.00 %" in Page(write_report(run).read_text()).text
    values = [{"acc": reading(0.9, "fraction"), "latency": reading(ms, "ms")} for ms in (1, 5)]
    line = Candidate(-1, words.values, test=words.test, name="words")
    known = [*(Candidate(-1, one, name="net") for one in values), line]
    figure = front_figure(parse_objectives("acc,latency"), [], [], (), Beside(None, known))
    trace = next(trace for trace in figure.data if trace.name == "without a network")
    assert (trace.x, trace.y, trace.showlegend) == ((1.0, 5.0, None), (0.8, 0.8, None), True)
    assert trace.text[0].startswith("<b>words</b>")
    figure = front_figure(parse_objectives("latency,size"), [], [], (), Beside(None, known))
    assert not next(trace for trace in figure.data if trace.name == "without a network").showlegend


def test_a_run_without_any_of_it_has_its_page(fabricate: Fabricate, tmp_path: Path) -> None:
    page = Page(write_report(fabricate(trials=24)).read_text())
    assert {"take", "use", "made"} <= page.ids()
    assert not {"answers", "training"} & page.ids()
    assert page.count("img") == 0

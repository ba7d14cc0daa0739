"""The page and the sentences of a comparison: what was found is there, what was not is said, and no name can break it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.networks import answering, of_digits, random_model
from tests.pages import Page
from wb.core.architecture import Architecture
from wb.jobs.diff.compare import Comparing
from wb.jobs.diff.page import page
from wb.jobs.diff.record import Difference
from wb.jobs.diff.words import remarks, tables
from wb.models.model import save


def compared(folder: Path, a: Architecture, b: Architecture, *, seeds: tuple[int, int] = (0, 1)) -> Difference:
    for name, architecture, seed in zip(("<i>a", "b"), (a, b), seeds, strict=True):
        save(random_model(architecture, seed), folder / f"{name}.safetensors", force=True)
    comparing = Comparing(data="none", images=8)
    return comparing(folder / "<i>a.safetensors", folder / "b.safetensors", lambda *_: None, lambda _: None)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Difference:
    return compared(tmp_path_factory.mktemp("d"), of_digits(), of_digits(mlp=10))


def test_a_page_has_every_sentence_plot_and_row(found: Difference) -> None:
    read = Page(page(found))
    for remark in remarks(found):
        assert remark.text in read.raw
    assert read.ids() >= {"sizes", "layers", "architecture", "weights", "lineage", "figure-layers", "figure-weights"}
    assert "made up" in read.text
    for row in found.layers:
        assert row.name in read.raw
    assert all(row.name in read.raw for row in found.weights if row.differs)
    assert read.count("i") == 0, "a name of a file is text"
    assert "readings" not in read.ids()


def test_equal_fields_are_shown_on_request_only(found: Difference) -> None:
    shown, whole = (page(found, everything=everything) for everything in (False, True))
    cell = '<td class="left">patch</td>'
    assert cell not in shown
    assert cell in whole
    few, all_of_them = (tables(found, everything=everything) for everything in (False, True))
    assert [row[0] for row in few[1].rows] == ["s0.b0.ffn.mlp", "s0.b1.ffn.mlp"]
    assert len(all_of_them[1].rows) == len(found.fields)
    assert len(all_of_them[2].rows) == len(found.weights)


def test_widths_without_a_distance_are_drawn_by_their_likeness(tmp_path: Path) -> None:
    wide = compared(tmp_path, of_digits(), of_digits(embed=24))
    assert "The streams have other widths" in " ".join(one.text for one in remarks(wide))
    assert "figure-layers" in Page(page(wide)).ids()


def test_what_is_equal_is_said_to_be_and_has_no_plot(tmp_path: Path) -> None:
    same = compared(tmp_path, of_digits(), of_digits(), seeds=(0, 0))
    assert same.equal
    assert remarks(same)[0].text == "The two models are equal: the same architecture and the same weights."
    assert not {"figure-layers", "figure-weights"} & Page(page(same)).ids()
    assert not any(table.title.startswith("residual") for table in tables(same))


def test_other_numbers_of_classes_leave_the_layers(tmp_path: Path) -> None:
    found = compared(tmp_path, of_digits(), answering(of_digits(), classes=7, labels=()))
    assert found.outputs is None
    assert found.layers
    assert "Predictions are not compared: one has 10 classes and the other 7." in [one.text for one in remarks(found)]
    assert "figure-layers" in Page(page(found)).ids()

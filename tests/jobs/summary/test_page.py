"""The page and the picture of a data set: every sentence and every class is there, and no name can break it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.pages import Page
from wb.core.errors import BadOption
from wb.data import Dataset, Split
from wb.data.split import Images
from wb.data.summary import Summary, summarize
from wb.jobs.calls.results import Data
from wb.jobs.summary.page import page, write
from wb.jobs.summary.pictures import EACH, sampled
from wb.jobs.summary.words import classes_table, remarks, splits_table


def made(names: tuple[str, ...] = ("<b>cat</b>", "dog"), *, uneven: int = 0) -> Dataset:
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        labels = np.arange(count) % len(names)
        labels[:uneven] = 0
        return Images(random.integers(0, 256, (count, 3, 120, 8), dtype=np.uint8), labels.astype(np.int64))

    return Dataset(
        "made", "made", split(50), split(20), split(20), names, "0" * 16, notes=("left out of it: two files",)
    )


def leaky() -> Dataset:
    """Test image 0 is training image 1, and has another label."""
    data = made()
    images = data.test.images.copy()
    images[0] = data.train.images[1]
    return replace(data, test=replace(data.test, images=images))


def texts(summary: Summary) -> str:
    return " ".join(one.text for one in remarks(summary))


def test_a_page_has_every_split_class_and_remark() -> None:
    data = leaky()
    summary = summarize(data)
    read = Page(page(summary, data))
    for one in remarks(summary):
        assert one.text in read.raw
    assert "Of 20 images of test, 1 are in train too (1 under another label)" in read.text
    assert read.ids() >= {"splits", "copies", "disputed", "classes", "figure-classes"}
    sources = [source for source in read.values("src") if source.startswith("data:image/png;base64,")]
    assert len(sources) == 2 * EACH + 1
    assert read.values("alt").count("<b>cat</b>") == EACH, "a name of a class is text"


def test_what_endangers_a_figure_warns() -> None:
    assert [one.warn for one in remarks(summarize(made()))] == [False] * 3
    assert "No image comes twice" in texts(summarize(made()))
    warned = [one.text for one in remarks(summarize(leaky())) if one.warn]
    assert len(warned) == 1
    assert "what was remembered" in warned[0]
    uneven = remarks(summarize(made(uneven=20)))
    assert any(one.warn and "Classes are uneven, 2.3 to 1: 35 training images of" in one.text for one in uneven)


def test_tables_have_a_row_for_each_class_or_say_how_many_are_not_there() -> None:
    data = made()
    assert [row[0] for row in classes_table(summarize(data)).rows] == ["<b>cat</b>", "dog"]
    assert splits_table(summarize(data)).columns == ("", "train", "validation", "test")
    many = summarize(made(tuple(f"class {i}" for i in range(40))))
    rows = classes_table(many).rows
    assert len(rows) == 17
    assert rows[8][0] == "… 24 more …"


def test_samples_are_of_their_class_and_come_from_everywhere_in_the_split() -> None:
    split = made().train
    for label in (0, 1):
        found = sampled(split, label)
        places = np.flatnonzero(split.labels == label)
        assert len(set(found)) == EACH
        assert (split.labels[found] == label).all()
        assert (found[0], found[-1]) == (places[0], places[-1])


def test_a_picture_has_a_row_for_each_class(tmp_path: Path) -> None:
    data = made()
    write(summarize(data), data, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.height >= 2 * 96
    with pytest.raises(BadOption, match="exists already"):
        write(summarize(data), data, tmp_path / "a.png")
    with pytest.raises(BadOption, match=r"end it in .html or .png"):
        write(summarize(data), data, tmp_path / "a.pdf")


def test_in_a_notebook_data_have_the_same_summary_and_page(tmp_path: Path) -> None:
    data = made()
    assert Data(data).summary == summarize(data)
    assert Data(data).page(tmp_path / "a.html").read_text() == page(summarize(data), data)

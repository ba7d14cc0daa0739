"""Data sets of Hugging Face's library: of a stand-in with the few things that are used, and of the library where it is there."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from wb.core.errors import BadData, BadOption, MissingExtra
from wb.data import load
from wb.data.readers import hub
from wb.data.readers.parts import Parts
from wb.data.spec import Spec

LEVELS = np.random.default_rng(0).integers(0, 256, (24, 4, 6), dtype=np.uint8)
LABELS = [i % 3 for i in range(24)]


class Image:
    """`datasets.Image`: a column of image files; not decoded, its values are `{"bytes": …, "path": …}`."""

    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class ClassLabel:
    """`datasets.ClassLabel`: whole numbers that have names."""

    def __init__(self, names: list[str]) -> None:
        self.names = names


class Value:
    """`datasets.Value`: any other plain column."""


class Table:
    """`datasets.Dataset`: rows by number and slice, columns by name.

    Source: https://huggingface.co/docs/datasets/package_reference/main_classes (`features`, `__getitem__`, `cast_column`)
    """

    def __init__(self, columns: dict[str, list[Any]], features: dict[str, Any]) -> None:
        self.columns, self.features = columns, features

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: values[key] for name, values in self.columns.items()}

    def cast_column(self, name: str, feature: Any) -> Table:
        return Table(self.columns, {**self.features, name: feature})

    def with_format(self, kind: str) -> Table:
        assert kind == "numpy"
        return Table({name: np.asarray(values) for name, values in self.columns.items()}, self.features)  # type: ignore[misc]


def png(levels: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Pictures.fromarray(levels).save(file, "png")
    return {"bytes": file.getvalue(), "path": None}


def table(rows: slice = slice(None), *, image: str = "image", label: str = "label", **more: Any) -> Table:
    columns = {
        image: [png(one) for one in LEVELS[rows]],
        label: LABELS[rows],
        **{name: c for name, (c, _) in more.items()},
    }
    features = {image: Image(), label: ClassLabel(["a", "b", "c"]), **{name: f for name, (_, f) in more.items()}}
    return Table(columns, features)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the library; tests say what it finds."""
    module: Any = ModuleType("datasets")
    module.__version__ = "5.2.0"
    module.are_progress_bars_disabled = lambda: True
    module.disable_progress_bars = lambda: None
    monkeypatch.setitem(sys.modules, "datasets", module)
    return module  # type: ignore[no-any-return]


def read(library: Any, found: Any, spec: str = "hf:someone/shades") -> Parts:
    library.load_dataset = lambda name, config: found
    return hub.read(Spec.parse(spec))


def pairs(*splits: Any) -> set[tuple[bytes, int]]:
    return {(x.tobytes(), int(y)) for split in splits for x, y in zip(split.images, split.labels, strict=True)}


EVERY = {(x.tobytes(), y) for x, y in zip(LEVELS, LABELS, strict=True)}


def test_images_and_classes_are_read_split_by_split(library: ModuleType) -> None:
    parts = read(library, {"train": table(slice(0, 18)), "test": table(slice(18, 24)), "unlabelled": table()})
    assert parts.classes == ("a", "b", "c")
    assert pairs(parts.test) == {(x.tobytes(), y) for x, y in zip(LEVELS[18:], LABELS[18:], strict=True)}
    assert pairs(*parts[1:4]) == EVERY
    assert parts.sources == ("train", "cut from train", "test")
    assert parts.notes == ("left out of someone/shades: the split unlabelled",)


def test_one_table_is_divided(library: ModuleType) -> None:
    parts = read(library, table())
    assert pairs(*parts[1:4]) == EVERY
    assert "is split" in parts.notes[0]


def test_columns_are_found_by_type_by_name_or_as_they_are_asked_for(library: ModuleType) -> None:
    assert pairs(*read(library, table(image="shot", label="kind"))[1:4]) == EVERY
    coarse = ([0] * 12 + [1] * 12, ClassLabel(["x", "y"]))
    two = table(label="fine", coarse=coarse)
    with pytest.raises(BadOption, match=r"which column has the labels .* hf,label=COLUMN:someone/shades"):
        read(library, two)
    assert read(library, two, "hf,label=coarse:someone/shades").classes == ("x", "y")
    with pytest.raises(BadOption, match="no column 'rough'; there are image, fine, coarse"):
        read(library, two, "hf,label=rough:someone/shades")
    arrays = Table({"pixel_values": list(LEVELS), "target": LABELS}, {"pixel_values": Value(), "target": Value()})
    parts = read(library, arrays)
    assert parts.classes == ("0", "1", "2")
    assert pairs(*parts[1:4]) == EVERY


def test_labels_that_are_kept_secret_are_left_out(library: ModuleType) -> None:
    secret = table(slice(0, 6))
    secret.columns["label"] = [-1, None, -1, -1, -1, -1]
    parts = read(library, {"train": table(), "test": secret})
    assert "6 of 6 images of test have no label" in parts.notes[0]
    assert pairs(*parts[1:4]) == EVERY
    named, secret = table(), table(slice(0, 6))
    for one in (named, secret):
        one.features["label"] = Value()
    named.columns["label"] = [None, *("abc"[label] for label in LABELS[1:])]
    secret.columns["label"] = [None] * 6
    parts = read(library, {"train": named, "test": secret})
    assert parts.classes == ("a", "b", "c")
    assert parts.notes[0].startswith("1 of 24 images of train have no label")
    assert pairs(*parts[1:4]) == EVERY - {(LEVELS[0].tobytes(), LABELS[0])}


def test_broken_images_are_named_by_their_rows(library: ModuleType) -> None:
    broken = table()
    broken.columns["image"][7] = {"bytes": b"no picture", "path": None}
    with pytest.raises(
        BadData, match=r"1 of 24 images in someone/shades cannot be read: train, row 7 \(not an image\)"
    ):
        read(library, {"train": broken})
    broken.columns["image"][7] = {"bytes": None, "path": "/etc/passwd"}
    with pytest.raises(BadData, match="no image in row 7 of train, but a path or nothing"):
        read(library, {"train": broken})


def test_what_the_library_raises_is_one_paragraph(library: Any) -> None:
    def refuse(error: Exception) -> Any:
        def load_dataset(name: str, config: str | None) -> Any:
            raise error

        return load_dataset

    library.load_dataset = refuse(ConnectionError("Couldn't reach the Hub"))
    with pytest.raises(BadData, match=r"on the hub, or there is no connection.*ConnectionError: Couldn't reach"):
        load("hf:someone/shades")
    library.load_dataset = refuse(ValueError("Config name is missing.\nPlease pick one among ['a', 'b']"))
    with pytest.raises(BadOption, match=r"one among \['a', 'b'\]; say which with hf,config=NAME:someone/shades"):
        load("hf:someone/shades")


def test_without_the_library_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"pip install 'wb\[hf-data\]'"):
        load(f"hf:{tmp_path}")


def test_an_old_library_is_not_used(library: Any) -> None:
    library.__version__ = "2.14.1"
    with pytest.raises(MissingExtra, match=r"2\.14\.1 is too old: before 4\.0 it runs code"):
        load("hf:someone/shades")


def test_a_folder_without_tables_is_told_from_a_data_set(library: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"has no parquet or arrow files.*imagefolder:"):
        load(f"hf:{tmp_path}")
    with pytest.raises(BadData, match="is a file; hf needs the folder"):
        load(f"hf:{Path(__file__)}")


@pytest.mark.filterwarnings("default")  # of the libraries that it stands on
def test_the_library_itself_gives_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is installed: a folder of `save_to_disk`, and one of parquet files."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    made = {"image": [png(one) for one in LEVELS], "label": LABELS}
    whole = datasets.Dataset.from_dict(made, features=features)
    both = datasets.DatasetDict(train=whole.select(range(18)), test=whole.select(range(18, 24)))
    both.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "tables").mkdir()
    for name, one in both.items():
        one.to_parquet(str(tmp_path / "tables" / f"{name}-00000-of-00001.parquet"))
    for place in ("saved", "tables"):
        data = load(f"hf:{tmp_path / place}")
        assert (data.name, data.classes, len(data.test)) == (place, ("a", "b", "c"), 6)
        assert pairs(data.train, data.validation, data.test) == EVERY

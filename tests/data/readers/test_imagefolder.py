from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wb.core.errors import BadData
from wb.data.dataset import Split
from wb.data.readers import imagefolder


def fill(home: Path, classes: str, count: int, first: int = 0) -> int:
    """`count` images in each of `classes`; image i has the grey level i everywhere. Returns the next level."""
    for name in classes:
        (home / name).mkdir(parents=True)
        for _ in range(count):
            Image.fromarray(np.full((4, 4), first, np.uint8)).save(home / name / f"{first:03}.png")
            first += 1
    return first


def pairs(*splits: Split) -> set[tuple[int, int]]:
    """(level, label) of every image."""
    return {
        (int(image[0, 0, 0]), int(label))
        for split in splits
        for image, label in zip(split.images, split.labels, strict=True)
    }


def test_one_folder_is_split_70_15_15_in_every_class(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 20)
    parts = imagefolder.read(tmp_path)
    assert parts.classes == ("a", "b")
    assert [np.bincount(split.labels).tolist() for split in parts[1:4]] == [[14, 14], [3, 3], [3, 3]]
    assert pairs(*parts[1:4]) == {(level, level // 20) for level in range(40)}


def test_three_images_of_a_class_go_one_to_each_split(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 3)
    parts = imagefolder.read(tmp_path)
    assert [sorted(split.labels.tolist()) for split in parts[1:4]] == [[0, 1]] * 3
    assert len(pairs(*parts[1:4])) == 6


def test_training_and_test_folders_are_kept_and_validation_comes_from_training(tmp_path: Path) -> None:
    level = fill(tmp_path / "train", "ab", 30)
    fill(tmp_path / "test", "ab", 5, level)
    parts = imagefolder.read(tmp_path)
    assert pairs(parts.test) == {(level + i, i // 5) for i in range(10)}
    assert pairs(parts.train, parts.validation) == {(i, i // 30) for i in range(60)}
    assert (len(parts.train), np.bincount(parts.validation.labels).tolist()) == (54, [3, 3])


@pytest.mark.parametrize("name", ["val", "valid", "validation", "dev", "Valid"])
def test_a_validation_folder_is_used_as_it_is(tmp_path: Path, name: str) -> None:
    level = fill(tmp_path / "train", "abc", 4)
    level = fill(tmp_path / "test", "ac", 2, level)
    fill(tmp_path / name, "b", 3, level)
    parts = imagefolder.read(tmp_path)
    assert pairs(parts.train) == {(i, i // 4) for i in range(12)}
    assert pairs(parts.test) == {(12, 0), (13, 0), (14, 2), (15, 2)}
    assert pairs(parts.validation) == {(16, 1), (17, 1), (18, 1)}


def test_training_alone_is_split_like_one_folder_and_says_so(tmp_path: Path) -> None:
    fill(tmp_path / "whole", "ab", 20)
    (tmp_path / "divided").mkdir()
    (tmp_path / "whole").rename(tmp_path / "divided" / "Train")
    divided = imagefolder.read(tmp_path / "divided")
    flat = imagefolder.read(tmp_path / "divided" / "Train")
    assert [pairs(split) for split in divided[1:4]] == [pairs(split) for split in flat[1:4]]
    assert divided.notes == (
        f"{tmp_path / 'divided'} has Train/ alone, which is split: 28 for training, 6 for validation, 6 for the test",
    )
    assert flat.notes == ()


@pytest.mark.parametrize("names", [["train"], ["train", "test"], ["train", "val"], ["train", "val", "test"]])
def test_no_pixels_are_held_twice(names: list[str], tmp_path: Path) -> None:
    level = 0
    for name in names:
        level = fill(tmp_path / name, "ab", 20, level)
    arrays = [
        split.images if split.images.base is None else split.images.base for split in imagefolder.read(tmp_path)[1:4]
    ]
    assert sum(array.size for array in {id(array): array for array in arrays}.values()) == level * 16


def test_without_a_test_folder_a_tenth_of_training_is_kept_for_it(tmp_path: Path) -> None:
    level = fill(tmp_path / "train", "ab", 30)
    fill(tmp_path / "val", "ab", 5, level)
    parts = imagefolder.read(tmp_path)
    assert pairs(parts.validation) == {(level + i, i // 5) for i in range(10)}
    assert pairs(parts.train, parts.test) == {(i, i // 30) for i in range(60)}
    assert np.bincount(parts.test.labels).tolist() == [3, 3]
    assert "there is no test split in" in parts.notes[0]
    assert "6 images of train/ are kept for it" in parts.notes[0]


def test_what_was_left_out_is_named_with_numbers(tmp_path: Path) -> None:
    level = fill(tmp_path / "train", "ab", 3)
    fill(tmp_path / "test", "ab", 3, level)
    (tmp_path / "extra").mkdir()
    (tmp_path / "readme.txt").write_text("x", encoding="utf-8")
    (tmp_path / "train" / "labels.csv").write_text("x", encoding="utf-8")
    (tmp_path / "train" / "a" / "x.heic").write_bytes(b"x")
    (tmp_path / "train" / "a" / "y.heic").write_bytes(b"x")
    (tmp_path / "train" / "b" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "test" / "b" / "deeper").mkdir()
    beside, inside = imagefolder.read(tmp_path).notes
    assert beside == (
        f"left out of {tmp_path}: 2 files of other kinds (1 .txt, 1 .csv), 1 folder (extra/), beside the folders of splits or "
        "classes"
    )
    assert inside == (
        f"left out of {tmp_path}: 2 files of other kinds (2 .heic), 1 hidden file, 1 folder (test/b/deeper/), in the class "
        "folders test/b/, train/a/, train/b/"
    )


def test_the_two_notes_on_a_folder_without_splits_say_where(tmp_path: Path) -> None:
    fill(tmp_path, "abcd", 3)
    (tmp_path / "readme.txt").write_text("x", encoding="utf-8")
    (tmp_path / "a" / "x.txt").write_text("x", encoding="utf-8")
    left = f"left out of {tmp_path}: 1 file of other kinds (1 .txt)"
    assert imagefolder.read(tmp_path).notes[:2] == (
        f"{left}, beside the folders of classes",
        f"{left}, in the class folder a/",
    )
    for name in "bcd":
        (tmp_path / name / "x.txt").write_text("x", encoding="utf-8")
    assert imagefolder.read(tmp_path).notes[1].endswith("(4 .txt), in the class folders a/, b/, c/ and 1 more")


def test_other_formats_beside_png_are_read(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 3)
    for i, end in enumerate(("tif", "gif", "PGM")):
        Image.fromarray(np.full((4, 4), 90 + i, np.uint8)).save(tmp_path / "a" / f"x.{end}")
    parts = imagefolder.read(tmp_path)
    assert {(90, 0), (91, 0), (92, 0)} < pairs(*parts[1:4])
    assert parts.notes == ()


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    fill(tmp_path, ["bus", "train"], 3)  # type: ignore[arg-type]
    assert imagefolder.read(tmp_path).classes == ("bus", "train")


def test_hidden_files_other_files_and_deeper_folders_are_ignored_and_links_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", "ab", 4)
    home = tmp_path / "data"
    home.mkdir()
    (home / "a").symlink_to(tmp_path / "real" / "a")
    fill(home, "b", 3, 10)
    (home / "b" / "link.png").symlink_to(tmp_path / "real" / "b" / "004.png")
    (home / "b" / "._010.png").write_bytes(b"resource fork")
    (home / "b" / "Thumbs.db").write_bytes(b"x")
    (home / "b" / "deeper.png").mkdir()
    (home / "readme.txt").write_text("x", encoding="utf-8")
    (home / ".cache").mkdir()
    parts = imagefolder.read(home)
    assert pairs(*parts[1:4]) == {(0, 0), (1, 0), (2, 0), (3, 0), (10, 1), (11, 1), (12, 1), (4, 1)}


def test_size_and_progress_reach_the_decoder(tmp_path: Path) -> None:
    fill(tmp_path, "ab", 3)
    calls: list[tuple[int, int]] = []
    parts = imagefolder.read(tmp_path, image_size=7, progress=lambda done, total: calls.append((done, total)))
    assert parts.train.images.shape[1:] == (1, 7, 7)
    assert calls[-1] == (6, 6)


def _only_other_files(folder: Path) -> None:
    fill(folder, "ab", 3)
    (folder / "c").mkdir()
    (folder / "c" / "notes.txt").write_text("x", encoding="utf-8")
    (folder / "c" / ".hidden.png").write_bytes(b"x")


def _two_validations(folder: Path) -> None:
    for name in ("train", "val", "valid"):
        fill(folder / name, "ab", 3)


def _test_only(folder: Path) -> None:
    fill(folder / "test", "ab", 3)


def _unknown_class(folder: Path) -> None:
    fill(folder / "train", "ab", 3)
    fill(folder / "test", "az", 3)


def _no_labels(folder: Path) -> None:
    fill(folder, ["train", "test"], 3)  # type: ignore[arg-type]


def _empty_test(folder: Path) -> None:
    fill(folder / "train", "ab", 3)
    (folder / "test").mkdir()


def _too_few(folder: Path) -> None:
    fill(folder, "abcdefgh", 2)
    fill(folder, "xy", 9, 100)


def _unprintable(folder: Path) -> None:
    fill(folder, ["a", "b\nc"], 3)  # type: ignore[arg-type]


def _empty_class_of_test(folder: Path) -> None:
    fill(folder / "train", "ab", 3)
    fill(folder / "test", "a", 3)
    (folder / "test" / "b").mkdir()


def _broken(folder: Path) -> None:
    fill(folder, "ab", 3)
    (folder / "b" / "new.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda folder: None,
            "has no class folders, and at least two classes are needed; expected PATH/<class>/\\*, or PATH/train",
        ),
        (lambda folder: fill(folder, "a", 5), "has only the class folder 'a', and at least two"),
        (
            _only_other_files,
            r"c has no images \(\.jpg, .*\); left out of .*: 1 file of other kinds \(1 \.txt\), 1 hidden file; add some or",
        ),
        (_empty_class_of_test, r"test.b has no images"),
        (_test_only, "has test/ and no train/; expected PATH/<class>"),
        (_two_validations, "has val/ and valid/, and both are for validation; rename or remove one"),
        (_unknown_class, "test has the class 'z', which training lacks; add it there or remove it here"),
        (_no_labels, "train has no class folders"),
        (_empty_test, "test has no class folders; expected"),
        (_too_few, r"fewer than 3 images: a \(2\), b \(2\), c \(2\), d \(2\), e \(2\) and 3 more; add images"),
        (_unprintable, r"unprintable name, 'b\\nc'; rename it"),
        (_broken, r"1 of 7 images in .* cannot be read: b.new.png \(an empty file\)"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, make: object, text: str) -> None:
    make(tmp_path)  # type: ignore[operator]
    with pytest.raises(BadData, match=text):
        imagefolder.read(tmp_path)


def test_a_class_name_that_is_no_unicode_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, ["a", "b\udcff"], 3)  # type: ignore[arg-type]
    with pytest.raises(BadData, match="unprintable name"):
        imagefolder.read(tmp_path)

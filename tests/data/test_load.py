from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wb.core.errors import BadData, BadOption
from wb.data import load
from wb.data.dataset import Split, fingerprint_of


def _folder(home: Path) -> Path:
    for number, name in enumerate("ab"):
        (home / name).mkdir(parents=True)
        for i in range(20):
            Image.fromarray(np.full((6, 6), number * 100 + i, np.uint8)).save(home / name / f"{i:02}.png")
    return home


def test_the_door_gives_the_readers_parts_with_a_name_and_a_fingerprint(tmp_path: Path) -> None:
    spec = f"imagefolder:{_folder(tmp_path / 'shades')}"
    data = load(spec)
    assert (data.name, data.spec, data.classes) == ("shades", spec, ("a", "b"))
    assert [len(split) for split in (data.train, data.validation, data.test)] == [28, 6, 6]
    assert data.fingerprint == fingerprint_of(data.classes, data.train, data.validation, data.test)


def test_what_a_user_should_know_is_in_the_notes_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = _folder(tmp_path / "train").parent
    (home / "test" / "b").mkdir(parents=True)
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(home / "test" / "b" / "x.png")
    (home / "test" / "b" / "notes.doc").write_bytes(b"x")
    data = load(f"imagefolder:{home}")
    assert [note.partition(str(home))[0] for note in data.notes[:2]] == ["left out of ", "the images of "]
    assert data.notes[2:] == (
        "the test split has no images of 1 of 2 classes: a",
        "36 of 36 training images have one colour throughout",
    )
    assert [record.getMessage() for record in caplog.records] == list(data.notes)


def test_empty_pictures_are_no_training_set(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        for i in range(5):
            alpha = np.zeros((6, 6), np.uint8)
            alpha[i, :3] = 255
            ink = Image.merge("LA", (Image.new("L", (6, 6), 0), Image.fromarray(alpha)))
            ink.save(tmp_path / name / f"{i}.png")
    seen = load(f"imagefolder:{tmp_path}")
    assert (seen.train.images.min(), seen.train.images.max()) == (0, 255)
    with pytest.raises(BadData, match=r"all 6 training images of .* are alike.*another --background"):
        load(f"imagefolder,background=black:{tmp_path}")
    grey = load(f"imagefolder,background=#808080:{tmp_path}")
    assert grey.spec == f"imagefolder,background=#808080:{tmp_path}"
    assert grey.fingerprint != seen.fingerprint


def test_two_loads_are_the_same_and_another_content_is_not(tmp_path: Path) -> None:
    spec = f"imagefolder:{_folder(tmp_path / 'shades')}"
    first, second = load(spec), load(spec)
    assert first.fingerprint == second.fingerprint
    assert np.array_equal(first.train.images, second.train.images)
    Image.fromarray(np.full((6, 6), 99, np.uint8)).save(tmp_path / "shades" / "a" / "00.png")
    assert load(spec).fingerprint != first.fingerprint


def test_digits_are_the_same_everywhere() -> None:
    data = load("digits")
    assert (data.name, data.channels, data.height, data.width) == ("digits", 1, 8, 8)
    # Fixed when written: results on the digits are comparable between machines and versions only while it stands.
    assert data.fingerprint == "0dfc9fb8ee9d6621"


def test_limit_keeps_a_stratified_part_of_training_and_validation_and_the_whole_test_split() -> None:
    whole, part = load("digits"), load("digits", limit=200)
    assert len(part.train) == 200
    assert len(part.validation) == round(360 * 200 / 1078)
    assert np.array_equal(part.test.images, whole.test.images)
    counts = np.bincount(part.train.labels)
    assert counts.min() >= 19
    assert counts.max() <= 21
    assert part.fingerprint != whole.fingerprint

    def rows(split: Split) -> set[bytes]:
        return {image.tobytes() for image in split.images}

    assert rows(part.train) < rows(whole.train)
    assert rows(part.validation) < rows(whole.validation)


def test_a_limit_above_the_set_changes_nothing() -> None:
    assert load("digits", limit=5000).fingerprint == load("digits").fingerprint


def test_the_smallest_limit_has_one_image_of_each_class_in_training_and_validation() -> None:
    data = load("digits", limit=10)
    for split in (data.train, data.validation):
        assert sorted(split.labels.tolist()) == list(range(10))


def test_image_size_holds_for_every_form(tmp_path: Path) -> None:
    for spec in ("digits", f"imagefolder:{_folder(tmp_path / 'shades')}"):
        data = load(spec, image_size=12)
        assert {split.images.shape[1:] for split in (data.train, data.validation, data.test)} == {(1, 12, 12)}


@pytest.mark.parametrize(
    ("spec", "options", "text"),
    [
        (
            "mnist",
            {},
            "data 'mnist' is not a form .* expected digits, .*, hf:PLACE, csv:FILES, jsonl:FILES, listops, lm:FILES or lm$",
        ),
        ("", {}, "data '' is not a form that is known"),
        ("digits:here", {}, "come with scikit-learn and have no path; write digits"),
        ("idx", {}, "data 'idx' has no path; write idx:PATH"),
        ("cifar10:", {}, "has no path; write cifar10:PATH"),
        ("digits", {"limit": 9}, "limit=9 is below the 10 classes of digits; choose at least 10"),
        ("digits", {"limit": 0}, "limit=0 keeps no example; choose 1 or more"),
        ("digits", {"image_size": 0}, "image_size=0 is out of range; choose 1 to 4096 pixels"),
        ("digits", {"image_size": 5000}, "image_size=5000 is out of range"),
    ],
)
def test_wrong_use_is_named(spec: str, options: dict[str, int], text: str) -> None:
    with pytest.raises(BadOption, match=text):
        load(spec, image_size=options.get("image_size"), limit=options.get("limit"))


def test_a_bare_folder_gets_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match=f"for a folder of images write imagefolder:{tmp_path}"):
        load(str(tmp_path))


@pytest.mark.parametrize("form", ["imagefolder", "idx", "cifar10"])
def test_a_path_that_is_no_folder_is_named(tmp_path: Path, form: str) -> None:
    with pytest.raises(BadData, match=f"nowhere does not exist; {form} needs the folder"):
        load(f"{form}:{tmp_path / 'nowhere'}")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BadData, match=f"file is a file; {form} needs the folder"):
        load(f"{form}:{tmp_path / 'file'}")


def test_a_home_folder_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _folder(tmp_path / "shades")
    assert load("imagefolder:~/shades").name == "shades"


def test_a_folder_that_cannot_be_read_is_an_error_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(BadData, match=f"{tmp_path} cannot be read: Permission denied; check the disk"):
        load(f"imagefolder:{tmp_path}")


def test_importing_the_door_imports_neither_torch_nor_scikit_learn() -> None:
    code = "import sys, wb.data; print([name for name in ('torch', 'sklearn') if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def _reference(folder: str) -> str:
    root = os.environ.get("WB_REFERENCE")
    if not root or not (Path(root) / "data" / folder).is_dir():
        pytest.skip("WB_REFERENCE names no folder with data/" + folder)
    return str(Path(root) / "data" / folder)


@pytest.mark.reference
def test_fashion_mnist_has_its_published_sizes_and_statistics() -> None:
    data = load(f"idx:{_reference('fashion-mnist')}")
    assert (len(data.train), len(data.validation), len(data.test)) == (55000, 5000, 10000)
    assert (data.channels, data.height, data.width, len(data.classes)) == (1, 28, 28, 10)
    assert set(np.bincount(data.validation.labels).tolist()) == {500}
    assert set(np.bincount(data.test.labels).tolist()) == {1000}
    # 0.2860 and 0.3530 are published for all 60,000 training images.
    assert data.mean == pytest.approx([0.2860], abs=5e-4)
    assert data.std == pytest.approx([0.3530], abs=5e-4)


@pytest.mark.reference
def test_sign_digits_have_their_published_sizes() -> None:
    data = load(f"imagefolder:{_reference('sign-digits')}")
    assert (len(data.train) + len(data.validation), len(data.test)) == (1643, 416)
    assert (data.channels, data.height, data.width) == (3, 64, 64)
    assert data.classes == tuple("0123456789")


@pytest.mark.reference
def test_half_of_mnist_is_split_like_a_whole_set() -> None:
    data = load(f"idx:{_reference('mnist')}")
    assert len(data.train) + len(data.validation) + len(data.test) == 10_000
    assert "t10k-images-idx3-ubyte.gz alone, which is split" in data.notes[0]

"""`wb data`: the same numbers as a table, as JSON and as a page, of every kind of source."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.commands import succeeded, wb
from wb.data import load
from wb.data.summary import Summary, summarize


def test_digits_are_told_as_table_json_and_page(tmp_path: Path) -> None:
    page = tmp_path / "digits.html"
    table = succeeded("data", "digits", "-o", page)
    assert "1,078" in table.stdout
    assert "No image comes twice" in table.stdout
    assert table.stdout.splitlines()[-1] == f"wrote {page}"
    told = json.loads(succeeded("data", "digits", "--json").stdout)
    assert told.pop("out") is None
    assert Summary.model_validate(told) == summarize(load("digits"))


def test_an_archive_and_a_folder_of_the_same_images_have_the_same_summary(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6), dtype=np.uint8)
    labels = np.repeat([0, 1], 20)
    split = np.where(np.arange(40) % 4 < 2, "train", "test")
    np.savez(tmp_path / "a.npz", x=images, y=labels, split=split, classes=np.array(["a", "b"]))
    for i, (image, label, part) in enumerate(zip(images, labels, split, strict=True)):
        home = tmp_path / "a" / part / "ab"[label]
        home.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(home / f"{i:02}.png")
    one, other = (
        json.loads(succeeded("data", source, "--json").stdout)
        for source in (f"npz:{tmp_path / 'a.npz'}", f"imagefolder:{tmp_path / 'a'}")
    )
    assert one["fingerprint"] == other["fingerprint"]
    assert [[part["counts"], part["mean"]] for part in one["splits"]] == [
        [part["counts"], part["mean"]] for part in other["splits"]
    ]


def test_what_is_wrong_is_said_before_anything_is_read(tmp_path: Path) -> None:
    for arguments, text in (
        (["digits", "-o", tmp_path / "a.pdf"], "end it in .html or .png"),
        (["nowhere"], "is not a form that is known"),
        ([tmp_path], f"for a folder of images write imagefolder:{tmp_path}"),
        (["archive.npz"], "for an archive of arrays write npz:archive.npz"),
        (["idx,label=x:a"], "'label=x' is no option of 'idx'"),
    ):
        found = wb("data", *arguments)
        assert found.exit_code == 2
        assert text in " ".join(found.stderr.split())

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


def test_texts_that_are_too_long_are_shown_and_told_and_only_training_refuses_them(tmp_path: Path) -> None:
    rows = [f"{'late ' * (600 if i == 7 else 3 + i % 2)},{'ab'[i % 2]}" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    (tmp_path / "b.csv").write_text("text,label\nlate,a\nhere,b\n")
    source = f"csv,tokenizer=words:{tmp_path / 'a.csv'},{tmp_path / 'a.csv'},{tmp_path / 'b.csv'}"
    told, cut = (json.loads(succeeded("data", source, *how, "--json").stdout) for how in ((), ("--truncate",)))
    assert [(one["low"], one["high"]) for one in told["splits"]] == [(3, 600), (3, 600), (1, 1)]
    assert cut["splits"] == told["splits"]
    which = (
        "1 of 40 texts for train and 1 of 40 texts for validation are longer than the 512 tokens that the network reads"
    )
    assert told["notes"] == [
        f"{which}, the longest has 600; commands that train refuse them: give --truncate to read the beginning of each "
        "alone, or choose a longer length with csv,length=600:FILES"
    ]
    assert len(cut["notes"]) == 2
    assert which in " ".join(wb("train", "--data", source, "-o", tmp_path / "t.pt").stderr.split())
    succeeded("data", source, "-o", tmp_path / "a.html")
    assert which in (tmp_path / "a.html").read_text()


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

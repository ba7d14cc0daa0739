"""Which data a model knows, and what of its history is given away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wb.core.measures.readings import Reading
from wb.models.files.history import Known, data_of, nameless, public
from wb.models.model import Step


def step(name: str = "train", **arguments: object) -> Step:
    return Step.model_validate({"name": name, "arguments": arguments})


def test_the_last_data_that_are_named_count() -> None:
    assert data_of(()) is None
    assert data_of([step(epochs=3), step("low bits", precision="w1")]) is None
    old = step(data="imagefolder:/p")
    new = step(data="imagefolder:/q", fingerprint="f", image_size=32, limit=100)
    assert data_of([old]) == Known("imagefolder:/p")
    assert data_of([old, new, step("low bits")]) == Known("imagefolder:/q", "f", 32, 100)
    assert data_of([new, old]) == Known("imagefolder:/p")
    same = step("drop", data="imagefolder:/q")  # written before fingerprints were
    assert data_of([new, same]) == Known("imagefolder:/q", "f", 32, 100)
    assert data_of([step(data="idx:/q", image_size=True, limit=-3, fingerprint=4)]) == Known("idx:/q")
    assert data_of([step(data=["digits"]), step(data="")]) is None


def test_whether_they_are_there(tmp_path: Path) -> None:
    assert Known("digits").there
    assert Known(f"imagefolder:{tmp_path}").there
    (tmp_path / "a.npz").touch()
    for there in (f"npz:{tmp_path}/a.npz", f"hf:{tmp_path}", f"hf,label=y:{tmp_path}", "hf:someone/shades"):
        assert Known(there).there
    for gone in (f"npz:{tmp_path}", f"npz:{tmp_path}/b.npz", f"hf:{tmp_path}/x"):
        assert not Known(gone).there
    for gone in (f"imagefolder:{tmp_path}/x", "stripes", "idx:", "idx:~nosuchuser/x", "idx:a\0b", "idx:" + "a" * 5000):
        assert not Known(gone).there


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("imagefolder:/home/ann/my photos", "imagefolder:my photos"),
        ("imagefolder:/home/ann/photos/", "imagefolder:photos"),
        ("idx:../ann/mnist", "idx:mnist"),
        ("training images of cifar10:/home/ann/c", "training images of cifar10:c"),
        ("/home/ann/calibration.npy", "calibration.npy"),
        ("~/calibration.npy", "calibration.npy"),
        ("read from (/home/ann/x", "read from (x"),
        (r"C:\Users\Ann\x.npy", "x.npy"),
        (r"imagefolder:D:\ann\photos", "imagefolder:photos"),
        ("npz:/home/ann/a.npz", "npz:a.npz"),
        ("hf:someone/shades", "hf:someone/shades"),
        ("hf,label=y:/home/ann/shades", "hf,label=y:shades"),
        ("hf:../ann/shades", "hf:shades"),
        ("digits", "digits"),
        ("int8/int8 · w1", "int8/int8 · w1"),
        ("macs <= 0.5x", "macs <= 0.5x"),
        ("a / b", "a / b"),
        ("imagefolder:/", "imagefolder:data"),
    ],
)
def test_places_are_cut_to_their_names(text: str, kept: str) -> None:
    assert nameless({"x": [text, 3, None, {"y": text}]}) == {"x": [kept, 3, None, {"y": kept}]}


def test_an_exported_history_keeps_names_and_fingerprints_but_no_place_and_no_reading() -> None:
    reading = Reading(value=1, unit="fraction", how="measured")
    steps = [
        step(data="imagefolder:/home/ann/photos", fingerprint="f").model_copy(update={"readings": {"acc": reading}}),
        step("quantize", calibration={"from": "/home/ann/c.npy", "inputs": 3}),
    ]
    found = public(steps)
    assert "ann" not in json.dumps(found)
    assert found[0]["arguments"] == {"data": "imagefolder:photos", "fingerprint": "f"}
    assert "readings" not in found[0]
    assert steps[0].arguments["data"] == "imagefolder:/home/ann/photos"

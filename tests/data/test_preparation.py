"""What becomes of images before a foreign graph sees them: the formulas of the libraries whose files are read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wb.core.errors import BadArtefact, BadOption
from wb.data import Dataset
from wb.data.batches import batches
from wb.data.preparation import Preparation, described, read_preprocessor, read_stored
from wb.data.split import Images

PIXELS = np.random.default_rng(0).random((5, 3, 4, 6), dtype=np.float32)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def each(values: list[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values).reshape(1, 3, 1, 1)


IMAGENET = (PIXELS - each(MEAN)) / each(STD)
FILES: dict[str, tuple[dict[str, Any], Any]] = {
    "transformers": ({"image_mean": MEAN, "image_std": STD, "do_normalize": True, "size": 224}, IMAGENET),
    "rescaled": (
        {"image_mean": MEAN, "image_std": STD, "do_rescale": True, "rescale_factor": 0.00392156862745098},
        IMAGENET,
    ),
    "one number": ({"image_mean": 0.5, "image_std": 0.5}, (PIXELS - 0.5) / 0.5),
    "not normalised": ({"image_mean": MEAN, "image_std": STD, "do_normalize": False}, PIXELS),
    "not rescaled": ({"do_rescale": False, "do_normalize": False}, 255 * PIXELS),
    "efficientnet": (
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": MEAN, "image_std": STD},
        (2 * PIXELS - 1 - each(MEAN)) / each(STD),
    ),
    "mobilevit": ({"do_flip_channel_order": True, "do_rescale": True}, PIXELS[:, ::-1]),
    "processor": ({"image_processor": {"image_mean": MEAN, "image_std": STD}}, IMAGENET),
    "timm": ({"architecture": "x", "pretrained_cfg": {"mean": MEAN, "std": STD, "crop_pct": 0.9}}, IMAGENET),
    "timm, flat": ({"mean": MEAN, "std": STD, "input_size": [3, 224, 224]}, IMAGENET),
}


@pytest.mark.parametrize("name", FILES)
def test_files_are_followed(name: str, tmp_path: Path) -> None:
    content, wanted = FILES[name]
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = read_preprocessor(path)
    given = found(PIXELS)
    np.testing.assert_allclose(given, wanted, atol=1e-4)
    assert given.dtype == np.float32
    assert read_stored(found.model_dump_json(), path) == found


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[1, 2]",
        b'{"image_mean": "grey"}',
        b'{"image_std": [0.0]}',
        b'{"image_std": [NaN]}',
        b'{"image_mean": []}',
        b'{"rescale_factor": -1}',
        b'{"model_type": "vit"}',
        b"[" * 200_000,
        b'{"mean": 0.5}' + b" " * (1 << 20),
        b"\xff\xfe",
    ],
)
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(BadArtefact, match=r"p\.json.*expected a preprocessor_config\.json"):
        read_preprocessor(path)
    with pytest.raises(BadArtefact, match="is a folder"):
        read_preprocessor(tmp_path)


def dataset() -> Dataset:
    images, labels = (255 * PIXELS).astype(np.uint8), np.array([0, 1, 0, 1, 0])
    split = Images(images, labels)
    return Dataset("x", "x", split, split, split, ("a", "b"), "0")


def test_whatever_shows_images_shows_them_prepared() -> None:
    plain, preparation = dataset(), Preparation(mean=(0.1, 0.2, 0.3), std=(0.5,), scale=2.0)
    prepared = plain.prepared(preparation)
    wanted = (2 * plain.test.pixels() - each([0.1, 0.2, 0.3])) / 0.5
    for split in (prepared.train, prepared.validation, prepared.test):
        np.testing.assert_allclose(split.pixels(), wanted, atol=1e-5)
        np.testing.assert_allclose(split.take(np.array([3, 1])).pixels(), wanted[[3, 1]], atol=1e-5)
        shown = torch.cat([images for images, _ in batches(split, 2, shuffle=False)])
        np.testing.assert_allclose(shown, wanted, atol=1e-5)
    assert prepared.fingerprint == plain.fingerprint
    assert plain.prepared(None) is plain


@pytest.mark.parametrize("preparation", [Preparation(mean=(0.1, 0.2)), Preparation(std=(1.0, 2.0))])
def test_numbers_fit_the_channels(preparation: Preparation) -> None:
    with pytest.raises(BadOption, match=r"2 numbers of (mean|std) for images of 3 channels; give one, or one for each"):
        dataset().prepared(preparation)
    with pytest.raises(BadOption, match="one of three channels"):
        Preparation(order="bgr").check(1)


def test_how_images_were_shown_is_said() -> None:
    assert described(None).startswith("images in [0, 1], no mean and std; say --mean, --std, --scale")
    assert described(Preparation()) == "images in [0, 1], no mean and std"
    given = Preparation(scale=255, mean=(123.5, 116.0, 104.0), order="bgr")
    assert (
        given.text() == "images in [0, 255], channels blue, green, red, less the mean 123.5, 116, 104, over the std 1"
    )

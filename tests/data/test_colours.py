"""Images in colour as grey ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wb.data import colours, load
from wb.data.split import Images


@pytest.mark.parametrize("count", [1, 5])
def test_they_become_what_pillow_makes_of_them(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colours, "_CHUNK", 2)
    images = np.random.default_rng(count).integers(0, 256, (count, 3, 40, 30), dtype=np.uint8)
    found = colours.greyed(Images(images, np.arange(count)))
    expected = [np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L")) for image in images]
    assert np.array_equal(found.images, np.stack(expected)[:, None])
    assert colours.greyed(found) is found


def test_data_that_ask_for_grey_are_it(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=random.integers(0, 256, (30, 6, 6, 3), dtype=np.uint8), y=np.arange(30) % 3)
    colour, grey = (load(f"npz{option}:{tmp_path / 'd.npz'}") for option in ("", ",colours=grey"))
    assert (colour.channels, grey.channels) == (3, 1)
    assert np.array_equal(grey.test.images, colours.greyed(colour.test).images)
    assert grey.fingerprint != colour.fingerprint

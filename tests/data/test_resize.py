from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from wb.core.errors import BadData
from wb.data.dataset import Split
from wb.data.resize import fit, planes, resized
from wb.data.split import Images


def _split(images: np.ndarray) -> Split:
    return Images(images, np.arange(len(images), dtype=np.int64))


def test_an_image_of_the_right_size_is_untouched() -> None:
    array = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    assert np.array_equal(planes(fit(Image.fromarray(array), 4, 6)), array.transpose(2, 0, 1))
    split = _split(np.zeros((2, 1, 5, 5), np.uint8))
    assert resized(split, 5, "toy") is split


def test_the_longer_side_is_cut_evenly() -> None:
    array = np.zeros((4, 8), np.uint8)
    array[:, 2:6] = 200  # the centre that a square keeps
    assert (planes(fit(Image.fromarray(array), 4, 4)) == 200).all()


def test_scaling_down_is_antialiased() -> None:
    board = np.indices((32, 32)).sum(axis=0) % 2 * 255
    small = planes(fit(Image.fromarray(board.astype(np.uint8)), 8, 8))[0, 2:6, 2:6].astype(int)
    assert np.abs(small - 127).max() < 10  # picking single pixels would give 0 or 255


@pytest.mark.parametrize("channels", [1, 3])
def test_resized_keeps_each_channel_and_label(channels: int) -> None:
    levels = np.arange(4 * channels, dtype=np.uint8).reshape(4, channels, 1, 1) * 20
    result = resized(_split(np.broadcast_to(levels, (4, channels, 6, 6)).copy()), 3, "toy")
    assert np.array_equal(result.images, np.broadcast_to(levels, (4, channels, 3, 3)))
    assert result.labels.tolist() == [0, 1, 2, 3]


def test_resized_does_not_turn_or_mirror() -> None:
    image = np.zeros((1, 3, 8, 16), np.uint8)
    image[0, 0, :4] = 200  # red above, green on the right of the square in the middle
    image[0, 1, :, 8:] = 200
    result = resized(_split(image), 4, "toy").images[0].astype(int)
    assert (result[0, 0] > 180).all()
    assert (result[0, 3] < 20).all()
    assert (result[1, :, 3] > 180).all()
    assert (result[1, :, 0] < 20).all()
    assert (result[2] == 0).all()


def test_a_size_that_does_not_fit_into_memory_is_refused() -> None:
    few = np.broadcast_to(np.uint8(0), (300, 1, 8, 8))
    with pytest.raises(BadData, match=r"toy: 300 images of 4096x4096 .* smaller image size"):
        resized(_split(few), 4096, "toy")

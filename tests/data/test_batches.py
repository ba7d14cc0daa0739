from __future__ import annotations

import numpy as np
import pytest
import torch

from wb.core.errors import BadOption
from wb.data.batches import batches, shift
from wb.data.dataset import Split
from wb.data.split import Images


@pytest.fixture
def split() -> Split:
    images = np.random.default_rng(0).integers(0, 256, (11, 3, 4, 5), dtype=np.uint8)
    return Images(images, np.arange(11, dtype=np.int64))


def test_in_order_the_batches_are_the_split(split: Split) -> None:
    pairs = list(batches(split, 4, shuffle=False))
    assert [len(labels) for _, labels in pairs] == [4, 4, 3]
    images = torch.cat([images for images, _ in pairs])
    labels = torch.cat([labels for _, labels in pairs])
    assert images.dtype == torch.float32
    assert np.array_equal(images.numpy(), split.pixels())
    assert np.array_equal(labels.numpy(), split.labels)


def test_shuffled_every_image_comes_once_with_its_label(split: Split) -> None:
    pairs = list(batches(split, 4, shuffle=True, generator=torch.Generator().manual_seed(0)))
    labels = torch.cat([labels for _, labels in pairs])
    assert labels.tolist() != list(range(11))
    assert sorted(labels.tolist()) == list(range(11))
    assert np.array_equal(torch.cat([images for images, _ in pairs]).numpy(), split.pixels(labels.numpy()))


def test_the_order_follows_the_generator(split: Split) -> None:
    def order(seed: int) -> list[int]:
        generator = torch.Generator().manual_seed(seed)
        return torch.cat([labels for _, labels in batches(split, 3, shuffle=True, generator=generator)]).tolist()

    assert order(1) == order(1)
    assert order(1) != order(2)


def test_changing_a_batch_leaves_the_split_alone(split: Split) -> None:
    before = split.images.copy(), split.labels.copy()
    for images, labels in batches(split, 4, shuffle=False):
        images.zero_()
        labels.zero_()
    assert np.array_equal(split.images, before[0])
    assert np.array_equal(split.labels, before[1])


def test_an_empty_batch_is_refused_at_the_call(split: Split) -> None:
    with pytest.raises(BadOption, match="a batch of 0 images is empty; choose a batch size of 1 or more"):
        batches(split, 0, shuffle=False)


def _moved(images: torch.Tensor, down: int, right: int) -> torch.Tensor:
    """The move pixel by pixel."""
    height, width = images.shape[-2:]
    result = torch.zeros_like(images)
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                result[..., row, column] = images[..., row - down, column - right]
    return result


def test_shift_moves_by_every_offset_in_reach_and_by_no_other() -> None:
    images = torch.rand(2, 1, 5, 6, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = {(down, right): _moved(images, down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}
    generator = torch.Generator().manual_seed(1)
    seen: list[tuple[int, int]] = []
    for _ in range(400):
        shifted = shift(images, generator)
        seen += [offset for offset, picture in expected.items() if torch.equal(picture, shifted)]
    assert len(seen) == 400
    assert set(seen) == set(expected)
    # One half by choice, and one ninth of the other half because the move is (0, 0): 222 of 400, give or take 4 sigma.
    assert 180 < seen.count((0, 0)) < 264


@pytest.mark.parametrize(
    ("side", "pixels", "reach"), [(8, None, 1), (28, None, 1), (64, None, 3), (8, 2, 2), (8, 0, 0)]
)
def test_shift_reaches_4_percent_of_the_side_or_what_is_asked(side: int, pixels: int | None, reach: int) -> None:
    image = torch.zeros(1, 1, side, side)
    image[..., side // 2, side // 2] = 1
    generator = torch.Generator().manual_seed(0)
    rows = [int(shift(image, generator, pixels).nonzero()[0, 2]) - side // 2 for _ in range(200)]
    assert (min(rows), max(rows)) == (-reach, reach)


def test_shift_never_pushes_the_image_out() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.ones(1, 1, 2, 3)
    assert all(shift(image, generator, 9).sum() > 0 for _ in range(50))
    assert all(torch.equal(shift(image[..., :1, :1], generator), image[..., :1, :1]) for _ in range(20))


def test_shift_refuses_a_negative_reach() -> None:
    with pytest.raises(BadOption, match="a shift of -1 pixels is impossible; choose 0 or more"):
        shift(torch.zeros(1, 1, 4, 4), pixels=-1)

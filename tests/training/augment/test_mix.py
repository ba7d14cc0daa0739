"""Mixed images: the shares are those of the pixels, and the loss is that of soft labels."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from wb.tasks.classes import CLASSES
from wb.training.augment.mix import cutmix, mixup
from wb.training.fit import Batch

COUNT = 6
LABELS = torch.arange(COUNT)
IMAGES = LABELS.float().view(-1, 1, 1, 1).expand(COUNT, 2, 8, 5).contiguous()  # each image is its label throughout


@pytest.mark.parametrize("seed", range(20))
def test_the_share_of_a_cut_is_that_of_its_pixels(seed: int) -> None:
    found, mixed = cutmix(IMAGES, LABELS, torch.Generator().manual_seed(seed))
    for image, label, other in zip(found, LABELS, mixed.labels, strict=True):
        own, there = image == label, image == other
        assert (own | there).all()
        if label != other:
            assert own.float().mean().item() == pytest.approx(mixed.share)
    assert torch.equal(mixed.labels.sort().values, LABELS)


@pytest.mark.parametrize("seed", range(5))
def test_mixup_is_the_average_by_its_share(seed: int) -> None:
    found, mixed = mixup(IMAGES, LABELS, torch.Generator().manual_seed(seed))
    expected = mixed.share * LABELS + (1 - mixed.share) * mixed.labels
    torch.testing.assert_close(found, expected.view(-1, 1, 1, 1).expand_as(found))


def test_the_loss_of_mixed_images_is_that_of_soft_labels() -> None:
    _, mixed = cutmix(IMAGES, LABELS, torch.Generator().manual_seed(3))
    outputs = torch.randn(COUNT, COUNT, generator=torch.Generator().manual_seed(0))
    soft = mixed.share * F.one_hot(LABELS) + (1 - mixed.share) * F.one_hot(mixed.labels)
    found = Batch(IMAGES, LABELS, 0, 1, mixed).loss(outputs, CLASSES, 0.1)
    torch.testing.assert_close(found, F.cross_entropy(outputs, soft, label_smoothing=0.1))
    plain = Batch(IMAGES, LABELS, 0, 1).loss(outputs, CLASSES, 0.1)
    torch.testing.assert_close(plain, F.cross_entropy(outputs, LABELS, label_smoothing=0.1))

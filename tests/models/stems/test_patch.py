"""Patches of an image, also those that overlap, against sums by hand."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

from tests.networks import of_channels
from wb.core.layout import Layout
from wb.core.records import ImageInput, PatchStem
from wb.models.stems.patch import PatchStem as PatchStemModule

IMAGE = ImageInput(channels=2, height=8, width=12, mean=(0.0, 0.0), std=(1.0, 1.0))


@pytest.mark.parametrize(("kernel", "padding"), [(7, 2), (7, 3), (5, 1), (4, 0)])
def test_a_token_sees_its_kernel_and_zeros_around_the_image(kernel: int, padding: int) -> None:
    record = PatchStem(patch=4, kernel=kernel, padding=padding)
    stem = PatchStemModule(record, of_channels(2), 3)
    generator = torch.Generator().manual_seed(0)
    for weight in stem.parameters():
        weight.data.normal_(generator=generator)
    image = torch.randn((1, 2, 8, 12), generator=generator)
    wide = torch.zeros(1, 2, 24, 28)
    wide[..., 8:16, 8:20] = image
    tokens = stem(image)
    assert record.layout(IMAGE) == Layout((2, 3)) == Layout(tuple(tokens.shape[2:]))
    for row in range(2):
        for column in range(3):
            y, x = 8 + 4 * row - padding, 8 + 4 * column - padding
            seen = (stem.patches * wide[:, :, y : y + kernel, x : x + kernel]).sum(dim=(1, 2, 3)) + stem.patches_bias
            torch.testing.assert_close(tokens[0, :, row, column], seen)
    assert stem.describe() == record


@pytest.mark.parametrize(
    "fields", [{"kernel": 7}, {"kernel": 7, "padding": 4}, {"padding": 2}, {"kernel": 4, "columns": 4}]
)
def test_there_is_one_token_for_each_patch(fields: dict[str, int]) -> None:
    with pytest.raises(ValidationError, match=r"one token for each patch|do not overlap"):
        PatchStem.model_validate({"patch": 4, **fields})


def test_zeros_around_the_image_take_over_a_factor_but_no_shift() -> None:
    stem = PatchStemModule(PatchStem(patch=4, kernel=7, padding=3), of_channels(2), 3)
    weights = {name: torch.ones_like(weight) for name, weight in stem.named_parameters()}
    scale, zero = torch.tensor([2.0, 3.0]).double(), torch.zeros(2).double()
    assert stem.absorbed(weights, scale, zero + 1) is None
    found = stem.absorbed(weights, scale, zero)
    assert found is not None
    torch.testing.assert_close(found["patches"][0, :, 0, 0], scale.float())

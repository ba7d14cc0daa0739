"""Examples that are made up have the names and shapes of what a network takes."""

from __future__ import annotations

import torch

from wb.core.records import ImageInput
from wb.data import Dataset
from wb.models.feeds import made_up, shapes_only


def test_what_is_made_up_is_what_a_split_would_feed(stripes: Dataset, image: ImageInput) -> None:
    assert stripes.specs() == image.specs()
    fed = stripes.train.feed(slice(0, 4))
    for made in (made_up(image.specs(), 4), shapes_only(image.specs(), 4)):
        assert {n: tuple(v.shape) for n, v in made.items()} == {n: v.shape for n, v in fed.items()}


def test_a_seed_is_all_that_decides(image: ImageInput) -> None:
    one, again, other = (made_up(image.specs(), 3, seed)["pixel_values"] for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert 0 <= float(one.min()) < float(one.max()) < 1

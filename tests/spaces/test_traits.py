"""What predictors are told of a candidate agrees with what is counted of its network."""

from __future__ import annotations

import random

import numpy as np

from wb.core.architecture import ImageInput
from wb.core.precision import BITS, precisions
from wb.core.space import Informed, random_choices
from wb.models.counting import count_macs
from wb.models.network import build, groups_of
from wb.predictors.features import Encoder
from wb.spaces.presets import TINY
from wb.spaces.traits import traits
from wb.spaces.vit import Vit, options_with


def test_bytes_and_work_are_those_of_the_groups(image: ImageInput) -> None:
    vit, rng = Vit(options_with(TINY, {"precision": ["int8", "fp32"]}), image, 3), random.Random(0)
    for _ in range(30):
        a = vit.decode(random_choices(vit, rng))
        network = build(a, "meta")
        weights = {
            group: sum(network.get_parameter(name).numel() for name in names)
            for group, names in groups_of(network).items()
            if group != "stem"
        }
        kept = precisions(a)
        size, macs, log_size, log_macs, low = traits(a)
        assert size == sum(count * BITS[kept[group]] for group, count in weights.items()) / 8
        assert macs == (sum(weights.values()) - weights["head"]) * 16 + weights["head"]
        assert (log_size, log_macs) == (np.log1p(size), np.log1p(macs))
        assert low == sum(precision != "fp32" for group, precision in kept.items() if group != "stem")
        assert macs <= count_macs(a).value


def test_they_are_the_last_features(image: ImageInput) -> None:
    vit, rng = Vit(TINY, image, 3), random.Random(0)
    assert isinstance(vit, Informed)
    some = [random_choices(vit, rng) for _ in range(20)]
    encoder = Encoder(vit)
    features = encoder.features(encoder.indices(some))
    assert features.shape[1] == len(encoder.emphasis)
    assert np.array_equal(features[:, -5:], [vit.traits(choices) for choices in some])

"""What predictors are told of a candidate agrees with what is counted of its network."""

from __future__ import annotations

import random
from dataclasses import fields

import numpy as np
import pytest

from wb.core.precision import BITS, precisions
from wb.core.records import FFNS, MIXERS, ImageInput, kind_of
from wb.core.records.ffns import Tables
from wb.core.space import Choices, Informed, random_choices
from wb.models.counting import count_macs, operations
from wb.models.groups import groups_of
from wb.models.layers.operator import OperatorModule
from wb.models.network import build
from wb.predictors.features import Encoder
from wb.spaces.columnar.options import options_with
from wb.spaces.columnar.presets import TINY
from wb.spaces.columnar.space import Vit
from wb.spaces.traits import Traits, traits

KINDS = tuple(map(kind_of, (*MIXERS, *FFNS)))


def some(vit: Vit, count: int) -> list[Choices]:
    rng = random.Random(0)
    return [random_choices(vit, rng) for _ in range(count)]


def named(values: tuple[float, ...]) -> Traits:
    return Traits(*values[: len(fields(Traits))])


def test_bytes_and_work_are_those_of_the_groups(image: ImageInput) -> None:
    vit = Vit(options_with(TINY, {"precision": ["int8", "fp32"]}), image, 3)
    for choices in some(vit, 30):
        a = vit.decode(choices)
        network, kept, found = build(a, "meta"), precisions(a), named(traits(a, KINDS))
        operators = [module for module in network.modules() if isinstance(module, OperatorModule)]
        held = sum(t.numel() for module in operators for t in (*module.parameters(), *module.buffers()))
        bits = 32 * (held + a.stages[0].embed * 3)
        work = {"fp32": 0, "int8": 0}
        for group, names in groups_of(network).items():
            if group != "stem":
                weights = sum(network.get_parameter(name).numel() for name in names)
                bits -= int((32 - BITS[kept[group]]) * weights)
                work[kept[group]] += weights * (1 if group == "head" else 16)
        assert found.size == bits / 8
        assert found.parameters == held + a.stages[0].embed * 3
        assert (found.floating, found.quantized) == (work["fp32"], work["int8"])
        assert found.low + found.stem == sum(precision != "fp32" for precision in kept.values())


def test_work_and_parts_are_all_there(image: ImageInput) -> None:
    for pool in ("mean", "cls"):
        vit = Vit(options_with(TINY, {"pool": pool, "mixer": ["none", "lmu", "cosformer", "softmax"]}), image, 3)
        for choices in some(vit, 20):
            a = vit.decode(choices)
            found, told = named(traits(a, KINDS)), traits(a, KINDS)
            stem = operations(a)["stem"].macs
            assert found.floating + found.products == pytest.approx(count_macs(a).value - stem)
            blocks = [block for _, _, block in a.blocks() if not block.off]
            assert (found.blocks, found.stream) == (len(blocks), len(blocks) * a.stages[0].embed)
            assert sum(told[-3 - len(KINDS) : -3]) == sum(len(list(block.parts())) for block in blocks)
            assert told[-3:-1] == (np.log1p(found.size), np.log1p(found.floating + found.products))
            assert told[-1] == pytest.approx(np.log1p(found.parameters))


def test_writers_that_no_group_has_are_counted_too(image: ImageInput) -> None:
    """Rows of tables, which stay in floating point whatever else is rounded."""
    changes = {"mixer": ["none"], "ffn": ["hash_tables"], "mlp": [2], "precision": ["int8"]}
    vit = Vit(options_with(TINY, changes), image, 3)
    for choices in some(vit, 3):
        a = vit.decode(choices)
        found, blocks = named(traits(a, KINDS)), sum(block.ffn is not None for _, _, block in a.blocks())
        rows = round(Tables.share * 2 * a.stages[0].embed) * a.stages[0].embed * 2**4
        assert blocks * rows < found.parameters < 2 * blocks * rows
        assert found.size > 4 * blocks * rows
        work = found.floating + found.quantized + found.products
        assert work == pytest.approx(count_macs(a).value - operations(a)["stem"].macs)


def test_they_are_the_last_features(image: ImageInput) -> None:
    vit = Vit(TINY, image, 3)
    assert isinstance(vit, Informed)
    candidates = some(vit, 20)
    encoder = Encoder(vit)
    features = encoder.features(encoder.indices(candidates))
    assert features.shape[1] == len(encoder.layout.emphasis)
    told = encoder.layout.traits
    assert np.array_equal(features[:, -told:], [vit.traits(choices) for choices in candidates])

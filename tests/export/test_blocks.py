from __future__ import annotations

from pathlib import Path

import pytest

from wb.core.architecture import Architecture, Block, ImageInput, Stage
from wb.core.records import Lmu, Mlp, PatchStem, Pool, Softmax
from wb.export.blocks import estimate, parts
from wb.export.table import LatencyTable
from wb.hardware.device import Device

SOFTMAX = Block(mixer=Softmax(heads=1, qk=4, v=4), ffn=Mlp(mlp=8))
POOL = Block(mixer=Pool())


def architecture(image: ImageInput, *blocks: Block, classes: int = 3) -> Architecture:
    return Architecture(input=image, stem=PatchStem(patch=2), stages=(Stage(embed=8, blocks=blocks),), classes=classes)


def keys(a: Architecture) -> list[str]:
    return [part.key for part in parts(a)]


def test_equal_blocks_have_equal_keys_and_switched_off_ones_none(image: ImageInput) -> None:
    a = keys(architecture(image, SOFTMAX, POOL, Block(), SOFTMAX))
    assert len(a) == 4
    assert a[1] == a[3] != a[2]
    assert keys(architecture(image, POOL))[1] == a[2]


def test_the_key_of_the_ends_ignores_what_does_not_change_the_graph(image: ImageInput) -> None:
    other = image.model_copy(update={"mean": (0.1,)})
    assert keys(architecture(image, POOL)) == keys(architecture(other, POOL))
    assert keys(architecture(image, POOL))[0] != keys(architecture(image, POOL, classes=4))[0]


def test_every_part_runs(image: ImageInput) -> None:
    a = architecture(image, SOFTMAX, POOL, Block(mixer=Lmu(memory=4, hidden=5)))
    stage_two = a.model_copy(update={"stages": (*a.stages, Stage(embed=12, blocks=(SOFTMAX,)))})
    shapes = []
    for part in parts(stage_two):
        module, example = part.make()
        shapes.append(tuple(module(example).shape))
    assert shapes == [(2, 3), *[(2, 16, 8)] * 3, (2, 4, 12)]


def test_each_distinct_block_is_timed_once(image: ImageInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = LatencyTable(Device(), tmp_path)
    first = estimate(architecture(image, SOFTMAX, SOFTMAX), table)
    assert first.how == "predicted"
    assert first.unit == "ms"
    assert first.value > 0
    monkeypatch.setattr(LatencyTable, "time", lambda *_: pytest.fail("nothing is missing"))
    again = LatencyTable(Device(), tmp_path)
    assert estimate(architecture(image, SOFTMAX, SOFTMAX), again) == first
    assert (
        estimate(architecture(image, SOFTMAX), again).value
        < first.value
        < estimate(architecture(image, *[SOFTMAX] * 3), again).value
    )

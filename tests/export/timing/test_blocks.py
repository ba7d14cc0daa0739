from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from tests.networks import Form, assembled
from wb.core.architecture import Architecture, Block, Stage
from wb.core.precision import allowed, precisions, with_precisions
from wb.core.records import Conv2x2, ImageInput, Lmu, Mlp, PatchStem, Pool, Precision, Softmax
from wb.export.timing.blocks import TOGETHER, estimate, parts, time_parts
from wb.export.timing.table import Entry, LatencyTable
from wb.hardware.device import Device
from wb.models.layers.operator import OperatorModule

SOFTMAX = Block(mixer=Softmax(heads=1, qk=4, v=4), ffn=Mlp(mlp=8))
POOL = Block(mixer=Pool())
FORMS: tuple[Form, ...] = ("pre", "post")


def architecture(image: ImageInput, *blocks: Block, classes: int = 3, norm: Form = "pre") -> Architecture:
    stages = (Stage(embed=8, blocks=blocks),)
    return assembled(input=image, stem=PatchStem(patch=2), stages=stages, classes=classes, norm=norm)


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


def test_post_norm_parts_are_parts_of_their_own(image: ImageInput) -> None:
    pre, post = (architecture(image, SOFTMAX, norm=norm) for norm in FORMS)
    assert not set(keys(pre)) & set(keys(post))
    ends, block = (part.make()[:2] for part in parts(post))
    assert "norm.gain" not in dict(ends[0].named_parameters())
    module, x = block[0], block[1]["x"]
    inner: Any = module.get_submodule("block")
    h = inner.norm1(x + inner.mixer(x))
    torch.testing.assert_close(module(x), inner.norm2(h + inner.ffn(h)))


@pytest.mark.parametrize("norm", FORMS)
def test_every_part_runs(image: ImageInput, norm: Form) -> None:
    a = architecture(image, SOFTMAX, POOL, Block(mixer=Lmu(memory=4, hidden=5)), norm=norm)
    stage_two = a.model_copy(update={"stages": (*a.stages, Stage(embed=12, blocks=(SOFTMAX,), merge=Conv2x2()))})
    shapes = []
    for part in parts(stage_two):
        module, examples, _ = part.make()
        shapes.append(tuple(module(*examples.values()).shape))
    assert shapes == [(2, 3), *[(2, 16, 8)] * 3, (2, 4, 12)]


def test_a_part_in_another_precision_is_another_part(image: ImageInput) -> None:
    """A part's key changes with its own groups only: a block's with the block's, the ends' with stem, merges and head."""
    a = architecture(image, SOFTMAX, POOL)
    a = a.model_copy(update={"stages": (*a.stages, Stage(embed=12, blocks=(SOFTMAX,), merge=Conv2x2()))})
    before = keys(a)
    place = {"stem": 0, "s1.merge": 0, "head": 0, "s0.b0": 1, "s1.b0": 3}
    for group in precisions(a):
        after = keys(with_precisions(a, {group: "int8"}))
        changed = [i for i, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
        assert changed == [next(i for prefix, i in place.items() if group.startswith(prefix))], group


@pytest.mark.parametrize("precision", ["w1", "int4", "int8"])
def test_parts_are_timed_in_their_precision(
    image: ImageInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision
) -> None:
    """What is timed are the graphs with the operators of that precision, each smaller than in floating point."""
    wide = Block(mixer=Softmax(heads=2, qk=16, v=16), ffn=Mlp(mlp=128))
    a = architecture(image, wide, Block(mixer=Lmu(memory=8, hidden=100)), classes=300)
    a = a.model_copy(update={"stages": (a.stages[0].model_copy(update={"embed": 64}),)})
    sizes: list[dict[str, int]] = []
    used: list[Counter[str]] = []

    def time(self: LatencyTable, graphs: dict[str, Path], **_: object) -> None:
        sizes.append({key: path.stat().st_size for key, path in graphs.items()})
        used.extend(Counter(node.op_type for node in onnx.load(path).graph.node) for path in graphs.values())
        self.store({key: Entry(1.0, 1.0, 1.0, 1, "2026-01-01") for key in graphs})

    monkeypatch.setattr(LatencyTable, "time", time)
    table = LatencyTable(Device(), tmp_path)
    low = with_precisions(a, {group: precision for group, options in allowed(a).items() if precision in options})
    for one in (a, low):
        time_parts(list(parts(one)), table)
    whole, small = sizes
    assert set(whole).isdisjoint(small), "another precision is timed on its own"
    assert all(less < more for less, more in zip(small.values(), whole.values(), strict=True)), [
        list(s.values()) for s in sizes
    ]
    name = "MatMulInteger" if precision == "int8" else "MatMulNBits"
    assert [count[name] for count in used] == [0, 0, 0, 1, 6, 4]


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


def test_the_value_of_a_scale_is_not_timed_anew(image: ImageInput) -> None:
    """Pruning freezes the scale of attention; the graph is as fast as before."""
    scaled = Block(mixer=Softmax(heads=1, qk=4, v=4, scale=0.3), ffn=Mlp(mlp=8))
    assert keys(architecture(image, scaled)) == keys(architecture(image, SOFTMAX))
    part = list(parts(architecture(image, scaled)))[1]
    module, _, _ = part.make()
    operator = module.get_submodule("block.mixer")
    assert isinstance(operator, OperatorModule)
    assert operator.record == scaled.mixer


def test_parts_are_timed_a_few_together(image: ImageInput, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is left out, the same part comes once, and an interruption loses one group."""
    wanted = [
        part
        for width in range(1, TOGETHER + 4)
        for part in parts(architecture(image, Block(ffn=Mlp(mlp=width)), Block(ffn=Mlp(mlp=width))))
    ]
    distinct = {part.key for part in wanted}
    calls: list[set[str]] = []
    told: list[tuple[int, int]] = []

    def time(self: LatencyTable, graphs: dict[str, Path], **_: object) -> None:
        assert all(path.is_file() for path in graphs.values())
        calls.append(set(graphs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        self.store({key: Entry(1.0, 1.0, 1.0, 1, "2026-01-01") for key in graphs})

    monkeypatch.setattr(LatencyTable, "time", time)
    table = LatencyTable(Device(), tmp_path)
    with pytest.raises(KeyboardInterrupt):
        time_parts(wanted, table, lambda *n: told.append(n))
    assert told == [(0, len(distinct)), (TOGETHER, len(distinct))]
    time_parts(wanted, table)
    first, interrupted, *rest = calls
    assert [len(call) for call in calls] == [TOGETHER, len(distinct) - TOGETHER, len(distinct) - TOGETHER]
    assert interrupted == rest[0]
    assert first | rest[0] == distinct
    time_parts(wanted, table)
    assert len(calls) == 3

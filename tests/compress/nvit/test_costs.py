"""Counted costs against counting the whole network, timed ones against a table that holds something known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.networks import assembled
from wb.compress.depth.drop import sublayers, without
from wb.compress.nvit.cost import Cost, pieces
from wb.compress.nvit.costs import costs_of, counted, timed, untimed
from wb.core.architecture import Architecture, Block, Stage, axis_sizes, resize
from wb.core.records import ConvStem, Cosformer, ImageInput, Lmu, Mixer, Mlp, PatchStem, Pool, Sla, Softmax, Stem
from wb.export.counting.count import model_energy
from wb.export.timing.blocks import Part, parts
from wb.export.timing.table import OVERHEAD, REFERENCE, Entry, LatencyTable
from wb.hardware.device import Device
from wb.models.counting import count_macs, count_parameters
from wb.models.model import Model

IMAGE = ImageInput(channels=1, height=8, width=8, mean=(0.3,), std=(0.4,))
SUMS: list[tuple[str, Mixer, Stem, int]] = [  # cost is a sum of products of sizes
    ("softmax", Softmax(heads=3, qk=7, v=9), PatchStem(patch=2), 1),
    ("lmu", Lmu(memory=6, hidden=11), ConvStem(patch=2, width=6), 1),
    ("pool", Pool(), PatchStem(patch=2), 2),
]
NEARLY: list[tuple[str, Mixer, Stem, int]] = [  # the cheaper of two orders of multiplication
    ("sla", Sla(heads=3, qk=8, v=12), PatchStem(patch=2), 1),
    ("cosformer", Cosformer(heads=3, qk=8, v=12), PatchStem(patch=2), 1),
]
COUNTS: dict[str, Callable[[Architecture], float]] = {
    "macs": lambda a: count_macs(a).value,
    "params": lambda a: count_parameters(a).value,
    "size": lambda a: 4 * count_parameters(a).value,
    "energy": lambda a: model_energy(a).value,
}


@cache
def dense(mixer: Mixer, stem: Stem, stages: int) -> Architecture:
    block = Block(mixer=mixer, ffn=Mlp(mlp=17))
    first = Stage(embed=16, blocks=(block, Block(), block))
    return assembled(
        input=IMAGE, stem=stem, stages=(first, *[Stage(embed=24, blocks=(block,))] * (stages - 1)), classes=3
    )


@cache
def cost_of(architecture: Architecture, metric: str) -> Cost:
    return counted(architecture, metric)


def smaller(data: st.DataObject, a: Architecture, least: int = 1) -> Architecture:
    """Other sizes, each between a `least`-th of the whole and the whole, and some sub-layers gone."""
    sizes = {n: data.draw(st.integers(1 if least == 1 else max(1, s // least), s), n) for n, s in axis_sizes(a).items()}
    found = Model(resize(a, sizes), {})
    for name in sublayers(a):
        if data.draw(st.integers(0, 3), name) == 0:
            found = without(found, name)
    return found.architecture


@pytest.mark.parametrize(("mixer", "stem", "stages"), [case[1:] for case in SUMS], ids=[case[0] for case in SUMS])
@pytest.mark.parametrize("metric", list(COUNTS))
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_sums_of_products_are_exact(mixer: Mixer, stem: Stem, stages: int, metric: str, data: st.DataObject) -> None:
    a = dense(mixer, stem, stages)
    chosen = smaller(data, a)
    assert cost_of(a, metric)(chosen) == pytest.approx(COUNTS[metric](chosen), rel=1e-9)


@pytest.mark.parametrize(("mixer", "stem", "stages"), [case[1:] for case in NEARLY], ids=[case[0] for case in NEARLY])
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_what_is_no_such_sum_is_near(mixer: Mixer, stem: Stem, stages: int, data: st.DataObject) -> None:
    a = dense(mixer, stem, stages)
    chosen = smaller(data, a, least=4)
    assert cost_of(a, "params")(chosen) == pytest.approx(count_parameters(chosen).value, rel=1e-9)
    assert cost_of(a, "macs")(chosen) == pytest.approx(count_macs(chosen).value, rel=0.15)


def fake(part: Part) -> float:
    """A time that is a sum of products, so that it can be found again: of the parameters."""
    module, _, _ = part.make()
    return 1e-3 * sum(weight.numel() for weight in module.parameters())


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LatencyTable:
    """In which a call takes 0.5 multiples of a reference of 2 ms, and parts what `fake` says; nothing is timed."""
    found = LatencyTable(Device(), tmp_path)

    def entry(value: float) -> Entry:
        return Entry(value, value, value, 1, "2026-01-01")

    def time_parts(wanted: Sequence[Part], table: LatencyTable, progress: Callable[[int, int], None] | None) -> None:
        table.store({REFERENCE: entry(2.0), OVERHEAD: entry(0.5)} | {part.key: entry(fake(part)) for part in wanted})
        if progress is not None:
            progress(0, len(wanted))

    monkeypatch.setattr("wb.compress.nvit.costs.time_parts", time_parts)
    return found


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_timed_parts_add_up(table: LatencyTable, data: st.DataObject) -> None:
    a = dense(*SUMS[0][1:])
    cost = costs_of(["latency"], a, table)["latency"]
    chosen = smaller(data, a)
    bare, *blocks = parts(chosen)
    one_by_one = _sublayers(chosen)
    assert len(blocks) <= len(one_by_one)
    expected = 2.0 * (0.5 + fake(bare) + sum(map(fake, one_by_one)))
    assert cost(chosen) == pytest.approx(expected, rel=1e-6)


def _sublayers(a: Architecture) -> list[Part]:
    """Every mixer and feed-forward as a block of its own."""
    stages = tuple(
        stage.model_copy(
            update={
                "blocks": tuple(
                    Block.model_validate({kind: part})
                    for block in stage.blocks
                    for kind, part in (("mixer", block.mixer), ("ffn", block.ffn))
                    if part is not None
                )
            }
        )
        for stage in a.stages
    )
    return list(parts(a.model_copy(update={"stages": stages})))[1:]


def test_axes_that_stay_need_no_samples(table: LatencyTable) -> None:
    a = dense(*SUMS[0][1:])
    told: list[tuple[int, int]] = []
    free = timed(a, table)
    kept = costs_of(["latency"], a, table, keep=frozenset({"embed", "qk"}), progress=lambda *n: told.append(n))
    assert told
    for family, surface in kept["latency"].surfaces.items():
        assert len(surface.points) < len(free.surfaces[family].points)
        for fixed in ("embed", "s0.embed", "qk"):
            values = {place[surface.axes.index(fixed)] for place in surface.points if fixed in surface.axes}
            assert len(values) <= 1
    assert kept["latency"](a) == pytest.approx(free(a), rel=1e-6)


def uneven() -> Architecture:
    """As pruning leaves a network: no block is like the other."""
    sizes = ((3, 7, 9, 17), (1, 2, 9, 5), (2, 7, 4, 1))
    blocks = tuple(Block(mixer=Softmax(heads=h, qk=qk, v=v), ffn=Mlp(mlp=mlp)) for h, qk, v, mlp in sizes)
    stage = Stage(embed=16, blocks=blocks)
    return assembled(input=IMAGE, stem=ConvStem(patch=2, width=6), stages=(stage,), classes=3)


@pytest.mark.parametrize("keep", [("heads",), ("qk", "mlp"), ("embed",), ("heads", "qk", "v", "mlp", "embed", "width")])
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_a_kept_axis_may_be_uneven(keep: tuple[str, ...], data: st.DataObject) -> None:
    """A kept axis keeps the size that it has in each block, and what is predicted for that is exact."""
    a = uneven()
    costs = _costs_keeping(keep)
    sizes = {
        n: data.draw(st.integers(1, size), n) for n, size in axis_sizes(a).items() if n.rsplit(".", 1)[1] not in keep
    }
    chosen = resize(a, sizes)
    assert costs["macs"](chosen) == pytest.approx(count_macs(chosen).value, rel=1e-9)
    assert costs["params"](chosen) == pytest.approx(count_parameters(chosen).value, rel=1e-9)


@cache
def _costs_keeping(keep: tuple[str, ...]) -> dict[str, Cost]:
    return costs_of(["macs", "params"], uneven(), None, keep=frozenset(keep))


def test_the_dense_network_s_own_parts_are_sampled() -> None:
    a = uneven()
    cost, sizes = cost_of(a, "macs"), axis_sizes(a)
    for piece in pieces(a):
        assert piece.place(sizes) in cost.surfaces[piece.family].points, piece.name


def test_refining_adds_what_was_not_sampled() -> None:
    a = dense(*NEARLY[0][1:])
    cost = counted(a, "macs")
    odd = resize(a, {"s0.b0.qk": 5, "s0.b0.v": 3, "s0.b0.heads": 2, "s0.embed": 11})
    before = abs(cost(odd) / count_macs(odd).value - 1)
    cost.refine(odd)
    assert abs(cost(odd) / count_macs(odd).value - 1) <= before + 1e-9  # both may be exact but for rounding
    points = {family: len(surface.points) for family, surface in cost.surfaces.items()}
    cost.refine(odd)
    assert {family: len(surface.points) for family, surface in cost.surfaces.items()} == points


def test_the_factor_scales_the_whole() -> None:
    cost = cost_of(dense(*SUMS[0][1:]), "macs")
    twice = replace(cost, factor=2.0, constant=7.0)
    assert twice(twice.dense) == pytest.approx(2 * (cost(cost.dense) + 7.0))


def test_what_is_not_timed_yet_is_counted_without_timing(
    small: Architecture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, asked = LatencyTable(Device(), tmp_path / "cache"), set[str]()
    count = untimed(small, table)
    assert not (tmp_path / "cache").exists(), "a dry run makes no table"
    monkeypatch.setattr("wb.compress.nvit.costs.time_parts", lambda found, *_: asked.update(part.key for part in found))
    monkeypatch.setattr("wb.compress.nvit.costs.milliseconds", lambda *_: 1.0)
    costs_of(["latency"], small, table)
    assert count == len(asked)

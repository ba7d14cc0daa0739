"""Sensitivities against lowering, running and saving each group by hand; times with a clock that is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx
import pytest

from tests.compress.ptq.graphs import branched, inputs, subject
from wb.compress.ptq import sensitivity
from wb.compress.ptq.calibration import first
from wb.compress.ptq.outputs import compare, outputs
from wb.compress.ptq.sensitivity import Sensitivity, sensitivities, speeds
from wb.compress.ptq.subject import Choice, Subject, of_graph
from wb.core.errors import Unsupported
from wb.core.measures.readings import Reading
from wb.core.records import Precision
from wb.export.timing.measure import Latency
from wb.hardware.device import Device

DEVICE = Device()
FEW = first(inputs(), 4)
KEPT = ("stem", "s0.b0.mixer.in", "s0.b0.mixer.out", "s0.b1.mixer.in", "s0.b1.mixer.out", "s0.b1.ffn.out")
GROUPS = ("s0.b0.ffn.in", "s0.b0.ffn.out", "s0.b1.ffn.in", "head")
LOW: tuple[Precision, ...] = ("int4", "int8")
KEYS = [(group, precision) for group in GROUPS for precision in LOW]


def measured(
    *known: Sensitivity, timed: bool = False, given: Subject | None = None
) -> tuple[list[Sensitivity], list[Sensitivity]]:
    """All sensitivities of some groups, and those that were found anew."""
    found: list[Sensitivity] = []
    every = sensitivities(
        given or subject(),
        FEW,
        DEVICE,
        known=known,
        timed=timed,
        keep=KEPT,
        found=found.append,
        report=lambda what, done, of: None,
    )
    return every, found


def by_operators(graphs: Mapping[str, bytes], *_: object, **__: object) -> dict[str, Latency]:
    """A clock: 1 ms for each integer product less than ten, and 2 more for each with 4 bits; ±0.1; twice that in reading."""

    def read(graph: bytes) -> Latency:
        kinds = [node.op_type for node in onnx.load_from_string(graph).graph.node]
        value = 10.0 - kinds.count("MatMulInteger") + 2 * kinds.count("MatMulNBits")
        ratio = Reading(value=value, unit="x", how="measured", interval=(value - 0.1, value + 0.1))
        return Latency(ratio.model_copy(update={"value": 2 * value, "unit": "ms"}), ratio, 1, 0, value)

    return {name: read(graph) for name, graph in graphs.items()}


@pytest.fixture
def clock() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "measure_latency", by_operators)
        yield


def test_each_is_what_lowering_it_alone_gives(tmp_path: Path) -> None:
    every, found = measured()
    assert every == found
    assert [(one.group, one.precision) for one in every] == KEYS
    floating = outputs(subject().graph, FEW, DEVICE)
    onnx.save(subject().graph, tmp_path / "float.onnx")
    for one in every:
        onnx.save(subject().lowered({one.group: one.precision}), tmp_path / "low.onnx")
        assert one.error == compare(floating, outputs(tmp_path / "low.onnx", FEW, DEVICE)).divergence > 0
        assert one.saved == (tmp_path / "float.onnx").stat().st_size - (tmp_path / "low.onnx").stat().st_size
        assert one.faster is one.faster_low is one.faster_high is None


def test_what_is_known_is_not_measured_again() -> None:
    every, _ = measured()
    marked = [one.model_copy(update={"error": 42.0}) for one in every[::2]]
    again, found = measured(*marked)
    assert again[::2] == marked
    assert again[1::2] == every[1::2] == found
    assert measured(*every) == (every, [])


@pytest.mark.usefixtures("clock")
def test_equal_groups_share_one_timing() -> None:
    every, _ = measured()
    timed, found = measured(*every, timed=True)
    assert timed == found  # what was not timed is measured again
    faster = {(one.group, one.precision): one.faster for one in timed}
    assert all(faster[key] == pytest.approx(2.0 if key[1] == "int8" else -4.0) for key in KEYS)
    alone, pair = timed[KEYS.index(("head", "int8"))], timed[KEYS.index(("s0.b0.ffn.in", "int8"))]
    for one, number in ((alone, 1), (pair, 2)):  # √2 x 0.1 x the pace of 2 ms
        assert one.faster_low == pytest.approx(2 - 0.2 * 2**0.5 / number)
        assert one.faster_high == pytest.approx(2 + 0.2 * 2**0.5 / number)


def test_a_real_clock() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sensitivity, "TIMED_S", 0.01)
        found = speeds(subject(), [("head", "int8"), ("s0.b0.ffn.in", "int8"), ("s0.b1.ffn.in", "int8")], DEVICE)
    assert found["s0.b0.ffn.in", "int8"] == found["s0.b1.ffn.in", "int8"] != found["head", "int8"]
    assert all(low <= value <= high for value, low, high in found.values())


@pytest.mark.usefixtures("clock")
def test_products_inside_branches_are_timed(tmp_path: Path) -> None:
    given = of_graph(branched(tmp_path / "g.onnx"))
    keys = [(group, precision) for group in given.groups for precision in given.options[group] if precision != "fp32"]
    assert {group for group, _ in keys} == {"inside", "other"}
    assert speeds(given, keys, DEVICE).keys() == set(keys)


class Picky(Subject):
    """Has no kernels for heads."""

    def lowered(self, choice: Choice) -> onnx.ModelProto:
        if "head" in choice:
            raise Unsupported("no kernel")
        return super().lowered(choice)


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("timed", [False, True])
def test_what_cannot_be_lowered_is_left_out(timed: bool) -> None:
    given = Picky(subject().graph, subject().groups, subject().options)
    assert [(one.group, one.precision) for one in measured(timed=timed, given=given)[0]] == KEYS[:-2]

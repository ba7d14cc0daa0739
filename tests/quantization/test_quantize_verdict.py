"""What is called faster, smaller, met or missed."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wb.core.errors import BudgetMissed
from wb.core.readings import Reading
from wb.export.measure import Latency
from wb.quantization.quantize_record import Record
from wb.quantization.quantize_verdict import check_budget, missed, points, ratio, share, speed, verdict

Make = Callable[..., Record]
value = st.floats(0.01, 100)
spread = st.floats(0, 0.5)


def latency(middle: float, down: float, up: float) -> Latency:
    reading = Reading(value=middle, unit="x", how="measured", interval=(middle * (1 - down), middle * (1 + up)))
    return Latency(reading, reading, 1, 0, middle)


@given(value, spread, spread, value, spread, spread)
def test_the_ratio_the_other_way_round_is_its_inverse(
    a: float, b: float, c: float, d: float, e: float, f: float
) -> None:
    one, other = latency(a, b, c), latency(d, e, f)
    there, back = ratio(one, other), ratio(other, one)
    assert there.interval is not None
    assert back.interval is not None
    assert there.value * back.value == pytest.approx(1)
    assert there.interval[0] * back.interval[1] == pytest.approx(1)
    assert 0 < there.interval[0] <= there.value * (1 + 1e-12)
    assert there.value <= there.interval[1] * (1 + 1e-12)


def test_the_spreads_of_both_are_in_the_ratio() -> None:
    sure, unsure = latency(2, 0, 0), latency(1, 0.1, 0.1)
    assert ratio(sure, sure).interval == (1, 1)
    assert ratio(sure, unsure).interval == pytest.approx((2 / 1.1, 2 / 0.9))
    both = ratio(latency(2, 0.1, 0.1), unsure).interval
    assert both
    assert math.log(both[1] / 2) == pytest.approx(math.hypot(math.log(1.1), math.log(1 / 0.9)))


@pytest.mark.parametrize(
    ("times", "size", "kind", "words"),
    [
        ((0.5, 0.4, 0.8), 30, "faster", "Faster and smaller: 2.00 times as fast as float (95 % interval 1.25 to 2.50)"),
        ((0.5, 0.4, 0.8), 120, "faster", "Faster, but not smaller"),
        ((1.5, 1.2, 1.6), 30, "slower", "Smaller, but slower: takes 1.50 times as long as float"),
        ((1.5, 1.2, 1.6), 120, "slower", "No improvement, slower and not smaller"),
        ((0.9, 0.7, 1.1), 30, "same", "Smaller, but not faster: its latency cannot be told apart"),
        ((1.1, 0.9, 1.3), 100, "same", "No improvement, neither faster nor smaller"),
    ],
)
def test_only_what_the_interval_shows_is_said(
    record_of: Make, times: tuple[float, float, float], size: float, kind: str, words: str
) -> None:
    record = record_of(times, size, acc=0.88)
    assert record.ratio is not None
    assert speed(record.ratio) == kind
    text = verdict(record)
    assert text.startswith(words)
    assert f"{size / 100:.3f} of the file" in text
    assert "-2.00 points of validation accuracy (20 of 1000 images)" in text
    if kind != "faster":
        assert "aster and" not in text
        assert "as fast" not in text


def test_without_accuracy_the_output_error_stands_in(record_of: Make) -> None:
    record = record_of((0.5, 0.4, 0.6))
    floating, quantized = (
        {n: r for n, r in side.items() if n != "acc"} for side in (record.floating, record.quantized)
    )
    bare = record.model_copy(update={"floating": floating, "quantized": quantized})
    assert points(bare, "acc") is None
    assert points(record, "acc") == 0
    assert share(bare) == pytest.approx(0.3)
    assert "accuracy was not read; output error 20.0 dB SQNR on 3 random inputs" in verdict(bare)


@pytest.mark.parametrize(
    ("budget", "over"),
    [
        ("size=0.3x", {}),
        ("size=0.29x", {"size=0.29x": True}),
        ("size=29B", {"size=29B": True}),
        ("acc=-1", {}),
        ("acc=-0.9", {"acc=-0.9": True}),  # an accuracy on all the images has no interval
        ("acc=0.9", {"acc=0.9": True}),
        ("latency=0.8x", {}),
        ("latency=0.7x", {"latency=0.7x": False}),  # by the ratio of the two timed together
        ("latency=0.5x", {"latency=0.5x": True}),
        ("latency=1.2ms", {"latency=1.2ms": False}),  # by milliseconds
        ("latency=0.5ms", {"latency=0.5ms": True}),
    ],
)
def test_budgets(record_of: Make, budget: str, over: dict[str, bool]) -> None:
    record = record_of((0.75, 0.65, 0.9), acc=0.89, budget=(budget,))
    assert missed(record.config.limits, record) == over
    if True in over.values():
        with pytest.raises(BudgetMissed, match="nothing was written"):
            check_budget(record.config.limits, record)
    else:
        notes = check_budget(record.config.limits, record)
        assert [budget in note for note in notes] == [True] * len(over)

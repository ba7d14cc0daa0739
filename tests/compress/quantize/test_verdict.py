"""What is called faster, smaller, met or missed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from wb.compress.quantize.record import Quantization
from wb.compress.quantize.report import changes
from wb.compress.quantize.verdict import check_budget, judged, points, share, speed, verdict, warned
from wb.core.errors import BudgetMissed

Make = Callable[..., Quantization]


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
    (one,) = judged(record.limits, record)
    assert one.verdict == {None: "met", True: "missed", False: "within noise"}[over.get(budget)]
    if True in over.values():
        with pytest.raises(BudgetMissed, match="Nothing was written") as raised:
            check_budget(record.limits, record)
        assert one.text("the float graph") in str(raised.value)
    else:
        notes = check_budget(record.limits, record)
        assert [one.text("the float graph")[1:] in note for note in notes] == [True] * len(over)


def test_a_missed_share_is_said_as_the_ratio_that_was_measured(record_of: Make) -> None:
    """By the ratio of the two timed together, in the table as in the message."""
    record = record_of((0.75, 0.74, 0.77), budget=("latency=0.7x",))
    words = r"latency is 0\.750x of the float graph’s \(95 % interval 0\.740x to 0\.770x\); latency <= 0\.7x was"
    with pytest.raises(BudgetMissed, match=words):
        check_budget(record.limits, record)
    assert changes(record)["latency"].startswith("0.750x")


def test_a_slower_graph_is_a_warning_only_where_nothing_was_asked_for(record_of: Make) -> None:
    slower = (1.5, 1.4, 1.6)
    assert warned(record_of(slower))
    assert not warned(record_of(slower, budget=("size=0.5x",))), "what was asked for is met"
    assert "Smaller, but slower" in verdict(record_of(slower, budget=("size=0.5x",)))
    assert not warned(record_of((0.9, 0.7, 1.1)))

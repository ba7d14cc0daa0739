"""What a quantization comes to: ratios of latencies timed together, whether the budget is met, and one honest sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from wb.core.errors import BudgetMissed
from wb.core.metrics import Limit
from wb.core.readings import Reading, scaled
from wb.export.measure import Latency
from wb.quantization.holdout import FEW
from wb.quantization.quantize_record import FITTED, Record

Speed = Literal["faster", "same", "slower"]


def ratio(quantized: Latency, floating: Latency) -> Reading:
    """The quantized graph's latency over the float one's, both timed in one call of `measure_latency`.

    Both are ratios to the same reference graph; the relative errors are added in quadrature, as for independent ones.
    """
    above, below = quantized.ratio, floating.ratio
    value = above.value / below.value
    (fall, rise), (fall_below, rise_below) = _spread(above), _spread(below)
    return Reading(
        value=value,
        unit="x",
        how="measured",
        interval=(value * math.exp(-math.hypot(fall, rise_below)), value * math.exp(math.hypot(rise, fall_below))),
        n=min(above.n, below.n),
        device=above.device,
        note=above.note or below.note,
    )


def speed(ratio: Reading) -> Speed:
    """Whether the quantized graph is faster: only where the whole interval says so."""
    low, high = ratio.interval or (ratio.value, ratio.value)
    return "faster" if high < 1 else "slower" if low > 1 else "same"


def missed(limits: Mapping[str, Limit], record: Record) -> dict[str, bool]:
    """The budgets that the last readings are over, and whether they are for sure: their 95 % interval as well.

    A latency that is limited to a share is judged by the ratio of the two timed together. An accuracy is that of the
    validation images, which are all there, so that it has no interval here.
    """
    found = {}
    for text, limit in limits.items():
        name = limit.metric.name
        reading = record.quantized[name]
        if name == "latency" and limit.relative and record.ratio is not None:
            allowed, reading = limit.value, record.ratio
        else:
            allowed = limit.against(record.first.get(name, record.floating[name])).value
        low = reading.interval[0] if reading.interval is not None and name == "latency" else reading.value
        short = allowed - reading.value if limit.metric.direction == "maximize" else reading.value - allowed
        if short > 1e-9 * abs(allowed):
            found[text] = name != "latency" or low > allowed
    return found


def check_budget(limits: Mapping[str, Limit], record: Record) -> tuple[str, ...]:
    """What is to be said of budgets that are over by less than their interval.

    Raises:
        BudgetMissed: one is over for sure.
    """
    over = missed(limits, record)
    sure = [text for text, certain in over.items() if certain]
    if sure:
        given = ", ".join(
            f"{limits[text].metric.name} is {_reached(record, limits[text].metric.name)}" for text in sure
        )
        way = "a looser budget" if record.config.policy == "mixed" else "--policy mixed, or a looser budget"
        raise BudgetMissed(f"the budget {', '.join(sure)} is missed: {given}; nothing was written. Try {way}")
    return tuple(f"The last reading is over {text}, by less than its 95 % interval." for text in over)


def points(record: Record, metric: str) -> float | None:
    """How much accuracy is gained (`acc` or `test`), in percentage points; None where it was not read."""
    if metric not in record.quantized or metric not in record.floating:
        return None
    return 100 * (record.quantized[metric].value - record.floating[metric].value)


def share(record: Record) -> float:
    """The quantized file's size over the float one's."""
    return record.quantized["size"].value / record.floating["size"].value


def verdict(record: Record) -> str:
    """The quantization in one sentence; a slower graph is never called an improvement."""
    if record.ratio is None:
        return "not finished"
    low, high = record.ratio.interval or (record.ratio.value,) * 2
    smaller = share(record) < 1
    match speed(record.ratio):
        case "faster":
            title = "Faster and smaller" if smaller else "Faster, but not smaller"
            time = (
                f"{1 / record.ratio.value:.2f} times as fast as float (95 % interval {1 / high:.2f} to {1 / low:.2f})"
            )
        case "slower":
            title = "Smaller, but slower" if smaller else "No improvement, slower and not smaller"
            time = f"takes {record.ratio.value:.2f} times as long as float (95 % interval {low:.2f} to {high:.2f})"
        case "same":
            title = "Smaller, but not faster" if smaller else "No improvement, neither faster nor smaller"
            time = (
                f"its latency cannot be told apart from float’s ({record.ratio.value:.2f} times, 95 % interval {low:.2f} to "
                f"{high:.2f})"
            )
    return f"{title}: {time}; {share(record):.3f} of the file; {accuracy(record)}."


def accuracy(record: Record) -> str:
    """The change of accuracy in words, or the output error where there is none."""
    found = []
    for metric, name in (("acc", "validation"), ("test", "test")):
        change = points(record, metric)
        if change is not None:
            n = record.quantized[metric].n
            images = f"{abs(round(change * n / 100))} of {n} images"
            found.append(f"{change:+.2f} points of {name} accuracy ({images})")
    if found or record.error is None:
        return " and ".join(found) or "accuracy was not read"
    return f"accuracy was not read; output error {decibels(record.error.sqnr)} on {compared(record)}"


def compared(record: Record) -> str:
    """The inputs that the output error was read on, and whether the result was fitted to them: `32 inputs kept out of …`."""
    if record.error is None:
        return "nothing"
    n, on = record.error.n, record.error.on
    what = on.removesuffix("s") if n == 1 else on
    if on == "inputs kept out":
        return f"{n} {'input' if n == 1 else 'inputs'} kept out of the calibration"
    if on == "calibration inputs" and record.config.policy in FITTED:
        return f"{n} {what}, which it was fitted to: expect a larger error on others"
    return f"{n} {what}"


def calibrated(record: Record) -> str | None:
    """What the result was fitted to, and how much of it was not: None where it was fitted to nothing."""
    if record.calibration is None or record.config.policy not in FITTED:
        return None
    used, out, source = (record.calibration.get(key) for key in ("inputs", "kept_out", "from"))
    kept_out = f", {out} more kept out to read the error on" if out else ""
    return f"{used} of {source}{kept_out}"


def few_inputs(record: Record) -> tuple[str, ...]:
    """A word where the result was fitted to so few inputs that others may look otherwise."""
    used = (record.calibration or {}).get("inputs")
    if record.config.policy not in FITTED or not isinstance(used, int) or used >= FEW:
        return ()
    what = "Ranges of activations come from" if record.config.policy == "int8" else "The policy was chosen on"
    return (
        f"{what} {used} calibration input{'s' if used > 1 else ''}; with fewer than {FEW} it seldom holds for others: give more "
        "(--calibration, --calib).",
    )


def decibels(sqnr: float | None) -> str:
    """A signal-to-quantization-noise ratio for people."""
    return "no difference" if sqnr is None else f"{sqnr:.1f} dB SQNR"


def _spread(reading: Reading) -> tuple[float, float]:
    """How far the ends of the interval are from the value, as logarithms of factors."""
    low, high = reading.interval or (reading.value, reading.value)
    return math.log(reading.value / max(low, 1e-3 * reading.value)), math.log(high / reading.value)


def _reached(record: Record, metric: str) -> str:
    reading, before = record.quantized[metric], record.floating[metric]
    if metric == "acc":
        return f"{reading.text()} ({100 * (reading.value - before.value):+.2f} points)"
    factor = record.ratio.value if metric == "latency" and record.ratio is not None else reading.value / before.value
    return f"{scaled(reading.value, reading.unit)} ({factor:.3f}x)"

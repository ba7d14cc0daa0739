"""The verdict on a quantization: speed by latencies timed together, budgets met or missed, and a summary in one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from wb.compress.ptq.holdout import FEW
from wb.compress.quantize.config import FITTED
from wb.compress.quantize.record import Quantization
from wb.core.errors import BudgetMissed
from wb.core.measures.metrics import Limit
from wb.core.measures.readings import Reading
from wb.core.statistics.verdict import Judgement, judge

Speed = Literal["faster", "same", "slower"]
GIVEN = "the float graph"


def speed(ratio: Reading) -> Speed:
    """Whether the quantized graph is faster or slower; "same" if the interval of the ratio contains 1."""
    low, high = ratio.interval or (ratio.value, ratio.value)
    return "faster" if high < 1 else "slower" if low > 1 else "same"


def judged(limits: Mapping[str, Limit], record: Quantization) -> tuple[Judgement, ...]:
    """Judges the last readings against the budgets.

    Relative budgets refer to the float graph read beside the quantized one; latency is judged by the ratio of the two.
    """
    return tuple(
        judge(
            limit,
            record.quantized[limit.metric.name],
            record.floating[limit.metric.name],
            record.ratio if limit.metric.name == "latency" else None,
        )
        for limit in limits.values()
    )


def check_budget(limits: Mapping[str, Limit], record: Quantization) -> tuple[str, ...]:
    """Notes on budgets that are exceeded by less than the interval of the reading.

    Raises:
        BudgetMissed: a budget is certainly exceeded.
    """
    found = dict(zip(limits, judged(limits, record), strict=True))
    sure = {text: one.text(GIVEN) for text, one in found.items() if one.verdict == "missed"}
    if sure:
        way = "a looser budget" if record.config.policy == "mixed" else "--policy mixed, or a looser budget"
        raise BudgetMissed(
            f"the budget {', '.join(sure)} is missed: {' and '.join(sure.values())}. Nothing was written; try {way}"
        )
    near = [one.text(GIVEN) for one in found.values() if one.verdict == "within noise"]
    return tuple(f"{text[0].upper()}{text[1:]}; whether it is over cannot be told." for text in near)


def warned(record: Quantization) -> bool:
    """Whether to warn: without a budget, a quantization should give a graph that is not slower and a smaller file."""
    if record.config.budget or record.ratio is None:
        return False  # a budget that is missed leaves nothing
    return speed(record.ratio) == "slower" or share(record) >= 1


def points(record: Quantization, metric: str) -> float | None:
    """The gain of an accuracy (or of `test`) in percentage points; None if it was not read, or is on another scale."""
    if metric not in record.quantized or metric not in record.floating or record.quantized[metric].unit != "fraction":
        return None
    return 100 * (record.quantized[metric].value - record.floating[metric].value)


def share(record: Quantization) -> float:
    """The quantized file's size over the float one's."""
    return record.quantized["size"].value / record.floating["size"].value


def verdict(record: Quantization) -> str:
    """The quantization in one sentence; a slower graph is never called an improvement."""
    if record.ratio is None:
        return "not finished"
    low, high = record.ratio.interval or (record.ratio.value,) * 2
    smaller = share(record) < 1
    token = "at one token after the other " if record.ratios else ""
    match speed(record.ratio):
        case "faster":
            title = "Faster and smaller" if smaller else "Faster, but not smaller"
            time = f"{token}{1 / record.ratio.value:.2f} times as fast as float (95 % interval {1 / high:.2f} to {1 / low:.2f})"
        case "slower":
            title = "Smaller, but slower" if smaller else "No improvement, slower and not smaller"
            time = (
                f"{token}takes {record.ratio.value:.2f} times as long as float (95 % interval {low:.2f} to {high:.2f})"
            )
        case "same":
            title = "Smaller, but not faster" if smaller else "No improvement, neither faster nor smaller"
            time = (
                f"{token}its latency cannot be told apart from float’s ({record.ratio.value:.2f} times, 95 % interval {low:.2f} "
                f"to {high:.2f})"
            )
    prompts = [f"a prompt takes {one.value:.2f} times as long" for one in record.ratios.values()]
    return f"{title}: {'; '.join([time, *prompts])}; {share(record):.3f} of the file; {quality(record)}."


def quality(record: Quantization) -> str:
    """The change of quality in words, or the output error if quality was not read."""
    found = []
    for metric, name in ((record.quality, "validation"), ("test", "test")):
        change = points(record, metric)
        if change is not None:
            n = record.quantized[metric].n
            images = f"{abs(round(change * n / 100))} of {n} {(record.data or {}).get('noun', 'images')}"
            found.append(f"{change:+.2f} points of {name} {record.metric.title} ({images})")
        elif metric in record.quantized and metric in record.floating:
            before, after = record.floating[metric].plain(), record.quantized[metric].plain()
            found.append(f"{after} on {name}, {before} in floating point")
    if found or record.error is None:
        chance = (
            ", which says nothing, for the float graph itself cannot be told from chance"
            if found and record.near_chance
            else ""
        )
        return f"{' and '.join(found) or f'{record.metric.title} was not read'}{chance}"
    return f"{record.metric.title} was not read; output error {decibels(record.error.sqnr)} on {compared(record)}"


def compared(record: Quantization) -> str:
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


def calibrated(record: Quantization) -> str | None:
    """The inputs that the result was fitted to, and how many were kept out; None if it was fitted to nothing."""
    if record.calibration is None or record.config.policy not in FITTED:
        return None
    used, out, source = (record.calibration.get(key) for key in ("inputs", "kept_out", "from"))
    if record.config.calibration is not None:
        source = Path(record.config.calibration).name  # the folder that it lies in is private
    kept_out = f", {out} more kept out to read the error on" if out else ""
    return f"{used} of {source}{kept_out}"


def few_inputs(record: Quantization) -> tuple[str, ...]:
    """A note if the result was fitted to so few inputs that it may not hold for others."""
    used = (record.calibration or {}).get("inputs")
    if record.config.policy not in FITTED or not isinstance(used, int) or used >= FEW:
        return ()
    ranges = record.config.policy == "int8"
    what = "Ranges of activations come from" if ranges else "The policy was chosen on"
    holds = "they seldom hold" if ranges else "it seldom holds"
    return (
        f"{what} {used} calibration input{'s' if used > 1 else ''}; with fewer than {FEW} {holds} for others: give "
        "more (--calibration, --samples).",
    )


def decibels(sqnr: float | None) -> str:
    """A signal-to-quantization-noise ratio in words."""
    return "no difference" if sqnr is None else f"{sqnr:.1f} dB SQNR"

"""Verdicts: readings compared with limits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading, ratio, scaled

Verdict = Literal["met", "within noise", "missed"]


class Remark(NamedTuple):
    """A sentence about a result; `warn` if something requested is missing, or something was lost without being requested."""

    text: str
    warn: bool = False


class Judgement(BaseModel):
    """One limit and the reading compared with it.

    `limit` is its text as requested. If it is a share of the input model's value, `reading` and `allowed` are shares too (unit
    x), else both are in the metric's unit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str
    limit: str
    allowed: float
    reading: Reading

    @property
    def over(self) -> float:
        """How far the reading exceeds `allowed`, as a share of it; at most 0 if the limit is kept."""
        return self._excess(self.reading.value)

    @property
    def verdict(self) -> Verdict:
        """`met`; `within noise` if the value exceeds the limit but its 95 % interval reaches back to it; else `missed`.

        Only latencies can be within noise: an accuracy is exact for the images that it was measured on.
        """
        if self.over <= 1e-9:
            return "met"
        if not self.metric.startswith("latency") or self.reading.interval is None:
            return "missed"
        return "within noise" if self._excess(self.reading.interval[0]) <= 0 else "missed"

    def text(self, given: str) -> str:
        """A sentence such as `latency is 0.712x of the dense model’s (…); latency <= 0.7x was asked for`.

        `given` names the input model, which shares relate to ("the dense model").
        """
        reading, unit = self.reading, self.reading.unit
        value = reading.plain() + (f" of {given}’s" if unit == "x" else "")
        details = []
        if self.metric.startswith("latency") and reading.interval is not None:
            low, high = (scaled(end, unit) for end in reading.interval)
            details.append(f"95 % interval {low} to {high}")
        if "points" in self.limit:
            details.append(f"at least {scaled(self.allowed, unit)} has to be left")
        if self.over > 0 and reading.plain() == scaled(self.allowed, unit):
            details.append(f"{100 * self.over:.2g} % over")
        detail = f" ({', '.join(details)})" if details else ""
        return f"{self.metric} is {value}{detail}; {self.limit} was asked for"

    def _excess(self, value: float) -> float:
        return Limit(METRICS[self.metric], self.allowed).excess(self.reading.model_copy(update={"value": value}))


def judge(limit: Limit, found: Reading, given: Reading, share: Reading | None = None) -> Judgement:
    """Compares the reading `found` with `limit`, which may be relative to the input model's reading `given`.

    Two latencies must come from one timing. `share` is their ratio, if it is known more precisely than from the readings.
    """
    reading, allowed = found, limit.against(given).value
    if limit.relative:
        reading, allowed = share if share is not None else ratio(found, given), limit.value
    return Judgement(metric=limit.metric.name, limit=limit.text(), allowed=allowed, reading=reading)


def worst(judgements: Iterable[Judgement]) -> Verdict:
    """The verdict on all limits together."""
    order: tuple[Verdict, ...] = ("met", "within noise", "missed")
    return max((one.verdict for one in judgements), key=order.index, default="met")


def loss(what: str, before: Reading, after: Reading) -> Remark | None:
    """A remark if `what` ("fine-tuning") lowered an accuracy or raised a perplexity, else None.

    It warns if the two intervals do not overlap.
    """
    accuracy = before.unit == "fraction"
    lost = before.value - after.value if accuracy else after.value - before.value
    if lost <= 0:
        return None
    noise = "less than its 95 % interval" if after.overlaps(before) else ""
    images = f"{round(lost * after.n)} of {after.n} images" if accuracy else ""
    details = ", ".join(text for text in (images, noise) if text)
    brackets = f" ({details})" if details else ""
    return Remark(f"{what} made it worse: {before.plain()} before, {after.plain()} after{brackets}.", not noise)


def worsened(before: Mapping[str, Reading], after: Mapping[str, Reading]) -> dict[str, Reading]:
    """The readings `after` fine-tuning of those, by name, whose quality was better `before`: they are the networks of then."""
    return {name: reading for name, reading in after.items() if loss("fine-tuning", before[name], reading) is not None}


def of_tuning(before: Reading, after: Reading, discarded: Reading | None) -> str:
    """Whether a network is that of before or after fine-tuning, in a sentence; `discarded` is the quality that was not kept."""
    kept = f"{before.plain()} before, {(after if discarded is None else discarded).plain()} after"
    return f"fine-tuning is {'kept' if discarded is None else 'not kept'}: {kept}."


def undone(what: str, before: Reading, after: Reading) -> Remark:
    """A remark that `what` ("fine-tuning") lowered an accuracy, and that the network is therefore the one before it."""
    worse = loss(what, before, after)
    text = f"{what} did not help." if worse is None else worse.text
    return Remark(f"{text.removesuffix('.')}; the network is that from before it.")


def lost_in_tuning(before: Reading, after: Reading, discarded: Reading | None) -> Remark | None:
    """A remark if fine-tuning made a network worse: that it is undone, or, in records of older versions, that it is not."""
    return loss("fine-tuning", before, after) if discarded is None else undone("fine-tuning", before, discarded)

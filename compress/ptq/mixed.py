"""A policy under a budget: solved on measured sensitivities, assessed on the whole graph, corrected until it holds.

Limits on size and latency are constraints of the knapsack (`wb.compress.ptq.policy`), tightened by what the assessed graph is
over them. A limit on accuracy is met by bisection over the size: for each size the policy of least summed error is
assessed, and the smallest that holds the accuracy is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from wb.compress.ptq.policy import Option, solve
from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.ptq.subject import Choice, Subject
from wb.core.errors import BadOption, BudgetMissed
from wb.core.metrics import METRICS, Limit
from wb.core.readings import Reading

LIMITED = " or ".join(("size", "latency", *(name for name, metric in METRICS.items() if metric.quality)))
ROUNDS = 5  # of tightening, for each size
HALVINGS = 8  # of the range of sizes
ENOUGH = 12  # trials after which one that keeps the limits is taken
FINEST = 0.005  # of the float size: closer sizes are not told apart
AHEAD = 0.2  # of what latency was missed by that is asked for in addition, since it is noisy

TOO_SENSITIVE, SLOWER, NO_FASTER, NO_KERNEL = "too sensitive", "slower", "no faster", "no kernel"
KEPT, NO_SMALLER, NOT_NEEDED = "kept by --keep", "no smaller", "the budget is met without it"

Assess = Callable[[onnx.ModelProto], Mapping[str, Reading]]
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Trial:
    """A choice that was assessed: groups that are not in fp32, the readings of its graph, and the summed error that
    was predicted of it."""

    choice: Choice
    readings: Mapping[str, Reading]
    error: float

    @property
    def bytes(self) -> int:
        """Of the file."""
        return round(self.readings["size"].value)


@dataclass(frozen=True)
class Found:
    """The chosen trial, all trials in order, and for each group in fp32 why it stays there."""

    chosen: Trial
    trials: tuple[Trial, ...]
    reasons: Mapping[str, str]

    @property
    def choice(self) -> Choice:
        """Of the chosen trial."""
        return self.chosen.choice


def find(
    subject: Subject,
    measured: Sequence[Sensitivity],
    limits: Sequence[Limit],
    floating: Mapping[str, Reading],
    assess: Assess,
    report: Report,
    *,
    keep: Collection[str] = (),
) -> Found:
    """A choice whose assessed graph keeps all `limits` (size, latency and quality, absolute).

    `floating` are readings of the float graph. `assess` gives those of a graph, at least of `size` and what is limited. Without a
    limit on quality, it is a choice of least summed error; with one, the smallest file that was found.

    Raises:
        BadOption: no limit, a relative one or one on something else; or the float graph keeps them all already.
        BudgetMissed: nothing was found that keeps them; it names the best that was reached.
    """
    for limit in limits:
        if limit.relative or not (limit.metric.quality or limit.metric.name in ("size", "latency")):
            raise BadOption(f"{limit.text()} is no limit for a policy; limit {LIMITED}, absolutely")
    if not limits:
        raise BadOption(f"no limit to find a policy under; give one on {LIMITED}")
    if not measured:
        raise BadOption("no group can be put into fewer bits; keep fewer, or give another graph")
    search = _Search(
        subject, _options(measured), {limit.metric.name: limit for limit in limits}, floating, assess, report
    )
    chosen = search.smallest() if search.quality else search.accurate()
    return Found(chosen, tuple(search.trials), _reasons(subject, measured, chosen, keep, search.limits))


@dataclass
class _Search:
    """The trials so far, by choice, and what they say."""

    subject: Subject
    options: Mapping[str, Sequence[Option]]
    limits: Mapping[str, Limit]
    floating: Mapping[str, Reading]
    assess: Assess
    report: Report
    trials: list[Trial] = field(default_factory=list)

    @property
    def quality(self) -> list[str]:
        """The limited metrics of quality."""
        return [name for name, limit in self.limits.items() if limit.metric.quality]

    @property
    def whole(self) -> int:
        """Bytes in floating point."""
        return int(self.subject.graph.ByteSize())

    def accurate(self) -> Trial:
        """The choice of least error that keeps limits on size and latency."""
        if all(limit.excess(self.floating[name]) <= 0 for name, limit in self.limits.items()):
            texts = " and ".join(limit.text() for limit in self.limits.values())
            raise BadOption(f"the graph in floating point keeps {texts} already; give a smaller budget")
        trial = self.within(self._saving("size"), self._saving("latency")) or self._extreme()
        if trial is None:
            raise self._missed(list(self.limits))
        return trial

    def smallest(self) -> Trial:
        """The smallest choice found that keeps all limits, one on quality among them; bisection over the bytes that are saved."""
        least, latency = self._saving("size"), self._saving("latency")
        most = sum(max(option.saved for option in of_group) for of_group in self.options.values()) - 0.5  # of a byte
        low, aim = max(least or 0.0, 0.0), most
        high = max(most, low)
        best: Trial | None = None
        for _ in range(HALVINGS):
            trial = self.within(aim, latency)
            if trial is not None and all(self._keeps(trial, name) for name in self.quality):
                best = trial if best is None or trial.bytes < best.bytes else best
                low = max(aim, self._predicted(trial))
            else:
                high = aim
            if high - low < FINEST * self.whole or (best is not None and len(self.trials) >= ENOUGH):
                break
            aim = (low + high) / 2
        best = best or self._last_resort(least, latency)
        if best is None:
            raise self._missed(list(self.limits))
        return best

    def _last_resort(self, least: float | None, latency: float | None) -> Trial | None:
        """What saves no more than it has to; a choice that keeps everything but quantizes nothing is none."""
        if least is None and latency is None:
            return None
        trial = self.within(least, latency) or self._extreme()
        return (
            trial
            if trial is not None and trial.choice and all(self._keeps(trial, name) for name in self.quality)
            else None
        )

    def within(self, saved: float | None, faster: float | None) -> Trial | None:
        """The choice of least error that is predicted to save this, and assessed to keep the limits on size and latency.

        It is corrected a few times where it does not; in the end a latency may be over the limit within its interval.
        """
        noisy: Trial | None = None
        for _ in range(ROUNDS):
            found = solve(self.options, saved=saved, faster=faster)
            if found is None:
                break
            trial = self._assessed(found)
            if self._keeps(trial, "size") and self._keeps(trial, "latency"):
                return trial
            if self._keeps(trial, "size") and self._keeps(trial, "latency", noise=True):
                noisy = trial
            over = {name: self._over(trial, name) for name in ("size", "latency")}
            if over["size"] > 0:
                saved = max(saved or 0.0, self._predicted(trial)) + math.ceil(over["size"])
            if over["latency"] > 0:
                faster = (faster or 0.0) + (1 + AHEAD) * over["latency"]
        return noisy

    def _extreme(self) -> Trial | None:
        """What saves most of a limited metric, where it keeps the limits although that was not predicted."""
        for name, key in (("latency", "faster"), ("size", "saved")):
            if name in self.limits:
                best = {g: max(of_group, key=lambda o: float(getattr(o, key))) for g, of_group in self.options.items()}
                trial = self._assessed(best)
                if self._keeps(trial, "size") and self._keeps(trial, "latency", noise=True):
                    return trial
        return None

    def _assessed(self, found: Mapping[str, Option]) -> Trial:
        choice: Choice = {group: option.precision for group, option in found.items() if option.precision != "fp32"}
        for trial in self.trials:
            if trial.choice == choice:
                return trial
        self.report(f"policy {len(self.trials) + 1}", 0, 0)
        readings = self.assess(self.subject.lowered(choice)) if choice else self.floating
        trial = Trial(choice, readings, sum(option.error for option in found.values()))
        self.trials.append(trial)
        return trial

    def _saving(self, name: str) -> float | None:
        """What has to be saved of a metric; None where it is not limited."""
        if name not in self.limits:
            return None
        present = float(self.whole) if name == "size" else self.floating[name].value
        return present - self.limits[name].value

    def _over(self, trial: Trial, name: str) -> float:
        return trial.readings[name].value - self.limits[name].value if name in self.limits else 0.0

    def _keeps(self, trial: Trial, name: str, *, noise: bool = False) -> bool:
        """Whether it keeps the limit on `name`, or with `noise` may keep it, by its 95 % interval."""
        if name not in self.limits:
            return True
        reading, limit = trial.readings[name], self.limits[name]
        if noise and reading.interval is not None:
            return reading.interval[0] <= limit.value
        return limit.excess(reading) <= 0

    def _predicted(self, trial: Trial | None) -> float:
        """The bytes that the choice was predicted to save."""
        chosen = {} if trial is None else trial.choice
        return sum(
            o.saved for g, of_group in self.options.items() for o in of_group if o.precision == chosen.get(g, "fp32")
        )

    def _missed(self, names: Sequence[str]) -> BudgetMissed:
        """Names the trial that comes closest to the limits."""
        texts = " and ".join(self.limits[name].text() for name in names)

        def farthest(trial: Trial) -> float:
            return max(self.limits[name].excess(trial.readings[name]) for name in names)

        best = min(self.trials, key=farthest)
        reached = ", ".join(f"{METRICS[name].title} {best.readings[name].text()}" for name in names)
        what = (
            f"the closest of {len(self.trials)} that were measured"
            if best.choice
            else "floating point, which is closest,"
        )
        return BudgetMissed(f"no policy keeps {texts}; {what} has {reached}. Give a looser budget")


def _options(measured: Sequence[Sensitivity]) -> dict[str, list[Option]]:
    """What each measured group can be kept in, fp32 first."""
    found: dict[str, list[Option]] = {}
    for one in measured:
        options = found.setdefault(one.group, [Option("fp32", 0.0, 0.0)])
        options.append(Option(one.precision, one.error, one.saved, one.faster or 0.0))
    return found


def _reasons(
    subject: Subject, measured: Sequence[Sensitivity], chosen: Trial, keep: Collection[str], limited: Collection[str]
) -> dict[str, str]:
    """Why groups stay in fp32, with respect to the metrics that are limited."""
    found = {}
    for group in subject.groups:
        of_group = [one for one in measured if one.group == group]
        if group in chosen.choice:
            continue
        if group in keep:
            found[group] = KEPT
        elif not of_group:
            found[group] = subject.refusals.get(group, NO_KERNEL)
        elif "latency" in limited and all((one.faster or 0.0) <= 0 for one in of_group):
            found[group] = SLOWER if all((one.faster_high or 0.0) < 0 for one in of_group) else NO_FASTER
        elif "latency" not in limited and all(one.saved <= 0 for one in of_group):
            found[group] = NO_SMALLER
        else:
            found[group] = TOO_SENSITIVE if any(METRICS[name].quality for name in limited) else NOT_NEEDED
    return found

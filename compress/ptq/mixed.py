"""Mixed precision under a budget: a precision for each group, solved from sensitivities and verified on the whole graph.

Limits on size and latency are constraints of a knapsack (`wb.compress.ptq.policy`). If the measured graph exceeds one, the
constraint is tightened by the excess. A limit on accuracy is met by bisection over the size: for each size the choice of least
summed error is measured, and the smallest one that keeps the accuracy is taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import onnx

from wb.compress.ptq.policy import Option, solve
from wb.compress.ptq.sensitivity import Sensitivity
from wb.compress.ptq.subject import Choice, Subject
from wb.core.commands.progress import Progress
from wb.core.errors import BadOption, BudgetMissed
from wb.core.measures.metrics import METRICS, Limit
from wb.core.measures.readings import Reading

LIMITED = " or ".join(("size", "latency", *(name for name, metric in METRICS.items() if metric.quality)))
ROUNDS = 5  # of tightening constraints, for each size
HALVINGS = 8  # of the range of sizes
ENOUGH = 12  # trials after which bisection stops, if one of them keeps the limits
FINEST = 0.005  # of the float size; bisection does not distinguish closer sizes
AHEAD = 0.2  # a constraint on latency is tightened by this share more than the excess, because latency is noisy

TOO_SENSITIVE, SLOWER, NO_FASTER, NO_KERNEL = "too sensitive", "slower", "no faster", "no kernel"
KEPT, NO_SMALLER, NOT_NEEDED = "kept by --keep", "no smaller", "the budget is met without it"

Assess = Callable[[onnx.ModelProto], Mapping[str, Reading]]


@dataclass(frozen=True)
class Trial:
    """A measured choice: the precisions of groups not in fp32, the readings of the graph, and the predicted summed error."""

    choice: Choice
    readings: Mapping[str, Reading]
    error: float

    @property
    def bytes(self) -> int:
        """The size of the file in bytes."""
        return round(self.readings["size"].value)


@dataclass(frozen=True)
class Found:
    """The chosen trial, all trials in order, and for each group in fp32 the reason why."""

    chosen: Trial
    trials: tuple[Trial, ...]
    reasons: Mapping[str, str]

    @property
    def choice(self) -> Choice:
        """The choice of the chosen trial."""
        return self.chosen.choice


def find(
    subject: Subject,
    measured: Sequence[Sensitivity],
    limits: Sequence[Limit],
    floating: Mapping[str, Reading],
    assess: Assess,
    progress: Progress,
    *,
    keep: Collection[str] = (),
) -> Found:
    """Finds a choice whose measured graph keeps all `limits` (on size, latency and quality, absolute).

    `floating` are readings of the float graph. `assess` returns readings of a graph, at least of `size` and the limited
    metrics. Without a limit on quality, the choice has the least summed error; with one, it gives the smallest file found.

    Raises:
        BadOption: there is no limit, a relative one, or one on another metric; or the float graph already keeps all of them.
        BudgetMissed: no choice was found that keeps the limits; the message names the closest one.
    """
    for limit in limits:
        if limit.relative or not (limit.metric.quality or limit.metric.name in ("size", "latency")):
            raise BadOption(f"{limit.text()} is no limit for a policy; limit {LIMITED}, absolutely")
    if not limits:
        raise BadOption(f"no limit to find a policy under; give one on {LIMITED}")
    if not measured:
        raise BadOption("no group can be put into fewer bits; keep fewer, or give another graph")
    search = _Search(
        subject, _options(measured), {limit.metric.name: limit for limit in limits}, floating, assess, progress
    )
    chosen = search.smallest() if search.quality else search.accurate()
    return Found(chosen, tuple(search.trials), _reasons(subject, measured, chosen, keep, search.limits))


@dataclass
class _Search:
    """The search for a choice, with all trials so far."""

    subject: Subject
    options: Mapping[str, Sequence[Option]]
    limits: Mapping[str, Limit]
    floating: Mapping[str, Reading]
    assess: Assess
    progress: Progress
    trials: list[Trial] = field(default_factory=list)

    @property
    def quality(self) -> list[str]:
        """The limited metrics of quality."""
        return [name for name, limit in self.limits.items() if limit.metric.quality]

    @property
    def whole(self) -> int:
        """The size of the float graph in bytes."""
        return int(self.subject.graph.ByteSize())

    def accurate(self) -> Trial:
        """The trial of least error that keeps limits on size and latency."""
        if all(limit.excess(self.floating[name]) <= 0 for name, limit in self.limits.items()):
            texts = " and ".join(limit.text() for limit in self.limits.values())
            raise BadOption(f"the graph in floating point keeps {texts} already; give a smaller budget")
        trial = self.within(self._saving("size"), self._saving("latency")) or self._extreme()
        if trial is None:
            raise self._missed(list(self.limits))
        return trial

    def smallest(self) -> Trial:
        """The smallest trial found that keeps all limits, including those on quality, by bisection over the saved bytes."""
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
        """A trial that saves no more size and latency than it must, if it keeps acc and quantizes anything at all."""
        if least is None and latency is None:
            return None
        trial = self.within(least, latency) or self._extreme()
        return (
            trial
            if trial is not None and trial.choice and all(self._keeps(trial, name) for name in self.quality)
            else None
        )

    def within(self, saved: float | None, faster: float | None) -> Trial | None:
        """The trial of least error that is predicted to save so much and keeps the limits on size and latency.

        If the measured graph exceeds a limit, the constraints are tightened a few times. In the end, a latency may exceed its
        limit by less than its interval.
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
        """The trial that saves most of a limited metric, if it keeps the limits although that was not predicted."""
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
        self.progress(f"policy {len(self.trials) + 1}", 0, 0)
        readings = self.assess(self.subject.lowered(choice)) if choice else self.floating
        trial = Trial(choice, readings, sum(option.error for option in found.values()))
        self.trials.append(trial)
        return trial

    def _saving(self, name: str) -> float | None:
        """How much of a metric has to be saved to keep its limit; None without a limit."""
        if name not in self.limits:
            return None
        present = float(self.whole) if name == "size" else self.floating[name].value
        return present - self.limits[name].value

    def _over(self, trial: Trial, name: str) -> float:
        return trial.readings[name].value - self.limits[name].value if name in self.limits else 0.0

    def _keeps(self, trial: Trial, name: str, *, noise: bool = False) -> bool:
        """Whether the trial keeps the limit on `name`; with `noise`, whether its 95 % interval reaches the limit."""
        if name not in self.limits:
            return True
        reading, limit = trial.readings[name], self.limits[name]
        if noise and reading.interval is not None:
            return reading.interval[0] <= limit.value
        return limit.excess(reading) <= 0

    def _predicted(self, trial: Trial | None) -> float:
        """The predicted number of bytes that the choice saves."""
        chosen = {} if trial is None else trial.choice
        return sum(
            o.saved for g, of_group in self.options.items() for o in of_group if o.precision == chosen.get(g, "fp32")
        )

    def _missed(self, names: Sequence[str]) -> BudgetMissed:
        """The error for limits that no trial keeps; its message names the closest trial."""
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
    """Group -> its options, fp32 first."""
    found: dict[str, list[Option]] = {}
    for one in measured:
        options = found.setdefault(one.group, [Option("fp32", 0.0, 0.0)])
        options.append(Option(one.precision, one.error, one.saved, one.faster or 0.0))
    return found


def _reasons(
    subject: Subject, measured: Sequence[Sensitivity], chosen: Trial, keep: Collection[str], limited: Collection[str]
) -> dict[str, str]:
    """Group -> why it stays in fp32, with respect to the limited metrics."""
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

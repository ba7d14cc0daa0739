"""What fits into a given time: the shares of the stages, from the seconds that their parts take on this machine."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from wb.core.errors import BadOption
from wb.core.measures.metrics import Limit
from wb.core.records import Frozen
from wb.core.system.durations import duration
from wb.search.beginning.config import SearchConfig
from wb.search.fidelity.rungs import AUTO, FIRST, LAST, WORTH, Rung, parse_rungs, rungs_text
from wb.search.planning.seconds import Costs, Size, as_long, beside_itself, speed_of

# Of the time: the supernet, evaluations, trainings alone at the rungs, finalists.
# A network is worth most of what it is trained alone, and what the supernet says of it is little more than what its work says.
SUPERNET, SEARCH, RUNGS, FINALISTS = 0.07, 0.08, 0.05, 0.80
# Epochs, but no more steps, that a finalist should get before there are more finalists, and that the largest should get, which
# teaches the others. On photographs residual blocks of 17 MMAC gain 1.5 points by each doubling from 40 to 160 epochs, and small
# networks 2 to 3 by a good teacher (docs/results.md, `photographs animals`): so most of the time is for one.
TUNED, TUNED_STEPS = 45, 2_400
FIRST_TUNED, FIRST_STEPS = 100, 4_000
TUNED_MOST = 300  # epochs, beyond which the small finalists leave the time to the largest
FIRST_MOST = 600  # its own, beyond which time is left
FRONT = 0.6  # of finalists are on the front, about
# Epochs, however many steps these are: of Fashion-MNIST 13 MMAC have 91.9 % after 5, 3 MMAC 91.6 % after 10 (one seed).
TUNED_LEAST = 5
# Of the time of finalists, what the largest takes: networks that would not get the epochs it should are left out.
DEAREST = 0.6
# Networks that would not even get this share of the epochs that the largest should get are not searched at all. What work
# costs is only guessed here; steps of their own decide once finalists are chosen.
LEAST_FIRST = 0.25
LIGHTEST = 2  # times what the smallest network takes is never too much
# Of large data few epochs fit: then there are only as many finalists as get `FEW` epochs, but at least `FINALISTS_FEW`.
FEW = 10
FINALISTS_FEW, FINALISTS_LEAST, FINALISTS_MOST = 3, 5, 12
# Of the epochs that a finalist should get. With fewer, once those of finalists are timed, the least worth of these is left out.
# On photographs the best networks of three fronts got 44, 33 and 25 epochs, and 78.9, 77.4 and 74.7 % (docs/results.md).
ENOUGH = 0.75
TRIALS_LEAST, TRIALS_MOST = 12, 400
READ = 12  # evaluations that exporting and reading a finalist and its twins takes as long as
LEAST = {"epochs": 1, "finetune": 1}
PART_STEPS = 40  # of the supernet at least, where its share of the time is not enough for an epoch of all images


class TimePlan(Frozen):
    """The plan of a search that was given a time, made once: settings, the seconds predicted for each stage, and the costs.

    `begun` are the seconds that were over when it was made. `least` is the number of trials that are evaluated in any case.
    """

    seconds: float
    begun: float
    epochs: int
    trials: int
    rungs: str
    finalists: int
    finetune: int
    predicted: Mapping[str, float]
    costs: Costs
    least: int = TRIALS_LEAST
    heaviest: int | None = None  # most multiply-accumulates that the time is enough for; None: there is no limit
    tune: float | None = None  # seconds of a training step of a network within that, if it is predicted
    part: float = 1.0  # of the training images that the supernet and the rungs see
    enough: int = 0  # epochs: where finalists would get fewer, there are fewer finalists
    fewest: int = 1  # finalists in any case
    first: int = 0  # epochs that the largest should get, or another may be better in its place
    longest: int | None = None  # epochs of the largest finalist, once that is settled; the others have `finetune`
    dear: tuple[int, ...] = ()  # candidates that would take too much of the time as finalists, once that is settled
    settled: bool = False  # whether the epochs of finalists were given, or follow from these and the time left for them

    @property
    def settings(self) -> dict[str, int | str]:
        """The planned fields of the configuration."""
        return {name: getattr(self, name) for name in ("epochs", "trials", "rungs", "finalists", "finetune")}

    def applied(self, config: SearchConfig) -> SearchConfig:
        """`config` with these settings, and with a budget where the time is not enough for the largest networks."""
        most = () if self.heaviest is None else (f"macs={self.heaviest}",)
        return config.model_copy(update={**self.settings, "budget": (*config.budget, *most)})

    def given(self, limits: Sequence[Limit]) -> list[Limit]:
        """Those of the limits that the user gave: the plan's own is on what is trained, not on what comes of it."""
        return [limit for limit in limits if (limit.metric.name, limit.value) != ("macs", self.heaviest)]

    @property
    def expected(self) -> Costs:
        """The costs of networks within the plan's limit."""
        return self.costs if self.tune is None else self.costs.model_copy(update={"tune": self.tune})

    def text(self) -> str:
        """How the time is used, in a sentence."""
        ones = "finalist" if self.finalists == 1 else "finalists"
        parts = {
            "supernet": f"{epochs_text(self.epochs)} of the supernet{self._seen}",
            "search": f"{self.trials} trials",
            "rungs": f"trainings alone ({self.rungs})",
            "finalists": f"{self.finalists} {ones}, {epochs_text(self.finetune)} {self._each}",
        }
        told = [f"{what} {duration(self.predicted[stage])}" for stage, what in parts.items() if self.predicted[stage]]
        most = (
            "" if self.heaviest is None else f"; networks of at most {self.heaviest / 1e6:.3g} M multiply-accumulates"
        )
        return (
            f"{duration(self.seconds)} planned: {'; '.join(told)}{most} (predicted from timed steps: "
            f"{_milli(self.costs.sandwich)} for one of the supernet, {_milli(self.costs.tune)} for one of a candidate alone, "
            f"{self.costs.evaluation:.2g} s for an evaluation)"
        )

    @property
    def first_epochs(self) -> int:
        """The epochs of the largest finalist."""
        return self.longest or self.finetune

    @property
    def _each(self) -> str:
        if self.finalists == 1:
            return "of it"
        return (
            f"in the mean, the largest {100 * DEAREST:.0f} % of the time" if self.first and not self.settled else "each"
        )

    @property
    def _seen(self) -> str:
        return "" if self.part == 1 else f" on {100 * self.part:.2g} % of the images, as rungs see them"

    def late(self, spent: float, searched: float) -> bool:
        """Whether no further trial may begin: `spent` seconds went before, `searched` into trials, and the rest is needed.

        What the supernet took too long is lost by all later stages in proportion, unless the epochs of finalists are given.
        """
        rest = self.predicted["rungs"] + self.predicted["finalists"]
        left = self.seconds - spent
        share = self.predicted["search"] / (self.predicted["search"] + rest)
        return searched >= (left - rest if self.settled or left >= self.predicted["search"] + rest else left * share)


def supernet_seconds(costs: Costs, size: Size, epochs: int, warm_up: float, done: int = 0) -> float:
    """Seconds of training the supernet, `done` epochs left out; for the share `warm_up` the largest network is alone."""
    if done >= epochs:
        return 0.0
    share = done / epochs
    steps = epochs * size.supernet
    one = max(0.0, warm_up - share) * costs.alone + (1 - max(warm_up, share)) * costs.sandwich
    return steps * one / size.faster


def search_seconds(costs: Costs, size: Size, trials: int) -> float:
    """Seconds of so many evaluations."""
    return trials * max(costs.timing, costs.evaluation / max(1, min(size.workers, trials)))


def rungs_seconds(costs: Costs, size: Size, rungs: Collection[Rung]) -> float:
    """Seconds of training at the rungs; the teacher answers once to each batch."""
    taught = max((rung.epochs for rung in rungs), default=0) * size.ranking * costs.teach
    return taught + sum(
        rung.candidates
        * (rung.epochs * size.ranking * costs.tune / speed_of(size.hands, rung.candidates) + costs.score)
        for rung in rungs
    )


def finalists_seconds(costs: Costs, size: Size, count: int, epochs: int) -> float:
    """Seconds of fine-tuning so many finalists and those beside them, each exported, timed with the others, scored, and its
    blocks timed."""
    taught = epochs * size.whole * costs.teach if count else 0.0
    once_more = again_seconds(costs, size, count, epochs)
    count += size.beside if count else 0
    one = epochs * size.whole * costs.tune
    alone = one + as_long([one] * (count - 1), size.hands) if count else 0.0  # the largest is trained first
    return taught + alone + once_more + count * READ * costs.evaluation


def again_seconds(costs: Costs, size: Size, count: int, epochs: int) -> float:
    """Seconds of training those of so many finalists once more that are on the front, and known networks, if these are."""
    if not (size.again and count):
        return 0.0
    one, count = size.again * epochs * size.whole, math.ceil(FRONT * count) + size.beside
    largest = (beside_itself(size.again, size.hands) - 1) * epochs * size.whole * costs.tune
    return one * costs.teach + largest + as_long([one * costs.tune] * (count - 1), size.hands)


def allot(config: SearchConfig, seconds: float, spent: float, costs: Costs, size: Size, warm_up: float) -> TimePlan:
    """The plan of a search that ends about `seconds` after it began, `spent` of which are over.

    Settings of `config` that were given stay; each of the others gets its share of what those leave.

    Raises:
        BadOption: the time is too short for anything; the message names the least.
    """
    given = config.model_fields_set
    heaviest, expected = _affordable(config, seconds - spent, costs, size)
    part = _part(config, seconds - spent, costs, size, warm_up)
    size = size.of(part)
    least = _least(config, expected, size, warm_up) + spent
    if least > seconds:
        raise BadOption(
            f"--time {config.time} is too short: the smallest search of this space on these data takes about "
            f"{duration(1.05 * least)} here; give more time, fewer examples (--limit), or a smaller preset"
        )
    left = seconds - spent
    per_epoch = supernet_seconds(costs, size, 1, warm_up)
    epochs = config.epochs if "epochs" in given else max(LEAST["epochs"], int(left * SUPERNET / per_epoch))
    left -= epochs * per_epoch
    share = left * SEARCH / (SEARCH + RUNGS + FINALISTS) / search_seconds(costs, size, 1)
    trials = config.trials if "trials" in given else _within(int(share), TRIALS_LEAST, TRIALS_MOST)
    left -= search_seconds(costs, size, trials)
    finalists, finetune, rungs = _trained(config, left, trials, expected, size)
    return TimePlan(
        seconds=seconds,
        begun=spent,
        epochs=epochs,
        trials=trials,
        rungs=rungs_text(rungs),
        finalists=finalists,
        finetune=finetune,
        predicted={
            "supernet": epochs * per_epoch,
            "search": search_seconds(costs, size, trials),
            "rungs": rungs_seconds(expected, size, rungs),
            "finalists": finalists_seconds(expected, size, finalists, finetune),
        },
        costs=costs,
        heaviest=heaviest,
        part=part,
        tune=expected.tune if expected != costs else None,
        least=min(trials, max(TRIALS_LEAST, LAST * finalists)),
        enough=math.ceil(ENOUGH * _usual(config, size)),
        first=_first(config, size),
        fewest=finalists if config.finalists else min(finalists, FINALISTS_FEW),
        settled="finetune" in given,
    )


def _part(config: SearchConfig, seconds: float, costs: Costs, size: Size, warm_up: float) -> float:
    """The share of the images that an epoch of the supernet may see in its share of the time."""
    if "epochs" in config.model_fields_set:
        return 1.0
    enough = SUPERNET * seconds / supernet_seconds(costs, size, 1, warm_up)
    return min(1.0, max(enough, PART_STEPS / size.supernet))


def _affordable(config: SearchConfig, seconds: float, costs: Costs, size: Size) -> tuple[int | None, Costs]:
    """The multiply-accumulates of the largest networks that can be finalists, and the costs of networks up to these.

    Where the user says what networks may or must have, or names some to begin with, there is no such limit.
    """
    own = [limit.value for limit in config.limits if limit.metric.name == "macs"]
    if own:
        return None, costs.up_to(min(own))
    if config.seeds or any(one.metric.name == "macs" for one in config.requirements):
        return None, costs
    least, times = max(TUNED_LEAST, LEAST_FIRST * _first(config, size)), beside_itself(size.again, size.hands)
    step = max(LIGHTEST * costs.light, DEAREST * FINALISTS * seconds / (times * size.whole * least))
    heaviest = costs.reached(step)
    return heaviest, costs if heaviest is None else costs.up_to(heaviest)


def _usual(config: SearchConfig, size: Size) -> int:
    """The epochs that a finalist should get."""
    if "finetune" in config.model_fields_set:
        return max(1, config.finetune)
    return _within(TUNED_STEPS // max(1, size.whole), TUNED_LEAST, TUNED)


def _first(config: SearchConfig, size: Size) -> int:
    """The epochs that the largest finalist should get."""
    if "finetune" in config.model_fields_set:
        return max(1, config.finetune)
    return _within(FIRST_STEPS // max(1, size.whole), TUNED_LEAST, FIRST_TUNED)


def _trained(
    config: SearchConfig, left: float, trials: int, costs: Costs, size: Size
) -> tuple[int, int, tuple[Rung, ...]]:
    """Finalists, their epochs, and rungs, which share the seconds that are left."""
    given = config.model_fields_set
    fixed = () if config.rungs == AUTO else parse_rungs(config.rungs)
    share = rungs_seconds(costs, size, fixed) if config.rungs != AUTO else left * RUNGS / (RUNGS + FINALISTS)
    whole = max(0.0, left - share)
    usual = config.finetune if "finetune" in given else max(FEW, _usual(config, size))
    finalists = config.finalists or _count(whole, usual, trials, costs, size)
    rungs = fixed if config.rungs != AUTO else _rungs(share, trials, finalists, costs, size)
    whole = left - rungs_seconds(costs, size, rungs)
    finetune = config.finetune
    if "finetune" not in given:
        once, twice = (finalists_seconds(costs, size, finalists, epochs) for epochs in (0, 1))
        finetune = max(LEAST["finetune"], int((whole - once) / (twice - once)))
    worth = rungs if config.rungs != AUTO else tuple(rung for rung in rungs if WORTH * rung.epochs <= finetune)
    return finalists, finetune, worth


def _count(seconds: float, usual: int, trials: int, costs: Costs, size: Size) -> int:
    """The finalists that so many seconds are enough for, with their `usual` epochs; where that are few, with fewer epochs."""

    def enough(epochs: int) -> int:
        counts = range(2, FINALISTS_MOST + 1)
        return max((n for n in counts if finalists_seconds(costs, size, n, epochs) <= seconds), default=1)

    least = _within(enough(min(usual, FEW)), FINALISTS_FEW, FINALISTS_LEAST)
    return _within(enough(usual), min(least, trials), min(FINALISTS_MOST, trials))


def _rungs(seconds: float, trials: int, finalists: int, costs: Costs, size: Size) -> tuple[Rung, ...]:
    """The rungs that so many seconds are enough for: as many candidates for one epoch as the time allows, a third for three."""
    one, three = (
        epochs * size.ranking * costs.tune / speed_of(size.hands, size.hands) + costs.score for epochs in (1, 3)
    )
    seconds -= 3 * size.ranking * costs.teach
    first = max(0, min(trials, 3 * FIRST * finalists, int(seconds / (one + three / 3))))
    last = first // 3
    if last > finalists:
        return Rung(first, 1), Rung(last, 3)
    first = min(trials, int(seconds / one))
    return (Rung(first, 1),) if first > finalists else ()


def _least(config: SearchConfig, costs: Costs, size: Size, warm_up: float) -> float:
    """Seconds of the smallest search that makes sense, with the settings that were given."""
    given = config.model_fields_set
    epochs, finetune = (getattr(config, name) if name in given else least for name, least in LEAST.items())
    trials = config.trials if "trials" in given else TRIALS_LEAST
    rungs = () if config.rungs == AUTO else parse_rungs(config.rungs)
    return (
        supernet_seconds(costs, size, epochs, warm_up)
        + search_seconds(costs, size, trials)
        + rungs_seconds(costs, size, rungs)
        + finalists_seconds(costs, size, min(trials, config.finalists or FINALISTS_FEW), finetune)
    )


def _within(value: int, least: int, most: int) -> int:
    return max(least, min(most, value))


def epochs_text(count: int) -> str:
    """So many epochs, in words."""
    return f"{count} epoch{'' if count == 1 else 's'}"


def _milli(seconds: float) -> str:
    return f"{1000 * seconds:.3g} ms"

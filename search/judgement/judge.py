"""The judgement of a search by its requirements, from the study and the networks that are left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from optuna.trial import FrozenTrial

from wb.core.measures.metrics import Limit
from wb.core.measures.readings import Reading
from wb.core.measures.requirements import Asked, Requirement, meets, violations_of
from wb.core.space import Genes
from wb.predictors.features import Encoder
from wb.search.ending.front import within
from wb.search.judgement.choice import nearest
from wb.search.judgement.record import Judgement, Relaxation, Verdict
from wb.search.judgement.relax import FEWEST, attainable, reachable, relaxation
from wb.search.sampler.generator import Ancestry, Generator
from wb.search.sampler.inquisitor import Archive
from wb.search.study.trials import choices_of, readings_of

LEANING = 1.5  # times as probable as among all options alike, from which on a gene counts as preferred
TOLD = 12  # genes whose preferences are kept, at most

Known = Mapping[int, Mapping[str, Reading]]


@dataclass(frozen=True)
class Evidence:
    """What a finished search knows: the evaluated `trials`, and the last readings of the networks that are `left`.

    `trained` has the quality of the candidates that were trained alone, and `forecast` what they probably reach in full.
    """

    trials: Sequence[FrozenTrial]
    left: Known
    trained: Mapping[int, Reading] = field(default_factory=dict)
    forecast: Mapping[int, Reading] = field(default_factory=dict)

    def last(self, qualities: Sequence[str]) -> dict[int, Mapping[str, Reading]]:
        """The last readings that there are of every evaluated network, and of twins that are left."""
        return {**self.left, **self._with(self.trials, self.trained, qualities)}

    def fair(self, qualities: Sequence[str]) -> dict[int, Mapping[str, Reading]]:
        """Readings that compare: of what was trained alone the forecast, if that is enough; else all as inherited."""
        climbed = [trial for trial in self.trials if trial.number in self.forecast]
        if len(climbed) < FEWEST:
            return {trial.number: readings_of(trial) for trial in self.trials}
        return self._with(climbed, self.forecast, qualities)

    def _with(
        self, trials: Sequence[FrozenTrial], better: Mapping[int, Reading], qualities: Sequence[str]
    ) -> dict[int, Mapping[str, Reading]]:
        found: dict[int, Mapping[str, Reading]] = {}
        for trial in trials:
            number = trial.number
            own = dict.fromkeys(qualities, better[number]) if number in better else {}
            found[number] = self.left[number] if number in self.left else readings_of(trial) | own
        return found


def judge(
    asked: Asked, limits: Sequence[Limit], space: Genes, evidence: Evidence, stored: object, seed: int
) -> Judgement:
    """The judgement. `stored` is the generator that the study keeps, if it has one.

    The last reading that there is of a network counts. No relaxation may break the budgets `limits`.
    """
    requirements, trials, left = asked.requirements, evidence.trials, evidence.left
    archive = evidence.last([one.metric.name for one in requirements if one.metric.quality])
    searched = sum(meets(requirements, readings_of(trial)) for trial in trials)
    verdicts = {
        number: {one.text(): _verdict(one, left[number]) for one in requirements}
        for number in nearest(left, requirements)
    }
    meeting = tuple(number for number in verdicts if meets(requirements, left[number]))
    encoder = Encoder(space)
    uniform = Generator.uniform(encoder, Ancestry.of(encoder))
    return Judgement(
        requirements=tuple(one.text() for one in requirements),
        verdicts=verdicts,
        meeting=meeting,
        evaluated=len(trials),
        reached=searched,
        binding=binding(requirements, archive),
        relaxations={} if meeting else _relaxations(asked, limits, uniform, evidence, archive, seed),
        attainable=None if meeting else attainable(requirements, within(archive, limits)),
        preferences=_preferences(uniform, stored),
    )


def binding(requirements: Sequence[Requirement], readings: Known) -> dict[str, int]:
    """Requirement -> how many networks miss it more than any other."""
    found = {one.text(): 0 for one in requirements}
    for each in readings.values():
        missed = violations_of(requirements, each)
        if max(missed) > 0:
            found[requirements[missed.index(max(missed))].text()] += 1
    return found


def _verdict(one: Requirement, readings: Mapping[str, Reading]) -> Verdict:
    reading = readings[one.metric.name]
    return Verdict(reading=reading, state=one.state(reading), text=one.verdict(reading))


def _relaxations(
    asked: Asked, limits: Sequence[Limit], uniform: Generator, evidence: Evidence, readings: Known, seed: int
) -> dict[str, Relaxation]:
    encoder = uniform.encoder
    everything, allowed = asked.within(limits), within(readings, limits)
    fair = evidence.fair([one.metric.name for one in everything.requirements if one.metric.quality])
    rows = encoder.indices([choices_of(encoder.space, trial) for trial in evidence.trials if trial.number in fair])
    values = [{name: reading.value for name, reading in found.items()} for found in fair.values()]
    archive = Archive.of(list(rows), values, everything)
    found = {}
    for one in asked.requirements:
        others = [other for other in asked.requirements if other != one]
        bound = reachable(one, everything, encoder, archive, uniform, seed)
        found[one.text()] = relaxation(one, others, allowed, bound)
    return found


def _preferences(uniform: Generator, stored: object) -> dict[str, dict[str, float]]:
    """The options that the stored generator favours, of the genes in which it is surest."""
    try:
        drawn = uniform.load(stored["tables"]).preferences()  # type: ignore[index]  # or TypeError
    except (TypeError, KeyError, ValueError, AttributeError):  # another sampler, or a damaged study
        return {}
    liked = {
        name: {str(option): share for option, share in shares.items() if share * len(shares) >= LEANING}
        for name, shares in drawn.items()
    }
    lean = {name: max(shares.values()) * len(drawn[name]) for name, shares in liked.items() if shares}
    surest = sorted(lean, key=lambda name: -lean[name])[:TOLD]
    return {name: liked[name] for name in drawn if name in surest}
